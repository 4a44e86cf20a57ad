"""The guides agree with the code."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
import requests
from django.contrib import admin
from django.core.management import get_commands, load_command_class
from django.test import Client
from markdown_it import MarkdownIt

from accounts.models import Account
from accounts.services import MAX_ACTIVE_KEYS
from billing.metering.delivery import OLDEST
from billing.models import MeterEvent, MeterProblem, StatusCheck, StripeCustomer
from core.schema import document
from docs.guides import FOLDER, GUIDES, SKILL
from docs.tests.backends import listening
from operations import figures, incidents
from sandbox.constants import SANDBOX_ACCOUNT_SID, SANDBOX_AUTH_TOKEN, SANDBOX_OPENAI_KEY
from sandbox.payments.business.cards import CARDS
from sandbox.phone.callees import Answers
from telephony.callbacks import on_call_start, outbox, payloads, schedule, signing, tools
from telephony.callbacks.answers import parse_plan
from telephony.callbacks.payloads import CallFacts
from telephony.engine.codes import ErrorCode
from telephony.idempotency import KEPT
from telephony.models import SILENT_AFTER, Call, PhoneNumber

ROOT = Path(__file__).resolve().parents[2]
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = '{"callSid":"CA1","text":"Grüße"}'.encode()


def blocks(slug: str, language: str) -> list[str]:
    """Return the code of a guide in a language."""
    tokens = MarkdownIt().parse((FOLDER / f"{slug}.md").read_text(encoding="utf-8"))
    return [token.content for token in tokens if token.type == "fence" and token.info == language]


def rows(slug: str, first: str) -> dict[str, list[str]]:
    """Return the rows of tables with this first header, by their first cell."""
    text = (FOLDER / f"{slug}.md").read_text(encoding="utf-8")
    tables = re.findall(rf"^\| {first} \|.*\n(?:\|.*\n)+", text, re.MULTILINE)
    lines = [line for table in tables for line in table.splitlines()[2:]]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {name: rest for name, *rest in cells}


def codes(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


class TestCallConfiguration:
    def test_the_answers_that_it_shows_can_be_used(self) -> None:
        (least,) = (json.loads(block) for block in blocks("getting-started", "json"))
        parse_plan(least)
        shown = [json.loads(block) for block in blocks("call-configuration", "json")]
        answers = [answer for answer in shown if "parameters" not in answer]
        assert len(answers) == 3
        for answer in answers:
            is_whole = answer.keys() & {"reject", "transfer"}
            parse_plan(answer if is_whole else least | answer)

    def test_every_builtin_tool(self) -> None:
        described = document()["components"]["schemas"]["CallConfiguration"]["properties"]
        tools = {codes(name)[0] for name in rows("call-configuration", "tool")}
        assert tools == set(described["builtinTools"]["items"]["enum"])


class TestReasonsAndErrors:
    def test_every_status(self) -> None:
        in_document = {
            status
            for methods in document()["paths"].values()
            for operation in methods.values()
            for status in operation["responses"]
            if status >= "400"
        }
        # Three are about how a request is sent; the API reference is enough for those.
        assert set(rows("reasons-and-errors", "status")) == in_document - {"406", "411", "415"}


class TestCallbacks:
    def test_what_is_sent(self) -> None:
        schemas = document()["components"]["schemas"]
        table = {codes(name)[0]: row for name, row in rows("callbacks", "callback").items()}
        assert set(table) == set(document()["webhooks"])
        for name, webhook in document()["webhooks"].items():
            body = webhook["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
            assert codes(table[name][0]) == list(schemas[body.rpartition("/")[2]]["properties"])

    def test_how_long_it_may_take(self) -> None:
        times = {
            "onCallStart": on_call_start.TIMEOUT_SECONDS,
            "onToolCall": tools.TIMEOUT_SECONDS,
            "onCallEnd": outbox.TIMEOUT_SECONDS,
            "onError": outbox.TIMEOUT_SECONDS,
        }
        for name, row in rows("callbacks", "callback").items():
            assert row[2].startswith(f"{times[codes(name)[0]]:g} s"), name

    def test_when_it_is_retried(self) -> None:
        text = (FOLDER / "callbacks.md").read_text(encoding="utf-8")
        (sentence,) = re.findall(r"retries them after ([^.]+), each", text.replace("\n", " "))
        units = {"seconds": 1, "minutes": 60, "hours": 3600}
        told = [int(number) * units[unit] for number, unit in re.findall(r"(\d+) (\w+)", sentence)]
        assert told == [delay.total_seconds() for delay in schedule.RETRY_DELAYS]

    def test_every_header(self) -> None:
        headers = {codes(name)[0] for name in rows("callbacks", "header")}
        assert headers == {each["name"] for each in document()["components"]["parameters"].values()}


def signed(secret: str = SECRET, *, now: datetime | None = None) -> dict[str, str]:
    """Return the headers of a callback with ``BODY``."""
    return signing.headers(BODY, secrets=[secret], message_id="msg_1", now=now or datetime.now(UTC))


def module_of(code: str) -> ModuleType:
    module = ModuleType("of_a_guide")
    exec(compile(code, "docs/callbacks.md", "exec"), module.__dict__)  # noqa: S102
    return module


class TestSignaturesInPython:
    @pytest.fixture
    def is_from_switchhook(self) -> Any:
        return module_of(blocks("callbacks", "python")[1]).is_from_switchhook

    def test_it_works(self, is_from_switchhook: Any) -> None:
        assert is_from_switchhook(SECRET, signed(), BODY)

    def test_during_a_rotation(self, is_from_switchhook: Any) -> None:
        new = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
        headers = signing.headers(
            BODY, secrets=[new, SECRET], message_id="msg_1", now=datetime.now(UTC)
        )
        assert is_from_switchhook(SECRET, headers, BODY)
        assert is_from_switchhook(new, headers, BODY)

    def test_a_forged_or_old_callback_is_refused(self, is_from_switchhook: Any) -> None:
        long_ago = datetime(2026, 4, 1, tzinfo=UTC)
        assert not is_from_switchhook(SECRET, signed(), BODY + b" ")
        assert not is_from_switchhook(SECRET, signed("whsec_" + "A" * 32), BODY)
        assert not is_from_switchhook(SECRET, signed(now=long_ago), BODY)

    def test_the_other_signature(self) -> None:
        is_signed = module_of(blocks("callbacks", "python")[2]).is_signed
        signature = signed()["X-Veevo-Signature"]
        assert is_signed(SECRET, signature, BODY)
        assert not is_signed(SECRET, signature, BODY + b" ")
        assert not is_signed("whsec_other", signature, BODY)


class TestOperations:
    def test_every_kind_of_meter_problem(self) -> None:
        kinds = {codes(name)[0] for name in rows("operations", "kind")}
        assert kinds == set(MeterProblem.Kind.values)

    def test_the_actions_that_it_names_are_there(self) -> None:
        text = (FOLDER / "operations.md").read_text(encoding="utf-8").replace("\n", " ")
        for model, action in (
            (MeterEvent, "Send rejected events again"),
            (MeterProblem, "Mark as resolved"),
            (StatusCheck, "Check with Stripe now"),
            (StripeCustomer, "Check with Stripe now"),
            (Account, "Suspend the selected accounts"),
            (PhoneNumber, "Release the selected numbers"),
            (Call, "Hang up the selected calls"),
        ):
            page = admin.site.get_model_admin(model)
            actions = [page.get_action(name) for name in page.actions]
            assert action in [found[2] for found in actions if found], action
            assert f"*{action}*" in text

    def test_the_first_check_of_an_engine(self) -> None:
        text = (FOLDER / "production.md").read_text(encoding="utf-8")
        response = Client().post("/voice")
        assert f"returns {response.status_code},\n   `{response.content.decode().strip()}`" in text

    def test_the_numbers(self) -> None:
        text = " ".join((FOLDER / "operations.md").read_text(encoding="utf-8").split())
        assert f"none counts further than {figures.MOST:,}" in text
        minute = timedelta(minutes=1)
        assert (2 * minute, 5 * minute) == (incidents.HOLDS_FOR, incidents.CLEAR_FOR)
        assert "has lasted for two minutes. It is over once it has been gone for five." in text
        assert (incidents.MOST_AN_HOUR, incidents.KEPT_FOR.days) == (10, 90)
        assert "of at most ten incidents an hour" in text
        assert f"within the last {SILENT_AFTER.seconds} seconds" in text
        assert f"within the {OLDEST.days} days" in text


class TestLimits:
    def test_the_numbers(self) -> None:
        limits = rows("callbacks", "limit")
        assert limits["active API keys per account"][0] == str(MAX_ACTIVE_KEYS)
        on_the_way = limits["deliveries in progress per account"][0]
        assert on_the_way.startswith(f"{outbox.UNDER_WAY_PER_ACCOUNT},")
        text = (FOLDER / "callbacks.md").read_text(encoding="utf-8").replace("\n", " ")
        assert f"The key works for {KEPT.total_seconds() / 3600:g} hours" in text

    def test_the_codes(self) -> None:
        text = (FOLDER / "callbacks.md").read_text(encoding="utf-8")
        described = json.dumps(document())
        for code in re.findall(r"4\d\d `(\w+)`", text):
            assert f"`{code}`" in described, code


class TestSkill:
    def test_both_signatures(self) -> None:
        (code,) = blocks("SKILL", "python")
        module = module_of(code)
        for check in (module.is_from_switchhook, module.has_the_other_signature):
            assert check(SECRET, signed(), BODY)
            assert not check(SECRET, signed(), BODY + b" ")
            assert not check("whsec_" + "A" * 32, signed(), BODY)

    def test_its_answer_can_be_used(self) -> None:
        (answer,) = blocks("SKILL", "json")
        parse_plan(json.loads(answer))

    def test_how_long_answers_may_take(self) -> None:
        told = {name: row[1] for name, row in rows("SKILL", "route").items()}
        seconds = {
            "onCallStart": on_call_start.TIMEOUT_SECONDS,
            "onToolCall": tools.TIMEOUT_SECONDS,
            "onCallEnd": outbox.TIMEOUT_SECONDS,
            "onError": outbox.TIMEOUT_SECONDS,
        }
        assert told == {name: f"{limit:g} s" for name, limit in seconds.items()}

    def test_every_path_and_code_exists(self) -> None:
        text = (FOLDER / "SKILL.md").read_text(encoding="utf-8")
        known = set(document()["paths"])
        for path in re.findall(r"(?:GET|POST) (/api/[a-z/-]+)", text):
            assert path in known
        for code in re.findall(r"40\d `(\w+)`", text):
            assert code in json.dumps(document())
        for code in ("account_sid_mismatch", "invalid_twilio_signature", "call_start_bad_answer"):
            assert code in text
            assert code in list(ErrorCode)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run the backend of the guide; return its URL."""
    file = tmp_path_factory.mktemp("guide") / "backend.py"
    file.write_text(blocks("callbacks", "python")[0], encoding="utf-8")
    with listening([sys.executable, file], secret=SECRET) as backend:
        yield backend


