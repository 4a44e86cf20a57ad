"""Log lines: JSON on a server, readable ones during development; one set-up for every process.

Nothing here is meant to hold a credential. What has the shape or the name of one is masked all the
same, and tracebacks come without local variables: locals are where credentials would be.
"""

from __future__ import annotations

import logging.config
import re
from collections.abc import Mapping
from typing import Any

import structlog

MASK = "[redacted]"

# Each pattern's first group, if it has one, is what may stay.
_CREDENTIALS = re.compile(
    r"""
    (\b(?:Bearer|Basic)\s+)[^\s"',]+        # an Authorization header
    | (\brtk_)\w{20,}                       # our API keys
    | (\bsk-)[\w-]{16,}                     # OpenAI's keys
    | (\b[sr]k_(?:live|test)_)\w{10,}       # Stripe's keys
    | (\bwhsec_)[\w+/=-]{16,}               # secrets that sign webhooks
    | \beyJ[\w-]+\.[\w-]+\.[\w-]+           # JSON web tokens
    | \b[0-9a-f]{32}\b                      # Twilio's auth tokens
    | (:[0-9A-Za-z]{6}:)[\w-]{43}(?![\w-])  # the signature in a link of ours
    """,
    re.VERBOSE,
)
_SECRET_NAMES = re.compile(
    r"authorization|cookie|password|secret|api_?key|auth_?token|access_?token|^token$|^key$",
    re.IGNORECASE,
)


def configure_logging(*, json: bool) -> None:
    """Send structlog and the standard library's loggers down one road, to standard error."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    formatter = {
        "()": structlog.stdlib.ProcessorFormatter,
        "foreign_pre_chain": shared,
        "processors": [
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            redact,
            structlog.processors.JSONRenderer(default=str)
            if json
            else structlog.dev.ConsoleRenderer(colors=False),
        ],
    }
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"default": formatter},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "default"}},
            "root": {"handlers": ["stderr"], "level": "INFO"},
            "loggers": {
                # Their lines for each request quote addresses, which may hold a token.
                "aiohttp.access": {"level": "WARNING"},
                "django.server": {"level": "WARNING"},
                # Whoever scans the internet is answered 400, and is no error of ours.
                "django.security.DisallowedHost": {"level": "CRITICAL"},
                "stripe": {"level": "WARNING"},
                "twilio": {"level": "WARNING"},
                "picows": {"level": "WARNING"},
                "procrastinate": {"level": "WARNING"},
            },
        }
    )
    logging.captureWarnings(True)


def redact(_logger: Any, _method: str, event: Mapping[str, Any]) -> dict[str, Any]:
    """Mask what has the name or the shape of a credential: the second line of defence."""
    return {name: _masked(name, value) for name, value in event.items()}


def _masked(name: str, value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if _SECRET_NAMES.search(name):
        return MASK
    if isinstance(value, Mapping):
        return {str(key): _masked(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set):
        return [_masked("", inner) for inner in value]
    return _CREDENTIALS.sub(_mask, str(value))


def _mask(found: re.Match[str]) -> str:
    return (found[found.lastindex] if found.lastindex else "") + MASK
