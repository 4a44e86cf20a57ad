"""Signatures, verified with the standardwebhooks library and an independent HMAC."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta, timezone

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from telephony.callbacks.signing import headers
from telephony.tests.callbacks.conftest import OLD_SECRET, SECRET

BODY = '{"text":"Grüße ☎"}'.encode()
NOW = datetime(2026, 4, 1, 9, 30, 0, 987654, tzinfo=UTC)


def _headers(*secrets: str, body: bytes = BODY, now: datetime | None = None) -> dict[str, str]:
    return headers(body, secrets=secrets, message_id="msg_1", now=now or datetime.now(UTC))


def test_both_signatures_verify() -> None:
    signed = _headers(SECRET)
    assert signed["webhook-id"] == "msg_1"
    assert Webhook(SECRET).verify(BODY, signed) == {"text": "Grüße ☎"}


def test_the_veevo_signature_is_the_hmac_of_the_body() -> None:
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    digest = hmac.new(key, b"msg_1.1775035800." + BODY, hashlib.sha256).digest()
    assert _headers(SECRET, now=NOW) == {
        "webhook-id": "msg_1",
        "webhook-timestamp": "1775035800",
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
        "X-Veevo-Signature": hmac.new(SECRET.encode(), BODY, hashlib.sha256).hexdigest(),
    }


def test_the_time_zone_of_now_does_not_matter() -> None:
    there = NOW.astimezone(timezone(timedelta(hours=-7)))
    assert _headers(SECRET, now=there) == _headers(SECRET, now=NOW)


def test_a_rotated_secret_gives_two_signatures() -> None:
    signed = _headers(SECRET, OLD_SECRET)
    assert len(signed["webhook-signature"].split(" ")) == 2
    for secret in (SECRET, OLD_SECRET):
        Webhook(secret).verify(BODY, signed)
    assert signed["X-Veevo-Signature"] == _headers(SECRET)["X-Veevo-Signature"]


@pytest.mark.parametrize("change", [{"webhook-id": "msg_2"}, {"webhook-timestamp": "1"}])
def test_changed_headers_are_refused(change: dict[str, str]) -> None:
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(BODY, _headers(SECRET) | change)


def test_another_secret_or_body_is_refused() -> None:
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD_SECRET).verify(BODY, _headers(SECRET))
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(BODY + b" ", _headers(SECRET))
