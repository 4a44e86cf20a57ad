"""Logging for every process: JSON in production, readable lines in development.

Each line of JSON names the process and its version. Lines about a request or a call also have what
``log_scope`` and ``bind_contextvars`` have bound.

No log line should hold a credential. Anything with the shape or the name of one is masked anyway,
and tracebacks have no local variables, which may hold credentials.
"""

from __future__ import annotations

import logging.config
import re
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog
from structlog.contextvars import bind_contextvars, clear_contextvars, get_contextvars

from core.paths import hidden_parts, shown_path
from core.version import VERSION

MASK = "[redacted]"
# Shorter parts may be words of a traceback.
_SHORTEST_TOKEN = 8

# The first group of a pattern, if any, is kept.
_CREDENTIALS = re.compile(
    r"""
    (\b(?:Bearer|Basic)\s+)[^\s"',]+        # an Authorization header
    | (\brtk_)\w{20,}                       # our API keys
    | (\bsk-)[\w-]{16,}                     # OpenAI's keys
    | (\b[sr]k_(?:live|test)_)\w{10,}       # Stripe's keys
    | (\bwhsec_)[\w+/=-]{16,}               # secrets that sign webhooks
    | \beyJ[\w-]+\.[\w-]+\.[\w-]+           # JSON web tokens
    | \b[0-9a-f]{32}\b                      # Twilio's auth tokens
    | \bgAAAA[\w-]{20,}={0,2}               # sealed values
    | \b(?:argon2|pbkdf2_\w+|md5)\$[^\s)"']+ # password hashes, in PostgreSQL's errors

    # Our links, by their paths, with anything after them; and their tokens.
    | (
        (?:/|%2F)(?:
            password(?:/|%2F)reset
            | email(?:/|%2F)confirm
            | voice(?:/|%2F)(?:answer|status|stream|after)
        )(?:/|%2F)
      )[^\s"'?#&]+
    | ((?::|\.|%3A)[0-9A-Za-z]{6}(?::|\.|%3A))[\w-]{40,}  # signed with a time
    | \b[0-9a-z]{5,9}-[0-9a-f]{32}           # sets a new password
    | (\bc[0-9a-z]{24}\.)[\w-]{40,}={0,2}   # admits a call at the media socket
    | (\bconversation_key["']?[=:]\s?["']?)[\w%-]{20,}={0,2}  # opens a call's conversation
    | (\b(?:sessionid|csrf(?:middleware)?token)["']?[=:]\s?)[^\s;,&]+

    # Stripe's pages, which anybody with the URL can open.
    | (https://(?:checkout|billing|invoice|pay)\.stripe\.com/)[^\s"']+
    | (\b(?:cs_live|cs_test|bps)_)\w{10,}

    | (https://hooks\.slack\.com/)[^\s"']+   # posts to a customer's channel
    """,
    re.VERBOSE,
)
_CREDENTIAL_NAMES = re.compile(
    r"authorization|cookie|password|secret|api_?key|auth_?token|access_?token|^token$|^key$",
    re.IGNORECASE,
)
# What only our own names mean.
_OWN_SECRET_NAMES = re.compile("ticket|signature", re.IGNORECASE)

_process = "command"


def name_process(name: str) -> None:
    """Set what each line of this process has as ``process``: ``web``, ``engine`` or ``worker``."""
    global _process
    _process = name


def process_name() -> str:
    return _process


@contextmanager
def log_scope(**values: Any) -> Iterator[None]:
    """Add values to the log lines of this block; what the block binds besides ends with it."""
    before = get_contextvars()
    bind_contextvars(**values)
    try:
        yield
    finally:
        clear_contextvars()
        bind_contextvars(**before)


_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure_logging(*, json: bool) -> None:
    """Send the logs of structlog and the standard library to standard error, in one format."""
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"default": {"()": lambda: formatter(json=json)}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "default"}},
            "root": {"handlers": ["stderr"], "level": "INFO"},
            "loggers": {
                # Their lines for each request have URLs, which may hold a token.
                "aiohttp.access": {"level": "WARNING"},
                "django.server": {"level": "WARNING"},
                # Internet scanners get 400, and are not errors of ours.
                "django.security.DisallowedHost": {"level": "CRITICAL"},
                "stripe": {"level": "WARNING"},
                "twilio": {"level": "WARNING"},
                "picows": {"level": "WARNING"},
                "procrastinate": {"level": "WARNING"},
            },
        }
    )
    logging.captureWarnings(True)


def formatter(*, json: bool) -> structlog.stdlib.ProcessorFormatter:
    """Return the formatter of every log line."""
    as_text: list[Any] = [structlog.dev.ConsoleRenderer(colors=False)]
    as_json: list[Any] = [_name_source, structlog.processors.JSONRenderer(default=str)]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_SHARED,
        processors=[
            structlog.processors.format_exc_info,
            hide_path,
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            redact,
            *(as_json if json else as_text),
        ],
    )


def _name_source(_logger: Any, _method: str, event: Mapping[str, Any]) -> dict[str, Any]:
    """Add which process wrote the line, in which version."""
    return {**event, "process": _process, "version": VERSION}


def hide_path(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Any:
    """Remove tokens in a request's path from Django's log lines.

    A link's token is still valid if the link leads to an error.
    """
    request = getattr(event.get("_record"), "request", None)
    path = getattr(request, "path", "")
    if not path:
        return event
    for name, text in event.items():
        if isinstance(text, str):
            event[name] = _without_parts_of(path, text)
    return event


def _without_parts_of(path: str, text: str) -> str:
    text = text.replace(path, shown_path(path))
    for part in sorted(hidden_parts(path), key=len, reverse=True):
        if len(part) >= _SHORTEST_TOKEN:
            text = text.replace(part, MASK)
    return text


def redact(_logger: Any, _method: str, event: Mapping[str, Any]) -> dict[str, Any]:
    """Mask values with the name or the shape of a credential: the second line of defense."""
    return {name: _masked(name, value) for name, value in event.items()}


def _masked(name: str, value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if names_credential(name) or _OWN_SECRET_NAMES.search(name):
        return MASK
    if isinstance(value, Mapping):
        return {str(key): _masked(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set):
        return [_masked("", inner) for inner in value]
    return without_credentials(str(value))


def names_credential(name: str) -> bool:
    """Return True if a field with this name holds a credential, whoever named it."""
    return _CREDENTIAL_NAMES.search(name) is not None


def without_credentials(text: str, *, mask: str = MASK) -> str:
    """Return the text with ``mask`` in place of everything that has the shape of a credential."""

    def masked(found: re.Match[str]) -> str:
        return (found[found.lastindex] if found.lastindex else "") + mask

    return _CREDENTIALS.sub(masked, text)
