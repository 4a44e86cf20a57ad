"""A plan as JSON types for sealing, and back."""

import json
from dataclasses import replace

import pytest

from telephony.engine.plan import CallPlan, Tool, plan_as_dict, plan_from_dict

LEAST = CallPlan("AC" + "0" * 32, "token", "sk-1", "Be brief.")
PLAN = replace(
    LEAST,
    on_tool_call_url="https://backend.example/tool",
    tools=(Tool("look_up", "Looks up.", {"type": "object"}), Tool("book")),
    builtin_tools=("send_dtmf", "end_call"),
    transfer_numbers=("+15551234567",),
    metadata={"a": [1]},
    is_test=True,
)


def test_a_plan_survives_being_sealed():
    assert plan_from_dict(json.loads(json.dumps(plan_as_dict(PLAN)))) == PLAN


@pytest.mark.parametrize(("asked_s", "lasts_s"), [(60, 60), (14_100, 3_300)])
def test_a_test_call_lasts_an_hour_at_most(asked_s, lasts_s):
    plan = replace(LEAST, max_duration_seconds=asked_s).as_test()
    assert (plan.is_test, plan.max_duration_seconds) == (True, lasts_s)


def test_metadata_stays_a_list():
    plan = replace(LEAST, metadata=[1, 2])
    assert plan_from_dict(json.loads(json.dumps(plan_as_dict(plan)))) == plan


def test_a_plan_does_not_print_its_credentials():
    secret = dict.fromkeys(("twilio_auth_token", "openai_api_key", "system_prompt"), "canary")
    assert "canary" not in repr(replace(LEAST, **secret))


def test_a_plan_that_was_sealed_before_a_field_existed_gets_its_default():
    sealed = plan_as_dict(LEAST)
    del sealed["transfer_numbers"], sealed["tools"]
    assert plan_from_dict(sealed) == LEAST


def test_unknown_fields_of_a_sealed_plan_are_ignored():
    sealed = plan_as_dict(PLAN)
    newer = {
        **sealed,
        "mood": "cheerful",
        "tools": [{**tool, "strict": True} for tool in sealed["tools"]],
    }
    del newer["voice"]
    assert plan_from_dict(newer) == PLAN


def test_a_sealed_plan_without_a_required_field_is_refused():
    sealed = plan_as_dict(LEAST)
    del sealed["openai_api_key"]
    with pytest.raises(TypeError):
        plan_from_dict(sealed)