class TestBackend:
    """The backend handles each callback."""

    @pytest.fixture
    def facts(self) -> CallFacts:
        return CallFacts("CA" + "1" * 32, "+19805551234", "+15551234567", "inbound")

    def test_it_configures_calls(self, url: str, facts: CallFacts) -> None:
        body = payloads.call_start(facts, datetime.now(UTC))
        plan: Any = parse_plan(self.post(f"{url}/calls/start", body).json())
        assert "+19805551234" in plan.system_prompt
        assert plan.on_tool_call_url == "https://your-backend.com/calls/tool"

    def test_it_runs_the_tool(self, url: str, facts: CallFacts) -> None:
        arguments = {"number": "A-1001"}
        body = payloads.tool_call(facts, "look_up_order", arguments, datetime.now(UTC))
        assert self.post(f"{url}/calls/tool", body).json() == {
            "result": "Order A-1001 is in the oven."
        }

    def test_it_accepts_the_end(self, url: str, facts: CallFacts) -> None:
        line = {"role": "user", "text": "Hello.", "timestamp": "2026-04-01T09:30:00.000Z"}
        body = payloads.call_end(
            facts,
            duration_seconds=47,
            ended_reason="caller_hangup",
            transcript=[line],
            tool_calls=[],
            cost_breakdown={"totalCost": 0.1},
            latency={"firstAudioMs": 840, "turnP50Ms": 720, "turnP95Ms": 1460},
            now=datetime.now(UTC),
        )
        assert self.post(f"{url}/calls/end", body).status_code == 200

    def test_it_accepts_errors(self, url: str, facts: CallFacts) -> None:
        body = payloads.error(facts, code="model_failed", message="Why.", now=datetime.now(UTC))
        assert self.post(f"{url}/calls/error", body).status_code == 200

    def post(self, url: str, body: dict[str, Any]) -> requests.Response:
        data = payloads.encode(body)
        now = datetime.now(UTC)
        headers = signing.headers(data, secrets=[SECRET], message_id="msg_1", now=now)
        return requests.post(url, data=data, headers=headers, timeout=20)


