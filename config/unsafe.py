"""Checks for unsafe values of settings.

Each function returns the rest of a sentence that begins with the variable's name, or "" if the
value is safe. No message repeats a value that is or may contain a secret.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from email.utils import parseaddr
from ipaddress import ip_address
from itertools import pairwise
from urllib.parse import SplitResult, urlsplit

import environ
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from phonenumbers import SUPPORTED_REGIONS

_LEAST_LENGTH = 50
# A key of 50 random hexadecimal digits has fewer than ten different ones once in 10,000 keys.
_LEAST_DIFFERENT = 10
# Letters and digits alone are compared: they stand in examples, tutorials and generated projects.
_WELL_KNOWN = (
    "changeme",
    "changethis",
    "default",
    "djangoinsecure",
    "example",
    "insecure",
    "notsecure",
    "password",
    "placeholder",
    "qwerty",
    "replaceme",
    "replacethis",
    "secretkey",
    "supersecret",
    "switchhook",
    "topsecret",
    "yoursecret",
)
NEW_KEY = (
    "Set it to 50 random characters or more: "
    "python -c 'import secrets; print(secrets.token_urlsafe(50))' makes them."
)

# Below these, names are given to everybody: .co.uk is no narrower than .com.
_SHARED = {"ac", "co", "com", "edu", "gov", "net", "org"}
_HOST = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*\.?", re.I)
_IPV6 = re.compile(r"\[[0-9a-f:.]+\]", re.I)

_WEBHOOK_SECRET = re.compile(r"whsec_([A-Za-z0-9+/_-]{24,}={0,2})")
_MAIL_SCHEMES = ("smtp", "smtps", "smtp+tls", "smtp+ssl")
# For development: these show emails, keep them or forget them.
_LOCAL_MAIL_SCHEMES = ("consolemail", "filemail", "memorymail", "dummymail")
_DATABASE = "postgresql://user:password@host:5432/name"
_ENCODED = "Special characters in its password must be percent-encoded, such as %2F for a slash."


def weak_key(key: str) -> str:
    """Check a ``SECRET_KEY``: sessions, tokens and all sealed values depend on it."""
    if len(key) < _LEAST_LENGTH:
        fault = f"has {len(key)} characters"
    elif len(set(key)) < _LEAST_DIFFERENT:
        fault = f"has {len(set(key))} different characters"
    elif _is_repeated(key):
        fault = "is one text, repeated"
    elif _is_row(key):
        fault = "follows the alphabet or the digits"
    elif known := _well_known(key):
        fault = f"contains {known!r}, which attackers try first"
    else:
        return ""
    return f"can be guessed: it {fault}. {NEW_KEY}"


def weak_webhook_secret(secret: str) -> str:
    """Check a secret that signs Stripe's events: whoever guesses it can forge them."""
    found = _WEBHOOK_SECRET.fullmatch(secret)
    if found and len(set(found[1])) >= _LEAST_DIFFERENT and not _is_repeated(found[1]):
        return ""
    return "must be signing secrets from Stripe, whsec_… (another value is set)."


def wide_host(host: str) -> str:
    """Check an entry of ``ALLOWED_HOSTS``: links in emails may use the requested host."""
    name = host.removeprefix(".")
    if "*" in host:
        fault = "names every host"
    elif not (_HOST.fullmatch(name) or _IPV6.fullmatch(host)):
        fault = "is no host name"
    elif host != name and _is_shared(name):
        fault = "includes other people's hosts"
    else:
        return ""
    return f"must list host names of your own: {host!r} {fault}."


def bad_model_host(host: str) -> str:
    """Check an entry of ``OPENAI_HOSTS``: customers' keys are sent there."""
    name = host.removeprefix(".")
    is_host = _HOST.fullmatch(name) and "." in name
    return "" if is_host else f"must list host names, such as .openai.azure.com (one is {host!r})."


def bad_address(address: str, schemes: Sequence[str], *, takes_path: bool = True) -> str:
    """Check a URL that is used or published: encrypted unless a plain scheme is allowed."""
    if not address:
        return f"is not set. Set it to an address like {schemes[-1]}://switchhook.example."
    parts = _split(address)
    if parts is None or parts.scheme not in schemes or not parts.hostname:
        fault = f"must be an address that begins with {schemes[-1]}:// and a host"
    elif parts.username is not None or parts.password is not None:
        # Not repeated: it would go into the log.
        return "must not contain a user name or a password."
    elif "?" in address or "#" in address:
        fault = "must have nothing after ? or #"
    elif parts.path and not takes_path:
        fault = "must end with the host, or its port"
    else:
        return ""
    return f"{fault} (it is {_without_credentials(address)!r})."


