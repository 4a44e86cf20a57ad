"""Test calls, and the check of a callback."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts import throttling
from accounts.models import Account
from docs.tests.test_docs import Links
from sandbox.backend import hostile
from telephony.call_sids import is_test_sid, new_test_sid
from telephony.engine.models import MODELS
from telephony.models import Call, CallbackDelivery, PhoneNumber, SealedPlan
from telephony.services import call_note

pytestmark = pytest.mark.django_db

PATH = "/dashboard/test-call"
START = f"{PATH}/start"
CHECK = f"{PATH}/check"
TOKEN = "canary-of-the-twilio-token"
KEY = "sk-canary-of-the-openai-key"
CREDENTIALS = {"twilioAccountSid": "AC" + "0123456789abcdef" * 2, "twilioAuthToken": TOKEN}
PLAN = {
    **CREDENTIALS,
    "openaiApiKey": KEY,
    "systemPrompt": "Be brief.",
}


# Those that are hostile around the body are for the client's tests.
HOSTILE = {
    name: response.partition(b"\r\n\r\n")[2]
    for name, response in hostile.answers().items()
    if b"Content-Length" in response
}


class Backend(ThreadingHTTPServer):
    """A customer's backend: set ``answer`` and ``status``, read ``asked``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.answer: bytes = json.dumps(PLAN).encode()
        self.asked: list[tuple[dict[str, str], dict[str, Any]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/start"

    def says(self, answer: Any, status: int = 200) -> None:
        self.answer, self.status = json.dumps(answer).encode(), status


class _Handler(BaseHTTPRequestHandler):
    server: Backend

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((dict(self.headers), json.loads(body)))
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.answer)))
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def backend() -> Iterator[Backend]:
    with Backend() as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        yield server
        server.shutdown()
        serving.join()


def number_of(account: Account, url: str, phone_number: str = "+15551234567") -> PhoneNumber:
    return PhoneNumber.objects.create(
        account=account,
        phone_number=phone_number,
        on_call_start_url=url,
        on_call_end_url="https://example.org/end",
        on_error_url="https://example.org/error",
    )


@pytest.fixture
def number(alice: Account, backend: Backend) -> PhoneNumber:
    return number_of(alice, backend.url)


def ring(client: Client, number: PhoneNumber, **fields: str) -> tuple[int, str]:
    response = client.post(START, {"call-number": number.id, **fields})
    return response.status_code, response.content.decode()


class TestThePage:
    def test_it_works(self, alice_web: Client, number: PhoneNumber, settings: Any) -> None:
        settings.MEDIA_STREAM_URL = "wss://media.example.org/media"
        response = alice_web.get(PATH)
        assert response.status_code == 200
        text = response.content.decode()
        assert number.phone_number in text
        assert Links(text).inline == []
        policy = response["Content-Security-Policy"]
        assert "connect-src 'self' wss://media.example.org;" in policy
        assert "unsafe" not in policy

    def test_no_other_page_may_talk_to_the_media_socket(self, alice_web: Client) -> None:
        assert "connect-src 'self';" in alice_web.get("/docs")["Content-Security-Policy"]

    def test_without_a_number_it_says_what_to_do(self, alice_web: Client) -> None:
        text = alice_web.get(PATH).content.decode()
        assert "/dashboard/numbers" in text
        assert "<form method" not in text.partition("<main")[2]

    def test_numbers_of_others_are_not_in_it(self, bob_web: Client, number: PhoneNumber) -> None:
        assert number.phone_number not in bob_web.get(PATH).content.decode()

    def test_queries_do_not_grow(
        self, alice_web: Client, alice: Account, number: PhoneNumber, django_assert_num_queries: Any
    ) -> None:
        for i in range(5):
            number_of(alice, "https://example.org/start", f"+1555765432{i}")
        with django_assert_num_queries(4):
            alice_web.get(PATH)


@pytest.mark.parametrize("path", [PATH, f"{PATH}/c{'0' * 24}/live"])
def test_nobody_sees_it_without_a_login(path: str) -> None:
    assert Client().get(path)["Location"] == f"/login?next={path}"


@pytest.mark.parametrize("path", [START, CHECK, f"{PATH}/c{'0' * 24}/give-up"])
def test_nobody_does_it_without_a_login(path: str) -> None:
    assert Client().post(path)["Location"].startswith("/login")
    assert not Call.objects.exists()


