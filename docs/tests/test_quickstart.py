"""Run the examples of Getting started in each language, from nothing to a call."""

from __future__ import annotations

import asyncio
import io
import re
import shutil
import subprocess
import sys
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import requests
from markdown_it import MarkdownIt

from devtools.tests.development import Development
from docs.guides import FOLDER
from docs.tests.backends import listening
from sandbox.constants import SANDBOX_ACCOUNT_SID, SANDBOX_AUTH_TOKEN
from sandbox.demo.console import Console
from sandbox.demo.payment import pay
from sandbox.demo.wire import Wire
from telephony.callbacks import payloads, signing
from telephony.callbacks.answers import parse_plan
from telephony.callbacks.payloads import CallFacts

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
# The program that runs an example, and the suffix of its file, by tab.
RUN_BY: dict[str, tuple[str, str]] = {
    "curl": ("bash", "sh"),
    "Python": (sys.executable, "py"),
    "Node": ("node", "mjs"),
}


def examples(variant: str) -> list[str]:
    """Return the code under a tab, in the guide's order, without the backend."""
    return [code for code in _code(variant) if not _is_backend(code)]


def backend(variant: str) -> str:
    (code,) = [code for code in _code(variant) if _is_backend(code)]
    return code


def _code(variant: str) -> list[str]:
    tokens = MarkdownIt().parse((FOLDER / "getting-started.md").read_text(encoding="utf-8"))
    fences = [token for token in tokens if token.type == "fence"]
    return [token.content for token in fences if token.info.endswith(f" {variant}")]


def _is_backend(code: str) -> bool:
    return "WEBHOOK_SECRET" in code


def program(folder: Path, variant: str, code: str) -> list[str | Path]:
    runner, ending = RUN_BY[variant]
    if shutil.which(runner) is None:
        pytest.skip(f"there is no {runner} here")
    file = folder / f"program.{ending}"
    file.write_text(code, encoding="utf-8")
    return [runner, file]


def output_of(folder: Path, variant: str, code: str) -> str:
    command = program(folder, variant, code)
    return subprocess.check_output(command, text=True, timeout=60)


def paid(url: str, key: str, checkout_url: str) -> None:
    async def pay_for_it() -> None:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
            api = Wire(session, url)
            api.authorize(key)
            await pay(api, Console(io.StringIO()), checkout_url)

    asyncio.run(pay_for_it())


@pytest.mark.django_db
@pytest.mark.parametrize("variant", RUN_BY)
def test_it_works(running: Development, tmp_path: Path, variant: str) -> None:
    number = f"+1202555{1000 + list(RUN_BY).index(variant)}"
    own = {
        "https://switchhook.example": running.url,
        "https://your-backend.com": f"{running.sandbox_url}/backend",
        "you@company.com": f"{variant.lower()}@example.com",
        "+15551234567": number,
        "AC0123456789abcdef0123456789abcdef": SANDBOX_ACCOUNT_SID,
        "your_twilio_auth_token": SANDBOX_AUTH_TOKEN,
    }

    def with_own(code: str) -> str:
        for placeholder, value in own.items():
            code = code.replace(placeholder, value)
        return code

    register, *rest = examples(variant)
    registered = output_of(tmp_path, variant, with_own(register))
    (key,) = re.findall(r"rtk_\w{38}", registered)
    (checkout_url,) = re.findall(r"checkoutUrl\W+(http[^'\"\s]+)", registered)
    paid(running.url, key, checkout_url)

    own["rtk_…"] = key
    said = output_of(tmp_path, variant, "\n".join(with_own(code) for code in rest))
    assert "ACTIVE" in said
    headers = {"Authorization": f"Bearer {key}"}
    numbers = requests.get(f"{running.url}/api/phone-numbers", headers=headers, timeout=20).json()
    assert [each["phoneNumber"] for each in numbers["phoneNumbers"]] == [number]
    calls = requests.get(f"{running.url}/api/calls", headers=headers, timeout=20).json()["calls"]
    assert [call["callerPhone"] for call in calls] == [number]
    assert calls[0]["callSid"] in said


def guides(folder: Path, variant: str) -> AbstractContextManager[str]:
    """Run the guide's backend; yield its URL."""
    return listening(program(folder, variant, backend(variant)), secret=SECRET)


@pytest.mark.parametrize("variant", ["Python", "Node"])
class TestBackend:
    """The backend handles each callback."""

    FACTS = CallFacts("CA" + "1" * 32, "+19805551234", "+15551234567", "inbound")

    def test_it_works(self, tmp_path: Path, variant: str) -> None:
        now = datetime.now(UTC)
        line = {"role": "user", "text": "Hello.", "timestamp": "2026-04-01T09:30:00.000Z"}
        end = payloads.call_end(
            self.FACTS,
            duration_seconds=47,
            ended_reason="caller_hangup",
            transcript=[line],
            tool_calls=[],
            cost_breakdown={"totalCost": 0.1},
            latency={"firstAudioMs": 840, "turnP50Ms": 720, "turnP95Ms": 1460},
            now=now,
        )
        error = payloads.error(self.FACTS, code="model_failed", message="Why.", now=now)
        with guides(tmp_path, variant) as url:
            start = self.post(f"{url}/calls/start", payloads.call_start(self.FACTS, now))
            plan: Any = parse_plan(start.json())
            assert "+19805551234" in plan.system_prompt
            assert self.post(f"{url}/calls/end", end).status_code == 200
            assert self.post(f"{url}/calls/error", error).status_code == 200

    def post(self, url: str, body: dict[str, Any]) -> requests.Response:
        data = payloads.encode(body)
        now = datetime.now(UTC)
        headers = signing.headers(data, secrets=[SECRET], message_id="msg_1", now=now)
        return requests.post(url, data=data, headers=headers, timeout=20)
