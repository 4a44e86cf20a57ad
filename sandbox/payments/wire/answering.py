"""Handles a request: authentication, idempotency, and the call of its endpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from sandbox.payments.events import Cause, cause
from sandbox.payments.ids import random_text
from sandbox.payments.models import KeptAnswer, StripeObject
from sandbox.payments.objects import writing
from sandbox.payments.wire import forms
from sandbox.payments.wire.errors import Refusal
from sandbox.payments.wire.expansion import expanded
from sandbox.payments.wire.parameters import checked
from sandbox.payments.wire.requests import Endpoint, Params, Request, find_endpoint

log = structlog.get_logger(__name__)

# Stripe removes keys after this at the earliest.
KEEP_ANSWERS = timedelta(hours=24)
_KEY_LOCKS = 0x5A9D


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    body: str
    headers: Mapping[str, str] = field(default_factory=dict)


def answer(method: str, url: str, headers: Mapping[str, str], sent: str) -> Response:
    """Return Stripe's response."""
    address = urlsplit(url)
    request_id = f"req_{random_text(14)}"
    always = {
        "Request-Id": request_id,
        "Content-Type": "application/json",
        "Stripe-Version": headers.get("Stripe-Version", settings.STRIPE_API_VERSION),
    }
    if key := headers.get("Idempotency-Key"):
        always["Idempotency-Key"] = key
    try:
        given = _decode(address.query, sent, headers)
        request = Request(request_id, method, address.path, given, headers)
        response = _respond(request)
    except Refusal as refusal:
        response = refused(refusal)
    log.debug("sandbox_stripe", method=method, path=address.path, status=response.status)
    return Response(response.status, response.body, {**always, **response.headers})


def _decode(query: str, sent: str, headers: Mapping[str, str]) -> dict[str, Any]:
    if headers.get("Content-Type") == "application/json":
        try:
            body = json.loads(sent or "{}")
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise Refusal("Invalid JSON.")
        return body
    return forms.decode(sent or query)


def _respond(request: Request) -> Response:
    _authenticate(request.headers)
    endpoint, ids = find_endpoint(request.method, request.path)
    if request.method == "GET":
        return _done(_carried_out(request, endpoint, ids))
    with transaction.atomic():
        return _once(request, endpoint, ids)


def _authenticate(headers: Mapping[str, str]) -> None:
    _, _, key = headers.get("Authorization", "").partition("Bearer ")
    if not key:
        raise Refusal(
            "You did not provide an API key. You need to provide your API key in the Authorization "
            "header, using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY').",
            status=401,
        )
    if key != settings.STRIPE_SECRET_KEY:
        hidden = f"{key[:8]}{'*' * max(0, len(key) - 12)}{key[-4:]}"
        raise Refusal(f"Invalid API Key provided: {hidden}", status=401)


def _once(request: Request, endpoint: Endpoint, ids: tuple[str, ...]) -> Response:
    """Carry out the request unless its idempotency key was used; store the response."""
    key = request.idempotency_key
    if key is None:
        return _written(request, endpoint, ids)
    digest = _digest(request)
    _lock(key)
    kept = KeptAnswer.objects.filter(pk=key).first()
    if kept and kept.answered_at > timezone.now() - KEEP_ANSWERS:
        return _replayed(kept, digest)
    response = _written(request, endpoint, ids)
    # A request that was refused before it changed anything can be retried with the same key.
    if response.status < 300 or response.status == 402:
        _keep(key, digest, request, response)
    return response


def _keep(key: str, digest: str, request: Request, response: Response) -> None:
    """Store the response, in place of an expired one."""
    answer = KeptAnswer(
        key=key,
        request_id=request.id,
        digest=digest,
        status=response.status,
        body=response.body,
    )
    KeptAnswer.objects.bulk_create(
        [answer],
        update_conflicts=True,
        unique_fields=["key"],
        update_fields=["request_id", "digest", "status", "body", "answered_at"],
    )


def _digest(request: Request) -> str:
    asked = [request.method, request.path, request.given]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _lock(key: str) -> None:
    """Block requests with the same key until this one has its response; raise Refusal."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s, hashtext(%s))", [_KEY_LOCKS, key])
        (is_ours,) = cursor.fetchone()
    if not is_ours:
        raise Refusal(
            "There is currently another in-progress request using this Idempotent Key (that "
            "probably means you submitted twice, and the other request is still going through): "
            f"{key}. Try again later.",
            status=409,
            type="idempotency_error",
            code="idempotency_key_in_use",
        )


def _replayed(kept: KeptAnswer, digest: str) -> Response:
    if kept.digest != digest:
        raise Refusal(
            "Keys for idempotent requests can only be used with the same parameters they were "
            f"first used with. Try using a key other than '{kept.key}' if you meant to execute a "
            "different request.",
            type="idempotency_error",
        )
    headers = {"Idempotent-Replayed": "true", "Original-Request": kept.request_id}
    return Response(kept.status, kept.body, headers)


def _written(request: Request, endpoint: Endpoint, ids: tuple[str, ...]) -> Response:
    """Carry out a request that changes something; a refusal usually undoes everything."""
    token = cause.set(Cause(request.id, request.idempotency_key))
    try:
        with writing():
            return _done(_carried_out(request, endpoint, ids))
    except Refusal as refusal:
        return refused(refusal)
    finally:
        cause.reset(token)


def _carried_out(request: Request, endpoint: Endpoint, ids: tuple[str, ...]) -> dict[str, Any]:
    params = Params(checked(request.given, endpoint.params))
    expand = params.take("expand", [])
    answered = endpoint.handler(params, *ids)
    params.require_empty()
    body = answered.body if isinstance(answered, StripeObject) else answered
    return expanded(body, expand)


def _done(body: dict[str, Any]) -> Response:
    return Response(200, json.dumps(body))


def refused(refusal: Refusal) -> Response:
    """Return the refusal as a response."""
    headers = {"Stripe-Should-Retry": "true" if refusal.status == 409 else "false"}
    return Response(refusal.status, json.dumps({"error": refusal.error}), headers)
