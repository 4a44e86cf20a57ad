"""Reports errors to Sentry, if ``SENTRY_DSN`` is set.

What is reported is what is logged as an error. A report is made here, from a list of what may be in
it: the name of the log line, where the error happened, and ids. It has no message of an exception,
no argument and no local variable: each may quote a caller, a customer or a credential. The log has
more, and the report has the ids to find it.
"""

from __future__ import annotations

import atexit
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from time import monotonic
from types import TracebackType
from typing import Any

import sentry_sdk
from structlog.contextvars import get_contextvars

from core.logs import process_name, without_credentials
from core.version import VERSION

# Each process reports at most this many in a minute: a fault in every call would flood Sentry.
MOST_A_MINUTE = 60

# What a report says besides the error: identifiers and names of our own.
_TAGS = frozenset(
    {
        "account_id",
        "attempts",
        "call_id",
        "call_sid",
        "delivery_id",
        "endpoint_id",
        "engine_id",
        "error",
        "incident_id",
        "job_id",
        "process",
        "request_id",
        "task",
    }
)
_TAG = re.compile(r"[\w.:-]{1,64}", re.ASCII)
_NAME = re.compile(r"[\w.<>:/-]{1,200}", re.ASCII)
_UNKNOWN = "(unknown)"
_MOST_CAUSES = 5
# What a process that exits waits for its last reports, which tell of a crash.
_LAST_S = 1.0
_MOST_FRAMES = 50


def report_errors(dsn: str) -> None:
    """Report what this process logs as an error from now on. Nothing ever waits for Sentry."""
    sentry_sdk.init(
        dsn,
        release=f"switchhook@{VERSION}",
        before_send=_only_reports,
        # Everything that the SDK would collect by itself is off; _only_reports drops the rest.
        default_integrations=False,
        auto_enabling_integrations=False,
        include_local_variables=False,
        include_source_context=False,
        spotlight=False,
        max_request_body_size="never",
        max_breadcrumbs=0,
        attach_stacktrace=False,
        auto_session_tracking=False,
        send_client_reports=False,
        enable_logs=False,
        before_send_log=lambda log, hint: None,
        before_send_transaction=lambda event, hint: None,
        server_name="",
    )
    atexit.register(sentry_sdk.flush, timeout=_LAST_S)
    logging.getLogger().addHandler(ErrorReports())


class ErrorReports(logging.Handler):
    """Reports each log line of level error or above."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._minute = 0
        self._reported = 0

    def emit(self, record: logging.LogRecord) -> None:
        # Sentry's own errors would lead to more of them.
        if not record.name.startswith("sentry_sdk") and self._may_report():
            try:
                sentry_sdk.capture_event({}, hint={"report": _report(record)})
            except Exception:
                self.handleError(record)

    def _may_report(self) -> bool:
        minute = int(monotonic() // 60)
        if minute != self._minute:
            self._minute, self._reported = minute, 0
        self._reported += 1
        return self._reported <= MOST_A_MINUTE


def _report(record: logging.LogRecord) -> dict[str, Any]:
    """Return the report of a log line: its name or, for one that is not ours, its place."""
    ours = record.msg if isinstance(record.msg, dict) else {}
    exceptions = list(_exceptions(ours.get("exc_info") or record.exc_info))
    name = _name(ours.get("event") or f"{record.name}:{record.funcName}")
    kind = exceptions[-1]["type"] if exceptions else _name(ours.get("error"))
    return {
        "platform": "python",
        "release": f"switchhook@{VERSION}",
        "level": record.levelname.lower(),
        "logger": _name(record.name),
        "message": name,
        "fingerprint": [name, kind],
        "tags": _tags({**get_contextvars(), **ours, "process": process_name()}),
        "exception": {"values": exceptions},
    }


def _only_reports(event: Any, hint: Any) -> Any:
    """Replace what the SDK has collected by the report; drop what was not reported here."""
    report = hint.get("report")
    names = ("event_id", "timestamp")
    return report and {**{name: event[name] for name in names}, **report}


def _tags(values: Mapping[str, Any]) -> dict[str, str]:
    texts = {name: str(value) for name, value in values.items() if name in _TAGS}
    return {name: text for name, text in texts.items() if _is_name(_TAG, text)}


def _name(value: Any) -> str:
    text = str(value or "")
    return text if _is_name(_NAME, text) else _UNKNOWN


def _is_name(pattern: re.Pattern[str], text: str) -> bool:
    return pattern.fullmatch(text) is not None and without_credentials(text) == text


def _error_of(given: Any) -> BaseException | None:
    """Return the exception that a log line was given as ``exc_info``, if any."""
    if given is True:
        given = sys.exc_info()
    if isinstance(given, tuple):
        given = given[1]
    return given if isinstance(given, BaseException) else None


def _exceptions(given: Any) -> Iterator[dict[str, Any]]:
    """Return the error and what caused it, the first cause first, as Sentry expects."""
    chain: list[BaseException] = []
    error = _error_of(given)
    while error is not None and error not in chain and len(chain) < _MOST_CAUSES:
        chain.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    for each in reversed(chain):
        frames = list(_frames(each.__traceback__))[-_MOST_FRAMES:]
        kind = type(each)
        yield {
            "type": _name(kind.__qualname__),
            "module": _name(kind.__module__),
            "stacktrace": {"frames": frames},
        }


def _frames(step: TracebackType | None) -> Iterator[dict[str, Any]]:
    """Return where each call of a traceback was: never what it was called with."""
    while step is not None:
        code, names = step.tb_frame.f_code, step.tb_frame.f_globals
        module = str(names.get("__name__", ""))
        yield {
            "module": _name(module),
            "function": _name(code.co_qualname),
            "filename": _name(module.replace(".", "/") + ".py"),
            "lineno": step.tb_lineno,
            "in_app": not _is_foreign(code.co_filename),
        }
        step = step.tb_next


def _is_foreign(filename: str) -> bool:
    return "site-packages" in filename or "/lib/python" in filename