class TestSandbox:
    def test_the_options_of_simulate_call(self) -> None:
        command = load_command_class(get_commands()["simulate_call"], "simulate_call")
        parser = command.create_parser("manage.py", "simulate_call")
        options = {
            option
            for action in parser._actions
            for option in action.option_strings
            if option.startswith("--") and action.dest not in _OF_EVERY_COMMAND
        }
        told = {option for name in rows("sandbox", "option") for option in codes(name)}
        assert told == options

    def test_its_credentials(self) -> None:
        told = {codes(name)[0]: codes(row[0])[0] for name, row in rows("sandbox", "field").items()}
        assert told == {
            "twilioAccountSid": SANDBOX_ACCOUNT_SID,
            "twilioAuthToken": SANDBOX_AUTH_TOKEN,
            "openaiApiKey": SANDBOX_OPENAI_KEY,
        }

    def test_the_cards(self) -> None:
        table = {
            number.replace(" ", ""): what
            for numbers, (what,) in rows("sandbox", "card").items()
            for number in codes(numbers)
        }
        assert table == {card.number: card.what for card in CARDS}

    def test_who_can_answer(self) -> None:
        told = codes(rows("sandbox", "option")["`--answers`"][0])
        assert tuple(told) == get_args(Answers)

    def test_the_steps_of_a_script(self) -> None:
        own_words = (ROOT / "sandbox" / "model" / "README.md").read_text(encoding="utf-8")
        shown = codes(" ".join(rows("sandbox", "step")))
        told = {next(iter(json.loads(step))) for step in shown if step.startswith("{")}
        assert told == set(re.findall(r'^\| `\{"(\w+)"', own_words, re.MULTILINE))


_OF_EVERY_COMMAND = {
    "help", "version", "verbosity", "settings", "pythonpath", "traceback", "no_color",
    "force_color", "skip_checks",
}  # fmt: skip


class TestProduction:
    def test_every_command_exists(self) -> None:
        files = [FOLDER / f"{slug}.md" for slug in (*GUIDES, SKILL)]
        for file in (*files, ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
            for name in re.findall(r"manage\.py ([a-z]\w+)", file.read_text(encoding="utf-8")):
                assert name in get_commands(), (file.name, name)
