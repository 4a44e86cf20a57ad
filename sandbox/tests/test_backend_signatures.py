"""Verification that a callback is really from the platform."""

import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook

from sandbox.backend.signatures import Signatures, check, is_secret

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
BODY = '{"callSid": "CA1", "name": "Zoë"}'.encode()


def signed(*secrets: str, body: bytes = BODY, at: datetime | None = None) -> dict[str, str]:
    """Return a callback's headers; the first secret is the current one."""
    at = at or datetime.now(UTC)
    standard = [Webhook(secret).sign("msg_1", at, body.decode()) for secret in secrets]
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(standard),
        "X-Veevo-Signature": hmac.new(secrets[0].encode(), body, hashlib.sha256).hexdigest(),
    }


def test_it_works() -> None:
    verdicts = check(BODY, signed(SECRET), [SECRET])

    assert verdicts == Signatures(standard="valid", legacy="valid")
    assert verdicts.are_fine


def test_without_a_secret_nothing_is_checked() -> None:
    verdicts = check(BODY, {}, [])

    assert verdicts == Signatures("unchecked", "unchecked")
    assert verdicts.are_fine


def test_any_known_secret_will_do() -> None:
    assert check(BODY, signed(SECRET), [OTHER, SECRET]).are_fine


def test_a_rotated_secret_signs_along() -> None:
    assert check(BODY, signed(OTHER, SECRET), [OTHER]).are_fine
    assert check(BODY, signed(OTHER, SECRET), [SECRET]) == Signatures("valid", "invalid")


@pytest.mark.parametrize(
    "headers",
    [
        signed(OTHER),
        signed(SECRET, body=b"{}"),
        {**signed(SECRET), "webhook-signature": "v1", "X-Veevo-Signature": "é\udce9"},
        {**signed(SECRET), "webhook-timestamp": "soon", "X-Veevo-Signature": ""},
    ],
)
def test_what_does_not_match_is_invalid(headers: dict[str, str]) -> None:
    verdicts = check(BODY, headers, [SECRET])

    assert verdicts == Signatures("invalid", "invalid")
    assert not verdicts.are_fine


def test_an_old_message_is_a_replay() -> None:
    headers = signed(SECRET, at=datetime.now(UTC) - timedelta(minutes=10))

    assert check(BODY, headers, [SECRET]) == Signatures("invalid", "valid")


def test_signatures_may_be_missing() -> None:
    verdicts = check(BODY, {}, [SECRET])

    assert verdicts == Signatures("missing", "missing")
    assert not verdicts.are_fine


def test_what_a_secret_looks_like() -> None:
    assert is_secret(SECRET)
    for value in (None, 7, "", "whsec_", "whsec_é" + "x" * 20, SECRET[6:]):
        assert not is_secret(value)
