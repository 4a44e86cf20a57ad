"""Lets ``manage.py doctor`` recognize this installation's processes behind its public URLs.

A request to any URL may carry a challenge. Only who has ``SECRET_KEY`` can make one, and only who
has it can read the answer, which says what the process is and what it saw of the request. A request
without a valid challenge is handled as if the header did not exist, so strangers learn nothing.
"""

from __future__ import annotations

import json
import resource
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeGuard

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.core.signing import BadSignature, TimestampSigner
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import sync_and_async_middleware

from core.client_address import network_of
from core.sealing import CannotUnseal, seal, unseal
from core.version import VERSION

HEADER = "X-Switchhook-Check"

_SIGNER = "self-check"
_ANSWER = "self-check answer"
# Long enough for clocks that differ, which is one of the things to find out.
_VALID_FOR_S = 900


def new_challenge() -> str:
    return TimestampSigner(salt=_SIGNER).sign(secrets.token_urlsafe(16))


def is_ours(challenge: str | None) -> TypeGuard[str]:
    """Return True if this installation made the challenge, some minutes ago at most."""
    if not challenge:
        return False
    try:
        TimestampSigner(salt=_SIGNER).unsign(challenge, max_age=_VALID_FOR_S)
    except BadSignature:
        return False
    return True


def answer_to(challenge: str, *, forwarded_for: str, peer: str, **facts: Any) -> bytes:
    """Return a sealed answer that belongs to this challenge only.

    It has this process's facts and those that are given, as JSON.
    """
    known = {
        "challenge": challenge,
        "process": settings.PROCESS,
        "version": VERSION,
        "time": time.time(),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "forwarded_for": forwarded_for,
        "client": network_of(forwarded_for, peer),
        **facts,
    }
    return seal(json.dumps(known).encode(), purpose=_ANSWER)


def read_answer(answer: bytes, challenge: str) -> dict[str, Any] | None:
    """Return the facts of an answer, or None if it is none of ours to this challenge."""
    try:
        facts: dict[str, Any] = json.loads(unseal(answer, purpose=_ANSWER))
    except CannotUnseal:
        return None
    return facts if facts["challenge"] == challenge else None


@sync_and_async_middleware
def self_checks(
    get_response: Callable[[HttpRequest], HttpResponse | Awaitable[HttpResponse]],
) -> Callable[[HttpRequest], HttpResponse | Awaitable[HttpResponse]]:
    """Answer challenges, before the checks of host and TLS: they are what is looked into."""

    def middleware(request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        challenge = request.headers.get(HEADER)
        return _answer(request, challenge) if is_ours(challenge) else get_response(request)

    async def async_middleware(request: HttpRequest) -> HttpResponse:
        answer = middleware(request)
        return answer if isinstance(answer, HttpResponse) else await answer

    return async_middleware if iscoroutinefunction(get_response) else middleware


def _answer(request: HttpRequest, challenge: str) -> HttpResponse:
    answer = answer_to(
        challenge,
        forwarded_for=request.META.get("HTTP_X_FORWARDED_FOR", ""),
        peer=request.META["REMOTE_ADDR"],
        is_secure=request.is_secure(),
        host=request.META.get("HTTP_HOST", ""),
    )
    return HttpResponse(answer, content_type="application/octet-stream")
