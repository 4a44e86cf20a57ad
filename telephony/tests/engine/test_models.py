"""What is known of OpenAI's models."""

from datetime import date
from typing import get_args

import pytest
from openai.types.realtime import realtime_session_create_request_param as openai_types

from telephony.engine import models
from telephony.engine.models import MODELS, lacks, model_of


def test_every_entry_is_complete():
    for model in MODELS.values():
        assert model.protocol in get_args(models.Protocol)
        assert model.prices or model.ends, model.name
        assert bool(model.ends) == bool(model.instead), model.name
        if model.instead:
            assert MODELS[model.instead].ends is None, "its replacement must last longer"


def test_the_default_model_has_prices_and_does_not_end():
    default = MODELS[models.DEFAULT_MODEL]
    assert (default.prices is not None, default.ends) == (True, None)


@pytest.mark.parametrize(
    ("name", "is_one_of"),
    [
        ("gpt-realtime", "gpt-realtime"),
        ("gpt-realtime-2025-08-28", "gpt-realtime"),
        ("gpt-realtime-mini-2025-12-15", "gpt-realtime-mini"),
        ("gpt-realtime-2", "gpt-realtime-2"),
        ("gpt-realtime-2.1-mini-2026-10-01", "gpt-realtime-2.1-mini"),
        ("gpt-realtime-3", None),
        ("gpt-realtime-minimal", None),
    ],
)
def test_a_dated_snapshot_is_its_model(name, is_one_of):
    model = model_of(name)
    assert (model and model.name) == is_one_of


def test_a_model_has_what_its_protocol_has_and_what_is_its_own():
    assert not lacks("gpt-realtime-1.5", "noise_reduction")
    assert lacks("gpt-realtime-1.5", "reasoning")
    assert not lacks("gpt-realtime-2-2026-10-01", "reasoning")
    assert lacks("gpt-live-1", "noise_reduction")
    assert not lacks("gpt-realtime-9", "reasoning"), "nobody knows"
    assert lacks("gpt-live-9", "other_hosts"), "its codec does not send it"


def test_models_end_when_openais_package_says_so():
    text = openai_types.__loader__.get_source(openai_types.__name__)
    announced = text.partition("Deprecated values:")[2].partition('"""')[0]
    names, _, rest = announced.partition("Announced shutdown date: ")
    named = [each for each in names.split('"')[1::2] if each.startswith("gpt-realtime")]
    known = filter(None, map(model_of, named))
    assert {each.ends for each in known} == {date.fromisoformat(rest[:10])}
