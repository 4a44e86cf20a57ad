"""What is written down for the end of the media stream is what happens then."""

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
def test_it_is_read_as_it_was_written(after: AfterStream, kept: dict[str, str]) -> None:
    assert as_json(after) == kept
    assert from_json(kept) == after


def test_a_transfer_without_a_decision_about_the_caller_id_says_nothing_of_it() -> None:
    assert as_json(Dial("+15559876543")) == {"transfer": "+15559876543"}


def test_where_nothing_was_written_the_caller_hears_an_apology() -> None:
    assert from_json(None) == Say(APOLOGY)