def bad_link(url: str) -> str:
    """Check the URL of a page on another site, which may have a query and a fragment."""
    parts = _split(url)
    if parts is None or parts.scheme != "https" or not parts.hostname:
        return f"must begin with https:// and a host (it is {_without_credentials(url)!r})."
    if parts.username is not None or parts.password is not None:
        return "must not contain a user name or a password."
    return ""


def bad_dsn(dsn: str, *, allows_http: bool) -> str:
    """Check a Sentry DSN, which contains a key."""
    parts = _split(dsn)
    schemes = ("https", "http") if allows_http else ("https",)
    is_fine = (
        parts is not None
        and parts.scheme in schemes
        and parts.username
        and parts.hostname
        and re.fullmatch(r"(/[\w-]+)*/\d+", parts.path)
    )
    return (
        "" if is_fine else "must be a Sentry DSN, like https://key@host/1 (another value is set)."
    )


def bad_webhook(url: str, *, allows_http: bool = False) -> str:
    """Check a URL to post messages to. It is a secret, so it is not repeated."""
    if allows_http:
        url = url.replace("http://", "https://", 1)
    return "must begin with https:// and a host (another value is set)." if bad_link(url) else ""


def bad_email(address: str) -> str:
    try:
        validate_email(address)
    except ValidationError:
        return f"must be an email address, like support@switchhook.example (it is {address!r})."
    return ""


def bad_host(host: str, *, only_loopback: bool) -> str:
    """Check an address of this machine to listen at."""
    try:
        address = ip_address(host)
    except ValueError:
        return f"must be an IP address of this machine (it is {host!r})."
    if only_loopback and not address.is_loopback:
        return "must be 127.0.0.1 or ::1 with DEBUG=1: development is for this machine alone."
    return ""


def bad_sender(address: str) -> str:
    """Check an ``EMAIL_FROM``: an email address, or a name and one in angle brackets."""
    if bad_email(parseaddr(address)[1]) or re.search(r"[\r\n]", address):
        return (
            "must be an email address, with or without a name, like "
            f"Switchhook <no-reply@switchhook.example> (it is {address!r})."
        )
    return ""


def bad_country(code: str) -> str:
    """Check an entry of ``ALLOWED_COUNTRIES``."""
    if code in SUPPORTED_REGIONS:
        return ""
    return f"must list two-letter country codes, like US,CA ({code!r} is not one)."


def bad_database(url: str) -> str:
    """Check a database's URL, which may name a folder with a socket, or several hosts."""
    if not url.startswith(("postgres://", "postgresql://")):
        return f"must be the address of a PostgreSQL database, like {_DATABASE}."
    try:
        database = environ.Env.db_url_config(url)
    except ValueError:
        return f"cannot be parsed. It must look like {_DATABASE}. {_ENCODED}"
    if not (database["NAME"] or "service" in database.get("OPTIONS", {})):
        return f"must end with the name of the database, like {_DATABASE}."
    return ""


def leaky_mail_server(address: str, *, allows_local: bool = False) -> str:
    """Check an ``EMAIL_URL``: emails have links that reset passwords. "" sends no emails."""
    parts = _split(address)
    if not address or (allows_local and parts and parts.scheme in _LOCAL_MAIL_SCHEMES):
        return ""
    if parts is None or parts.scheme not in _MAIL_SCHEMES or not parts.hostname:
        return (
            "must be a mail server's address, like smtp+tls://user:password@host:587. " + _ENCODED
        )
    if parts.scheme == "smtp" and parts.password:
        return "would send its password unencrypted. Use smtp+tls:// or smtp+ssl://."
    return ""


def _is_repeated(text: str) -> bool:
    """Return True if the text repeats a part that is at most half as long."""
    return any(text[period:] == text[:-period] for period in range(1, len(text) // 2 + 1))


def _is_row(text: str) -> bool:
    """Return True if most characters follow or precede the one before in Unicode."""
    steps = [abs(ord(following) - ord(one)) for one, following in pairwise(text)]
    return sum(step == 1 for step in steps) > len(steps) / 2


def _well_known(text: str) -> str:
    plain = re.sub(r"[^a-z0-9]", "", text.lower())
    return next((word for word in _WELL_KNOWN if word in plain), "")


def _is_shared(name: str) -> bool:
    labels = name.lower().rstrip(".").split(".")
    return len(labels) < 2 or (len(labels) == 2 and labels[0] in _SHARED and len(labels[1]) == 2)


def _split(address: str) -> SplitResult | None:
    """Return the URL's parts, or None if it is invalid: a bad port, a space, a line break."""
    if re.search(r"[\s\x00-\x1f\\]", address):
        return None
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _without_credentials(address: str) -> str:
    return re.sub(r"//[^/]*@", "//…@", address)