class TestStart:
    def test_it_works(self, alice_web: Client, number: PhoneNumber, backend: Backend) -> None:
        status, text = ring(alice_web, number)
        assert status == 200
        call = Call.objects.get()
        assert (call.direction, call.caller_phone) == ("inbound", "+12025550123")
        assert is_test_sid(call.call_sid or "")
        assert call.accepted_at
        ((headers, asked),) = backend.asked
        assert asked["callSid"] == call.call_sid
        assert headers["webhook-id"] == f"msg_{call.id}"
        ticket = re.search(r'data-ticket="([^"]+)"', text)
        assert ticket
        assert ticket[1].startswith(f"{call.id}.")
        assert re.search(r'data-account-sid="AC\w{32}"', text)
        assert f'hx-get="{PATH}/{call.id}/live"' in text
        assert TOKEN not in text
        assert KEY not in text
        assert SealedPlan.objects.filter(call=call).exists()

    def test_the_caller_can_be_chosen(
        self, alice_web: Client, number: PhoneNumber, backend: Backend
    ) -> None:
        ring(alice_web, number, **{"call-caller": "+14155550100"})
        assert backend.asked[0][1]["callerPhone"] == "+14155550100"

    def test_the_caller_may_be_typed_as_people_write_it(
        self, alice_web: Client, number: PhoneNumber, backend: Backend
    ) -> None:
        ring(alice_web, number, **{"call-caller": "(415) 555-0100"})
        assert backend.asked[0][1]["callerPhone"] == "+14155550100"

    def test_a_caller_that_is_no_number(self, alice_web: Client, number: PhoneNumber) -> None:
        status, text = ring(alice_web, number, **{"call-caller": "0800"})
        assert status == 400
        assert "Use a phone number" in text
        assert not Call.objects.exists()

    def test_a_number_of_another_account_is_not_found(
        self, bob_web: Client, number: PhoneNumber, backend: Backend
    ) -> None:
        status, _ = ring(bob_web, number)
        assert status == 404
        assert backend.asked == []
        assert not Call.objects.exists()

    @pytest.mark.parametrize(("who", "why"), [("carol", "is not active"), ("dave", "is suspended")])
    def test_an_account_that_cannot_receive_calls(
        self, who: str, why: str, request: pytest.FixtureRequest, backend: Backend
    ) -> None:
        account, client = (request.getfixturevalue(name) for name in (who, f"{who}_web"))
        _, text = ring(client, number_of(account, backend.url))
        assert why in text
        assert backend.asked == []
        assert Call.objects.get().ended_reason == "rejected"

    def test_one_call_too_many(
        self, alice_web: Client, number: PhoneNumber, settings: Any, backend: Backend
    ) -> None:
        settings.MAX_CONCURRENT_CALLS = 0
        _, text = ring(alice_web, number)
        assert "busy signal" in text
        assert backend.asked == []

    def test_an_inactive_number(self, alice_web: Client, number: PhoneNumber) -> None:
        PhoneNumber.objects.update(is_active=False)
        _, text = ring(alice_web, number)
        assert "number is inactive" in text
        assert not Call.objects.exists()

    def test_a_transfer(self, alice_web: Client, number: PhoneNumber, backend: Backend) -> None:
        backend.says({"transfer": "+15559876543"} | CREDENTIALS)
        _, text = ring(alice_web, number)
        assert "would be transferred to +15559876543" in text
        assert "data-ticket" not in text
        assert Call.objects.get().ended_reason == "transferred"

    def test_a_refusal(self, alice_web: Client, number: PhoneNumber, backend: Backend) -> None:
        backend.says({"reject": True, "message": "We are <closed>."} | CREDENTIALS)
        _, text = ring(alice_web, number)
        assert "We are &lt;closed&gt;." in text
        backend.says({"reject": True, "reason": "busy"})
        assert "busy signal" in ring(alice_web, number)[1]

    def test_a_greeting_url_is_told_of(
        self, alice_web: Client, number: PhoneNumber, backend: Backend
    ) -> None:
        backend.says(PLAN | {"greetingUrl": "https://example.com/hello.mp3"})
        _, text = ring(alice_web, number)
        assert "greetingUrl" in text
        assert "data-ticket" in text

    def test_an_answer_that_cannot_be_used(
        self, alice_web: Client, number: PhoneNumber, backend: Backend
    ) -> None:
        backend.says({name: value for name, value in PLAN.items() if name != "systemPrompt"})
        _, text = ring(alice_web, number)
        assert "systemPrompt: This field is required." in text
        assert CallbackDelivery.objects.get().kind == "onError"

    def test_it_is_limited(
        self, alice_web: Client, number: PhoneNumber, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(throttling, "ACCOUNT_ATTEMPTS", 1)
        ring(alice_web, number)
        status, text = ring(alice_web, number)
        assert status == 429
        assert "Too many attempts" in text

    def test_a_form_of_another_site_is_refused(self, alice: Account, number: PhoneNumber) -> None:
        client = Client(enforce_csrf_checks=True)
        client.force_login(alice)
        assert ring(client, number)[0] == 403

    def test_a_link_does_not(self, alice_web: Client) -> None:
        assert alice_web.get(START).status_code == 405


class TestLive:
    @pytest.fixture
    def call(self, alice: Account) -> Call:
        call = Call.objects.create(
            account=alice, call_sid=new_test_sid(), direction="inbound", status="in-progress"
        )
        call_note(call, "received")
        return call

    def test_it_works(self, alice_web: Client, call: Call) -> None:
        text = alice_web.get(f"{PATH}/{call.id}/live").content.decode()
        assert "Someone called your number" in text
        assert 'hx-trigger="every 1s"' in text

    def test_after_the_end_it_is_not_asked_again(self, alice_web: Client, call: Call) -> None:
        Call.objects.update(ended_at=timezone.now(), ended_reason="caller_hangup")
        text = alice_web.get(f"{PATH}/{call.id}/live").content.decode()
        assert "hx-trigger" not in text
        assert f"/dashboard/calls/{call.id}" in text

    def test_of_another_account_it_is_not_found(self, bob_web: Client, call: Call) -> None:
        assert bob_web.get(f"{PATH}/{call.id}/live").status_code == 404
        assert bob_web.post(f"{PATH}/{call.id}/give-up").status_code == 404

    def test_only_test_calls(self, alice_web: Client, call: Call) -> None:
        Call.objects.update(call_sid="CA" + "0" * 32)
        assert alice_web.get(f"{PATH}/{call.id}/live").status_code == 404
        assert alice_web.post(f"{PATH}/{call.id}/give-up").status_code == 404

    def test_giving_up_ends_it(self, alice_web: Client, call: Call) -> None:
        assert alice_web.post(f"{PATH}/{call.id}/give-up").status_code == 204
        assert Call.objects.get().ended_reason == "canceled"

    def test_a_call_that_is_connected_is_not_given_up(self, alice_web: Client, call: Call) -> None:
        Call.objects.update(answered_at=timezone.now())
        alice_web.post(f"{PATH}/{call.id}/give-up")
        assert Call.objects.get().ended_at is None


def check(client: Client, number: PhoneNumber) -> tuple[int, str]:
    response = client.post(CHECK, {"check-number": number.id})
    return response.status_code, response.content.decode()


def row(text: str, name: str) -> str:
    found = re.search(rf'<th scope="row"><code>{name}</code></th>(.*?)</tr>', text, re.DOTALL)
    assert found, name
    return found[1]


class TestCheck:
    def test_it_works(self, alice_web: Client, number: PhoneNumber, backend: Backend) -> None:
        status, text = check(alice_web, number)
        assert status == 200
        assert "The response is valid." in text
        ((headers, asked),) = backend.asked
        assert asked.keys() == {
            "callSid",
            "callerPhone",
            "callerNumber",
            "calledNumber",
            "direction",
            "timestamp",
        }
        assert "X-Veevo-Signature" in headers
        assert not Call.objects.exists()
        assert "ok" in row(text, "systemPrompt")
        assert "marin, the default." in row(text, "voice")
        assert Links(text).inline == []

    def test_credentials_are_masked(self, alice_web: Client, number: PhoneNumber) -> None:
        _, text = check(alice_web, number)
        assert TOKEN not in text
        assert KEY not in text
        assert PLAN["twilioAccountSid"] not in text
        assert f"({len(KEY)} characters)" in row(text, "openaiApiKey")

    def test_every_problem_is_at_its_field(
        self, alice_web: Client, number: PhoneNumber, backend: Backend
    ) -> None:
        tools = [{"name": "a b"}, {"name": "look_up"}]
        backend.says(PLAN | {"voice": "<b>", "openaiApiKey": [KEY], "tools": tools, "more": 1})
        status, text = check(alice_web, number)
        assert status == 200
        assert "The response is not valid." in text
        assert "Use one of alloy" in row(text, "voice")
        assert "&lt;b&gt;" in row(text, "voice")
        assert "Use a string of visible ASCII characters" in row(text, "openaiApiKey")
        assert KEY not in text
        assert "0.name: Use 1 to 64 letters" in row(text, "tools")
        assert "This field is required." in row(text, "onToolCallUrl")
        assert "<code>more</code>" in text

    @pytest.mark.parametrize(
        ("answer", "shown"),
        [
            ({"reject": True, "reason": "busy"}, "rejected as busy"),
            ({"reject": True, "message": "Closed."} | CREDENTIALS, "would hear “Closed.”"),
            ({"transfer": "+15559876543"} | CREDENTIALS, "transferred to +15559876543"),
            ({"transfer": "+15559876543"}, "A transfer is charged to your Twilio account."),
            (
                {"transfer": "+882130000000"} | CREDENTIALS,
                "Use a number in one of these countries: US, CA.",
            ),
            ([], "Respond with a JSON object."),
        ],
    )
    def test_other_answers(
        self, alice_web: Client, number: PhoneNumber, backend: Backend, answer: Any, shown: str
    ) -> None:
        backend.says(answer)
        assert shown in check(alice_web, number)[1]

    def test_a_model_that_openai_retires(
        self, alice_web: Client, number: PhoneNumber, backend: Backend
    ) -> None:
        backend.says(PLAN | {"model": "gpt-realtime-2025-08-28"})
        _, text = check(alice_web, number)
        assert "The response is valid." in text
        assert f"Use another model, such as {MODELS['gpt-realtime'].instead}." in text

    @pytest.mark.parametrize("name", HOSTILE)
    def test_hostile_answers(
        self, alice_web: Client, number: PhoneNumber, backend: Backend, name: str
    ) -> None:
        backend.answer = HOSTILE[name]
        status, text = check(alice_web, number)
        assert status == 200
        assert ("The response is valid." in text) is (name == hostile.ORDINARY)
        assert len(text) < 40_000

    @pytest.mark.parametrize(
        ("field", "shown"),
        [
            ("metadata", "Nest lists and objects at most 32 deep."),
            ("tools", "Nest lists and objects at most 32 deep."),
            ("voice", "nested too deep"),
            ("systemPrompt", "nested too deep"),
            ("unknown", "<code>unknown</code>"),
        ],
    )
    def test_a_field_that_is_nested_deep(
        self, alice_web: Client, number: PhoneNumber, backend: Backend, field: str, shown: str
    ) -> None:
        deep = b"[" * 900 + b"]" * 900
        backend.answer = json.dumps(PLAN)[:-1].encode() + b', "%s": %s}' % (field.encode(), deep)
        status, text = check(alice_web, number)
        assert status == 200
        assert shown in text

    def test_more_problems_than_are_shown(
        self, alice_web: Client, number: PhoneNumber, backend: Backend
    ) -> None:
        backend.says(PLAN | {"tools": [{}] * 128})
        _, text = check(alice_web, number)
        assert "19.name: Use 1 to 64 letters" in text
        assert "20.name" not in text
        assert "108 more problems are not shown." in text

    def test_what_is_not_json(
        self, alice_web: Client, number: PhoneNumber, backend: Backend
    ) -> None:
        backend.answer = b"<html>"
        assert "not JSON" in check(alice_web, number)[1]

    def test_a_bad_status(self, alice_web: Client, number: PhoneNumber, backend: Backend) -> None:
        backend.says({}, status=503)
        _, text = check(alice_web, number)
        assert ">503</span>" in text
        assert "Respond with a status from 200 to 299" in text

    def test_a_backend_that_is_not_there(self, alice: Account, alice_web: Client) -> None:
        number = number_of(alice, "http://127.0.0.1:1/start")
        assert "No response: no connection." in check(alice_web, number)[1]

    def test_private_addresses_stay_private(
        self, alice_web: Client, number: PhoneNumber, backend: Backend, settings: Any
    ) -> None:
        settings.CALLBACK_ALLOW_PRIVATE = False
        _, text = check(alice_web, number)
        assert "No response" in text
        assert backend.asked == []

    def test_a_number_of_another_account_is_not_found(
        self, bob_web: Client, number: PhoneNumber, backend: Backend
    ) -> None:
        assert check(bob_web, number)[0] == 404
        assert backend.asked == []

    def test_an_account_that_has_not_paid(
        self, carol: Account, carol_web: Client, backend: Backend
    ) -> None:
        status, text = check(carol_web, number_of(carol, backend.url))
        assert status == 402
        assert "Complete the checkout" in text
        assert backend.asked == []

    def test_it_is_limited(
        self,
        alice_web: Client,
        number: PhoneNumber,
        backend: Backend,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(throttling, "ACCOUNT_ATTEMPTS", 1)
        check(alice_web, number)
        status, text = check(alice_web, number)
        assert status == 429
        assert "Too many attempts" in text
        assert len(backend.asked) == 1
