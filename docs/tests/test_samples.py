"""Every backend in the guides accepts what Switchhook signed, and responds with 401 to all else.

Each runs as it stands in the Markdown, as a process of its own. The Standard Webhooks library
judges which requests are signed correctly.
"""

from __future__ import annotations

import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
import requests
from markdown_it import MarkdownIt
from standardwebhooks import Webhook, WebhookVerificationError

from docs.guides import FOLDER
from docs.tests.backends import listening
from telephony.callbacks import payloads, signing
from telephony.callbacks.payloads import CallFacts

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
FACTS = CallFacts("CA" + "1" * 32, "+19805551234", "+15551234567", "inbound")
# The program that runs a language's code, and the suffix of its file.
RUN_BY = {"python": (sys.executable, "py"), "js": ("node", "mjs")}
#: How a backend gets its secret.
_READS_SECRET = "WEBHOOK_SECRET"


@dataclass(frozen=True)
class Sample:
    """The code of a backend; ``name`` says where it is."""

    name: str
    language: str
    code: str


def _samples() -> Iterator[Sample]:
    for path in (*sorted(FOLDER.glob("*.md")), FOLDER.parent / "README.md"):
        tokens = MarkdownIt().parse(path.read_text(encoding="utf-8"))
        for token in tokens:
            language = token.info.partition(" ")[0]
            if token.type == "fence" and language in RUN_BY and _READS_SECRET in token.content:
                yield Sample(f"{path.stem}:{token.map[0] + 1}", language, token.content)


SAMPLES = list(_samples())


def test_these_are_all() -> None:
    """Each guide with code that verifies has a backend in each of its languages."""
    found = sorted((sample.name.partition(":")[0], sample.language) for sample in SAMPLES)
    assert found == [
        ("SKILL", "python"),
        ("callbacks", "js"),
        ("callbacks", "python"),
        ("callbacks", "python"),
        ("getting-started", "js"),
        ("getting-started", "python"),
    ]


@pytest.fixture(scope="module", params=SAMPLES, ids=[sample.name for sample in SAMPLES])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a backend; return the URL to which onCallStart is sent."""
    sample: Sample = request.param
    runner, suffix = RUN_BY[sample.language]
    if shutil.which(runner) is None:
        pytest.skip(f"there is no {runner} here")
    file = tmp_path_factory.mktemp("sample") / f"backend.{suffix}"
    file.write_text(sample.code, encoding="utf-8")
    with (
        (file.parent / "errors").open("w") as errors,
        listening([runner, file], secret=SECRET, errors=errors) as backend,
    ):
        yield f"{backend}/calls/start"


def payload() -> bytes:
    return payloads.encode(payloads.call_start(FACTS, datetime.now(UTC)))


def signed(
    body: bytes, *, secrets: tuple[str, ...] = (SECRET,), age: timedelta = timedelta()
) -> dict[str, str]:
    """Return the headers with which Switchhook sends this body."""
    return signing.headers(
        body, secrets=secrets, message_id="msg_1", now=datetime.now(UTC) - age
    ) | {"Content-Type": "application/json"}


def post(url: str, body: bytes, headers: dict[str, str]) -> int:
    """Return the status, which must be the library's judgement: 200 or 401."""
    status = requests.post(url, data=body, headers=headers, timeout=20).status_code
    assert status == (200 if is_right(body, headers) else 401)
    return status


def is_right(body: bytes, headers: dict[str, str]) -> bool:
    try:
        Webhook(SECRET).verify(body, headers)
    except (WebhookVerificationError, ValueError):
        return False
    return True


def test_it_works(url: str) -> None:
    body = payload()
    assert post(url, body, signed(body)) == 200


def test_both_secrets_work_during_a_rotation(url: str) -> None:
    body = payload()
    assert post(url, body, signed(body, secrets=(OTHER, SECRET))) == 200
    assert post(url, body, signed(body, secrets=(OTHER,))) == 401


def test_a_request_without_signature_is_refused(url: str) -> None:
    body = payload()
    assert post(url, body, {}) == 401
    for missing in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        headers = {name: value for name, value in signed(body).items() if name != missing}
        assert post(url, body, headers) == 401, missing


@pytest.mark.parametrize("minutes", [-6, 6, 60 * 24])
def test_a_stale_timestamp_is_refused(url: str, minutes: int) -> None:
    body = payload()
    assert post(url, body, signed(body, age=timedelta(minutes=minutes))) == 401


def test_a_body_that_was_tampered_with_is_refused(url: str) -> None:
    body = payload()
    tampered = body.replace(b"+19805551234", b"+19005551234")
    assert tampered != body
    assert post(url, tampered, signed(body)) == 401
    assert post(url, body + b" ", signed(body)) == 401
    assert post(url, b"\xff" + body, signed(body)) == 401


def test_a_timestamp_that_was_tampered_with_is_refused(url: str) -> None:
    body = payload()
    old = signed(body, age=timedelta(minutes=10))
    now = str(int(datetime.now(UTC).timestamp()))
    assert post(url, body, old | {"webhook-timestamp": now}) == 401


@pytest.mark.parametrize(
    "malformed",
    [
        {"webhook-signature": ""},
        {"webhook-signature": "v1"},
        {"webhook-signature": "v1,%%%"},
        {"webhook-signature": "v1,a"},
        {"webhook-signature": "v1,é".encode().decode("latin-1")},
        {"webhook-timestamp": "now"},
        {"webhook-timestamp": ""},
        {"webhook-timestamp": "NaN"},
        {"webhook-timestamp": "9" * 400},
    ],
    ids=lambda malformed: " ".join(malformed.values())[:12] or "empty",
)
def test_malformed_headers_are_refused(url: str, malformed: dict[str, str]) -> None:
    body = payload()
    assert post(url, body, signed(body) | malformed) == 401


def test_a_request_that_breaks_off_harms_no_other(url: str) -> None:
    host, port = url.split("/")[2].split(":")
    with socket.create_connection((host, int(port)), timeout=20) as broken:
        broken.sendall(b"POST /calls/start HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
    body = payload()
    assert post(url, body, signed(body)) == 200


def test_the_judge_is_strict() -> None:
    body = payload()
    headers = signed(body)
    assert is_right(body, headers)
    assert not is_right(body + b" ", headers)
