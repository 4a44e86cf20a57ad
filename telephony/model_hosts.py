"""The hosts that a configuration may name instead of OpenAI's own, and how to sign in there."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.conf import settings

_AZURE = ".openai.azure.com"


def host_problem(base_url: str) -> str:
    """Return why the host of a URL may not be used, and what to do; "" if it may."""
    host = urlsplit(base_url).hostname or ""
    if any(_matches(host, allowed) for allowed in settings.OPENAI_HOSTS):
        return ""
    *others, last = (
        f"{'*' if each.startswith('.') else ''}{each}" for each in settings.OPENAI_HOSTS
    )
    return f"Use a host such as {', '.join(others)}{' or ' if others else ''}{last}."


def credentials(base_url: str, key: str) -> dict[str, str]:
    """Return the header that signs in: Azure has one of its own for keys."""
    host = urlsplit(base_url).hostname or ""
    return {"api-key": key} if _matches(host, _AZURE) else {"Authorization": f"Bearer {key}"}


def _matches(host: str, allowed: str) -> bool:
    """Return True for the host itself or, if it begins with a dot, for its subdomains."""
    return host.endswith(allowed) if allowed.startswith(".") else host == allowed
