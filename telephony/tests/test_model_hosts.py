"""Where a configuration may have its model, and how a call signs in there."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pytest_django import Settings

from telephony.callbacks.answers import decide
from telephony.callbacks.problems import PlanError
from telephony.engine.plan import CallPlan
from telephony.model_hosts import credentials
from telephony.tests.callbacks.test_answers import REQUIRED
from telephony.tests.engine.conversation import PLAN
from telephony.voice.model_side import url_of

AZURE = "https://kitchen.openai.azure.com/openai/v1"


def at(url: str, **changes: object) -> CallPlan:
    plan = decide({**REQUIRED, "openaiBaseUrl": url, **changes})
    assert isinstance(plan, CallPlan)
    return plan


@pytest.mark.parametrize(
    ("base", "url", "header"),
    [
        ("", "wss://api.openai.com/v1/realtime?model=gpt-realtime-1.5", "Authorization"),
        (AZURE, f"wss{AZURE[5:]}/realtime?model=gpt-realtime-1.5", "api-key"),
        (f"{AZURE}/", f"wss{AZURE[5:]}/realtime?model=gpt-realtime-1.5", "api-key"),
        (
            "https://eu.api.openai.com/v1",
            "wss://eu.api.openai.com/v1/realtime?model=gpt-realtime-1.5",
            "Authorization",
        ),
    ],
)
def test_the_model_is_where_the_configuration_says(
    base: str, url: str, header: str, settings: Settings
) -> None:
    settings.OPENAI_REALTIME_URL = "wss://api.openai.com/v1/realtime"
    plan = at(base)
    assert url_of(plan) == url
    (name,) = credentials(plan.openai_base_url, "sk-1")
    assert name == header


def test_a_live_model_is_at_openai(settings: Settings) -> None:
    settings.OPENAI_LIVE_URL = "wss://api.openai.com/v1/live/sessions"
    assert url_of(replace(PLAN, model="gpt-live-1")) == settings.OPENAI_LIVE_URL
    with pytest.raises(PlanError) as refused:
        at(AZURE, model="gpt-live-1")
    assert list(refused.value.fields) == ["openaiBaseUrl"]


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/openai/v1",
        "https://openai.azure.com/openai/v1",
        "https://kitchen.openai.azure.com.evil.example/v1",
        "https://evil-openai.azure.com/v1",
        "https://us.eu.api.openai.com/v1",
        "https://127.0.0.1/v1",
        "http://kitchen.openai.azure.com/openai/v1",
        "wss://kitchen.openai.azure.com/openai/v1",
        "https://user@kitchen.openai.azure.com/v1",
        "https://evil.example\\.openai.azure.com/v1",
        "https://kitchen.openai.azure.com:8443/v1",
        "https://kitchen.openai.azure.com/v1?api-version=1",
        "https://kitchen.openai.azure.com/v1#x",
        "https://kitchen.openai.azure.com/../v1",
        "https://KITCHEN.openai.azure.com/v1",
        7,
    ],
)
def test_a_key_is_sent_to_no_other_host(url: object) -> None:
    with pytest.raises(PlanError) as refused:
        decide({**REQUIRED, "openaiBaseUrl": url})
    assert list(refused.value.fields) == ["openaiBaseUrl"]


def test_an_operator_chooses_the_hosts(settings: Settings) -> None:
    settings.OPENAI_HOSTS = ["models.company.com"]
    assert at("https://models.company.com").openai_base_url == "https://models.company.com"
    with pytest.raises(PlanError) as refused:
        at(AZURE)
    assert refused.value.fields == {"openaiBaseUrl": ["Use a host such as models.company.com."]}
