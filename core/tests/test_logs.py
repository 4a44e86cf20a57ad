"""Log lines, as a server writes them."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.contextvars import bind_contextvars

from core.logs import MASK, log_scope, redact
from core.version import VERSION

ROOT = Path(__file__).resolve().parents[2]


def logged(code: str) -> list[dict[str, Any]]:
    """Return what a process with the production set-up writes when it runs the code."""
    set_up = "import logging, structlog; from core.logs import configure_logging, name_process"
    ended = subprocess.run(
        [sys.executable, "-c", f"{set_up}\nconfigure_logging(json=True)\n{code}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == ""
    return [json.loads(line) for line in ended.stderr.splitlines()]


def test_it_works() -> None:
    ours, foreign = logged(
        "name_process('engine')\n"
        "structlog.get_logger('telephony').info('call_ended', seconds=47)\n"
        "logging.getLogger('gunicorn.error').warning('Worker %s', 7)"
    )
    assert ours.pop("timestamp").endswith("Z")
    source = {"process": "engine", "version": VERSION}
    assert ours == {
        "event": "call_ended",
        "seconds": 47,
        "level": "info",
        "logger": "telephony",
        **source,
    }
    assert foreign.pop("timestamp").endswith("Z")
    assert foreign == {
        "event": "Worker 7",
        "level": "warning",
        "logger": "gunicorn.error",
        **source,
    }


def test_a_scope_adds_to_lines_and_ends_with_all_that_was_bound_in_it(
    log_lines: Callable[..., list[dict[str, Any]]],
) -> None:
    log, foreign = structlog.get_logger("test"), logging.getLogger("test")
    bind_contextvars(request_id="r1")
    with log_scope(call_id="c1"):
        with log_scope(call_id="c2"):
            bind_contextvars(call_sid="CA2")
            log.info("inner")
        with pytest.raises(ValueError, match="x"), log_scope(call_sid="CA1"):
            raise ValueError("x")
        foreign.warning("outer")
    log.info("after")
    names = ("event", "request_id", "call_id", "call_sid")
    assert [tuple(line.get(name) for name in names) for line in log_lines()] == [
        ("inner", "r1", "c2", "CA2"),
        ("outer", "r1", "c1", None),
        ("after", "r1", None, None),
    ]


def test_a_traceback_has_no_local_variables_and_no_credentials() -> None:
    [line] = logged(
        "def fail(plan):\n"
        "    canary = plan\n"
        "    raise ValueError('Bearer ' + canary)\n"
        "try:\n"
        "    fail('a-canary')\n"
        "except ValueError:\n"
        "    structlog.get_logger().exception('failed')"
    )
    assert "in fail" in line["exception"]
    assert "ValueError: Bearer [redacted]" in line["exception"]
    assert "a-canary" not in json.dumps(line)


def test_warnings_are_lines_too() -> None:
    [line] = logged("import warnings; warnings.warn('old', stacklevel=1)")
    assert (line["logger"], line["level"]) == ("py.warnings", "warning")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Authorization: Bearer abc.def", "Authorization: Bearer [redacted]"),
        ("key rtk_" + "a1B2" * 9 + "zz used", "key rtk_[redacted] used"),
        ("sk-proj-" + "a1B2-" * 8, "sk-[redacted]"),
        ("sk_live_" + "a1B2" * 6, "sk_live_[redacted]"),
        ("whsec_" + "C2/+" * 8 + "=", "whsec_[redacted]"),
        ("token 0123456789abcdef0123456789abcdef.", "token [redacted]."),
        ("eyJhbGci.eyJzdWIi.c2lnbmF0dXJl", MASK),
        (f"/voice/after/after.c1:1tKXyZ:{'a-B_' * 10}abc", "/voice/after/[redacted]"),
        (f"after.c1:1tKXyZ:{'a-B_' * 10}abc", "after.c1:1tKXyZ:[redacted]"),
        ("GET /password/reset/c1/d1-ab HTTP/1.1", "GET /password/reset/[redacted] HTTP/1.1"),
        ("CA0123456789abcdef0123456789abcdef rang", "CA0123456789abcdef0123456789abcdef rang"),
        ("POST /api/outbound took 12 ms", "POST /api/outbound took 12 ms"),
    ],
)
def test_shapes_of_credentials_are_masked(text: str, expected: str) -> None:
    assert redact(None, "info", {"event": text, "inside": {"list": [text]}}) == {
        "event": expected,
        "inside": {"list": [expected]},
    }


@pytest.mark.parametrize(
    "name",
    [
        "twilioAuthToken",
        "openaiApiKey",
        "api_key",
        "password",
        "Authorization",
        "client_secret",
        "token",
    ],
)
def test_names_of_credentials_are_masked(name: str) -> None:
    event = {"event": "answered", "plan": {name: "anything", "voice": "marin"}, "retries": 3}
    assert redact(None, "info", event) == {
        "event": "answered",
        "plan": {name: MASK, "voice": "marin"},
        "retries": 3,
    }
