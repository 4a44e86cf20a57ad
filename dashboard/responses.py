"""How a customer's backend responded, as ``answer.html`` and the table of attempts show it."""

from __future__ import annotations

from typing import Any

from dashboard.call_words import milliseconds, result_words
from telephony.callbacks.attempts import answer_of
from telephony.callbacks.check import Check
from telephony.models import FailedRequest, SealedAnswer


def attempt_shown(sent: SealedAnswer) -> dict[str, Any]:
    """Return an attempt of a delivery."""
    return {
        "at": sent.at,
        "took": milliseconds(sent.duration_ms),
        "result": result_words(sent.result),
        "tone": "good" if sent.result.startswith("2") else "bad",
        "answer": answer_of(sent),
    }


def request_shown(request: FailedRequest) -> dict[str, Any]:
    """Return an onCallStart or onToolCall that failed, whatever its status."""
    return attempt_shown(request) | {
        "id": f"response-{request.pk}",
        "name": f"{request.kind} {request.tool}".strip(),
        "url": request.url,
        "tone": "bad",
    }


def check_shown(check: Check) -> dict[str, Any]:
    return {
        "id": "response-of-check",
        "name": "onCallStart",
        "url": check.url,
        "took": milliseconds(check.seconds * 1000),
        "result": str(check.status) if check.status else "no response",
        "tone": "good" if check.is_good else "bad",
        "answer": check.answer,
    }
