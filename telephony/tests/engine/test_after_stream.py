"""The next step after the media stream, as JSON and back."""

from __future__ import annotations

import pytest

from telephony.engine.after_stream import APOLOGY, AfterStream, Dial, Say, as_json, from_json


@pytest.mark.parametrize(
    ("after", "kept"),
    [
        (Say("Goodbye."), {"say": "Goodbye."}),
        (Dial("+15559876543", ""), {"transfer": "+15559876543", "caller_id": ""}),
        (
            Dial("+15559876543", "+15551234567"),
            {"transfer": "+15559876543", "caller_id": "+15551234567"},
        ),
        (None, {}),
    ],
)
def test_from_json_reverses_as_json(after: AfterStream, kept: dict[str, str]) -> None:
    assert as_json(after) == kept
    assert from_json(kept) == after


def test_a_transfer_without_a_decision_about_the_caller_id_omits_it() -> None:
    assert as_json(Dial("+15559876543")) == {"transfer": "+15559876543"}


def test_without_a_record_the_caller_hears_an_apology() -> None:
    assert from_json(None) == Say(APOLOGY)
