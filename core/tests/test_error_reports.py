"""What reaches Sentry, over its real protocol: where errors happened, and nothing else."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Iterator

import pytest
import sentry_sdk
import structlog
from django.http import HttpRequest
from django.test import Client
from structlog.contextvars import bind_contextvars

from core.error_reports import MOST_A_MINUTE
from core.logs import log_scope
from core.tests.sentry import Sentry, reporting_to_sentry
from core.version import VERSION

log = structlog.get_logger("test")

CANARY = "canary-of-a-caller"
CALL = "cmnp2a0c100037h3zv5j9e8ub"


@pytest.fixture
def sentry() -> Iterator[Sentry]:
    with reporting_to_sentry() as sentry:
        yield sentry


def fails(said: str) -> None:
    local = said
    raise ValueError(f"{local} said {said}")


def test_an_error_is_reported_with_its_place_and_its_ids(sentry: Sentry) -> None:
    with log_scope(request_id="r1", call_id=CALL, call_sid="CA" + "1" * 32):
        try:
            fails(CANARY)
        except ValueError:
            log.exception("it_failed", attempts=3)
    [event] = sentry.reported()
    assert (event["message"], event["level"], event["logger"]) == ("it_failed", "error", "test")
    assert event["release"] == f"switchhook@{VERSION}"
    assert event["tags"] == {
        "attempts": "3",
        "call_id": CALL,
        "call_sid": "CA" + "1" * 32,
        "process": "command",
        "request_id": "r1",
    }
    [exception] = event["exception"]["values"]
    assert (exception["type"], exception["module"]) == ("ValueError", "builtins")
    *_, last = exception["stacktrace"]["frames"]
    assert (last["function"], last["module"]) == ("fails", __name__)
    assert last["lineno"] > 0


def test_less_than_an_error_is_not_reported(sentry: Sentry) -> None:
    log.warning("it_was_slow")
    log.info("it_worked")
    assert sentry.reported() == []


def test_a_cause_is_reported_too(sentry: Sentry) -> None:
    try:
        try:
            fails(CANARY)
        except ValueError as error:
            raise LookupError(CANARY) from error
    except LookupError:
        log.exception("it_failed")
    [event] = sentry.reported()
    assert [each["type"] for each in event["exception"]["values"]] == ["ValueError", "LookupError"]
    assert CANARY not in sentry.raw


class TestNothingElse:
    """A canary in each place from which the SDK or a log line could take it."""

    @pytest.fixture(autouse=True)
    def is_clean(self, sentry: Sentry) -> Iterator[None]:
        yield
        log.error("it_failed")
        assert sentry.reported()
        assert CANARY not in sentry.raw

    def test_of_our_own_lines(self) -> None:
        log.error(
            "it_failed",
            error=f"ValueError: {CANARY}",
            call_sid=f"CA {CANARY}",
            transcript=CANARY,
            caller=CANARY,
            url=f"https://backend.example/?token={CANARY}",
            headers={"Authorization": f"Bearer {CANARY}"},
            where=CANARY,
        )
        log.error(f"{CANARY} failed", kind=CANARY)
        bind_contextvars(said=CANARY)
        log.critical("it_failed")

    def test_of_others_lines(self) -> None:
        foreign = logging.getLogger("foreign")
        foreign.error("Could not read %s", CANARY)
        foreign.error(f"Could not read {CANARY}")
        foreign.error("Could not read it", extra={"body": CANARY}, stack_info=True)

    def test_of_an_exception_and_its_variables(self) -> None:
        try:
            fails(CANARY)
        except ValueError as error:
            error.add_note(CANARY)
            logging.getLogger("foreign").exception(CANARY)
            log.error("it_failed", exc_info=sys.exc_info())

    async def test_of_a_task_that_nobody_awaits(self) -> None:
        asyncio.get_running_loop().call_exception_handler(
            {"message": CANARY, "exception": ValueError(CANARY), "future": CANARY}
        )

    def test_of_what_the_sdk_is_told(self) -> None:
        sentry_sdk.set_user({"email": CANARY, "ip_address": CANARY})
        sentry_sdk.set_tag("said", CANARY)
        sentry_sdk.set_context("call", {"said": CANARY})
        sentry_sdk.set_extra("said", CANARY)
        sentry_sdk.add_breadcrumb(message=CANARY)
        sentry_sdk.capture_message(CANARY)
        try:
            fails(CANARY)
        except ValueError:
            sentry_sdk.capture_exception()

    @pytest.mark.django_db
    def test_of_a_request(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from core.tests.test_logged_secrets import PATTERNS

        def view(request: HttpRequest) -> None:
            fails(str(request.body))

        monkeypatch.setattr(PATTERNS["api/auth/login"], "callback", view)
        client = Client(raise_request_exception=False)
        client.cookies["sessionid"] = CANARY
        answer = client.post(
            f"/api/auth/login?token={CANARY}",
            {"password": CANARY},
            headers={"Authorization": f"Bearer {CANARY}", "User-Agent": CANARY},
        )
        assert answer.status_code == 500


def test_a_flood_of_errors_is_cut(sentry: Sentry) -> None:
    for _ in range(3 * MOST_A_MINUTE):
        log.error("it_failed")
    assert len(sentry.reported()) <= MOST_A_MINUTE * 2  # the minute may have ended meanwhile


def test_nothing_waits_for_sentry(sentry: Sentry) -> None:
    sentry.may_answer.clear()
    log.error("it_failed")
    assert sentry.has_request.wait(10)
    began = time.monotonic()
    for _ in range(MOST_A_MINUTE):
        log.error("it_failed")
    assert time.monotonic() - began < 5  # Sentry would answer after 30 seconds
