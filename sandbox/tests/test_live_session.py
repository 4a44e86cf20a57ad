"""A session of GPT-Live, event by event. OpenAI's own types judge everything on both sides."""

import base64
import json
from typing import Any

import pytest

from sandbox import speech
from sandbox.model import (
    Call,
    Close,
    Drop,
    Error,
    Expire,
    Fail,
    Hold,
    Incomplete,
    Say,
    Stall,
    Wait,
    When,
)
from sandbox.tests.live import (
    CREATE,
    DELEGATED,
    DELTA,
    Client,
    append,
    backend,
    calls,
    note,
    responses,
    result,
    session_start,
    transcript,
    typed,
)
from sandbox.tests.models import audio_of, function_tool, heard, of, only

LOOK_UP = function_tool("look_up_order", number="string")
CLIENT = {"type": "client"}


def start(*tools: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return session_start(delegation=responses(*tools), **changes)


def calling(*turns: Any, text: str = "Where is my order A-1?") -> tuple[Client, list[Any]]:
    """Return a client for whom the backend has just called a tool."""
    client = Client(*turns, start=start(LOOK_UP))
    return client, client.say(text)


def test_it_works() -> None:
    client, events = calling()
    [call] = calls(events)

    assert only(client.opening, "session.started")["client_event_id"] == "start_1"
    assert transcript(events, "input") == " Where is my order A-1?"
    assert heard(events) == "One moment."
    assert (call["name"], call["arguments"]) == ("look_up_order", '{"number": "A-1"}')

    client.send(result(call["call_id"], '{"status": "shipped"}'), CREATE)
    events = client.wait(5_000)
    assert heard(events) == "The result is: status shipped."
    assert transcript(events, "output") == " The result is: status shipped."


# The session


def test_the_session_starts_with_what_was_asked_for() -> None:
    session = only(Client().opening, "session.started")["session"]

    assert session["id"].startswith("live_")
    assert (session["expires_at"], session["model"]) == (3_600, "gpt-live-1.1")
    assert session["audio"]["format"] == {"type": "audio/pcmu", "rate": 8000}
    assert session["delegation"]["responses"]["model"] == "gpt-6-luna"


def test_without_a_delegation_the_client_does_the_work() -> None:
    session = only(Client(start=session_start(delegation=None)).opening, "session.started")

    assert session["session"]["delegation"] == CLIENT


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"model": "gpt-realtime-2"}, "invalid_model"),
        ({"model": "gpt-live-9"}, "model_not_found"),
        ({"temperature": 1}, "unknown_parameter"),
        ({"tools": []}, "unknown_parameter"),
        ({"audio": {"format": {"type": "audio/pcmu"}}}, "missing_required_parameter"),
        ({"audio": None}, "unsupported_audio_format"),
        ({"instructions": "long" * 16_385}, "string_above_max_length"),
        ({"instructions": "```sandbox\n[{]\n```"}, "invalid_value"),
    ],
)
def test_a_session_that_is_refused(changes: dict[str, Any], code: str) -> None:
    """The error comes in place of session.started, does not say to what, and the socket goes."""
    error, end = Client(start=session_start(**changes)).opening

    assert error["error"]["code"] == code
    assert "client_event_id" not in error["error"]
    assert end == Close(1000)


def test_the_socket_of_a_refused_session_goes_after_two_seconds() -> None:
    client = Client(start={"type": "session.close"})
    client.session.advance(0)
    client.session.receive('{"type": "session.start", "session": {"model": "gpt-4"}}')
    [error] = client.session.take()
    client.session.advance(1_999)

    assert error["type"] == "error"
    assert client.session.take() == []
    client.session.advance(2_000)
    assert client.session.take() == [Close(1000)]


def test_nothing_else_comes_before_the_start() -> None:
    client = Client(start={"type": "session.input_audio.mute"})

    assert only(client.opening, "error")["error"]["code"] == "session_not_started"
    assert of(client.send(session_start()), "session.started")
    assert client.error(session_start())["code"] == "session_already_started"


def test_tools_are_replaced_and_other_fields_merged() -> None:
    client = Client(start=start(LOOK_UP))
    other = function_tool("book_table", guests="integer")
    changes = {"type": "responses", "responses": {"tools": [other], "instructions": "Be brief."}}
    updated = only(
        client.send(
            {"type": "session.update", "event_id": "u1", "session": {"delegation": changes}}
        ),
        "session.updated",
    )

    backend = updated["session"]["delegation"]["responses"]
    assert updated["client_event_id"] == "u1"
    assert backend == {"model": "gpt-6-luna", "tools": [other], "instructions": "Be brief."}
    [call] = calls(client.say("Book a table for 4"))
    assert call["arguments"] == '{"guests": 4}'


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"instructions": "New"}, "session.instructions"),
        ({"model": "gpt-live-1"}, "session.model"),
        ({"delegation": CLIENT}, "session.delegation.type"),
    ],
)
def test_what_is_fixed_at_the_start(changes: dict[str, Any], param: str) -> None:
    error = Client().error({"type": "session.update", "session": changes, "event_id": "u1"})

    assert (error["code"], error["param"]) == ("immutable_field_update", param)
    assert error["client_event_id"] == "u1"


def test_closing_confirms_the_usage() -> None:
    client = Client()
    client.wait(2_500)
    closed, end = client.send({"type": "session.close", "event_id": "bye"})

    assert (closed["reason"], closed["client_event_id"]) == ("close_requested", "bye")
    assert closed["usage"] == {"seconds": 2.5}
    assert closed["session"]["status"] == "active"
    assert end == Close(1000)


# Audio


def test_the_output_is_a_stream_with_silence_in_it() -> None:
    """As much comes out as goes in, in chunks of 100 ms without ids and times."""
    events = Client().wait(1_050)

    assert [event.keys() for event in events] == [{"type", "delta"}] * 10
    assert audio_of(events) == b"\xff" * 8_000


def test_without_input_nothing_happens() -> None:
    client = Client()

    assert client.send(note("commentary", "Hello.")) == []
    events = client.wait(2_000)
    assert of(events, "session.commentary.appended")
    assert heard(events) == "Hello."


def test_the_clock_does_not_run_ahead_of_real_time() -> None:
    """Audio that was sent at once is heard with the time, except for the first second of it."""
    client = Client(start={"type": "session.input_audio.mute"})
    session = client.session
    session.advance(10_000)
    session.receive(json.dumps(session_start()))
    session.receive(json.dumps(append(speech.SILENCE * 100)))
    session.advance(10_000)
    assert len(of(session.take(), DELTA)) == 10

    assert session.next_ms == 10_100
    session.advance(10_250)
    assert len(of(session.take(), DELTA)) == 2
    session.advance(20_000)
    assert len(of(session.take(), DELTA)) == 8
    assert session.next_ms is None


def test_audio_must_be_base64() -> None:
    error = Client().error({"type": "session.input_audio.append", "audio": "???"})

    assert error["code"] == "invalid_audio"


def test_a_muted_caller_is_not_heard() -> None:
    client = Client()
    [muted] = client.send({"type": "session.input_audio.mute", "event_id": "m1"})
    events = client.say("Hello")

    assert (muted["type"], muted["client_event_id"]) == ("session.input_audio.muted", "m1")
    assert transcript(events, "input") == heard(events) == ""
    assert len(of(events, DELTA)) > 30

    [unmuted] = client.send({"type": "session.input_audio.unmute"})
    assert unmuted["type"] == "session.input_audio.unmuted"
    assert heard(client.say("Hello", 4_000)).startswith("I understood: Hello")


def test_a_fixture_is_played_in_place_of_the_voice() -> None:
    client = Client()
    audio = append_fixture(b"\x00\x40" * 24 * 500)
    [playing] = client.send({**audio, "event_id": "f1"})
    assert playing["type"] == "session.output_audio.fixture.playing"
    assert client.error(note("thinking", "Later"))["code"] == "audio_fixture_active"

    events = client.say("Hello", 3_000)
    played = only(events, "session.output_audio.fixture.played")
    assert played["client_event_id"] == "f1"
    assert len(audio_of(events).rstrip(b"\xff")) == 4_000
    assert transcript(events, "input") == ""


@pytest.mark.parametrize("audio", [b"", b"\x00" * 3, b"\x00" * 48 * 30_001])
def test_a_fixture_that_is_refused(audio: bytes) -> None:
    assert Client().error(append_fixture(audio))["code"] == "invalid_audio"


def append_fixture(audio: bytes) -> dict[str, Any]:
    encoded = base64.b64encode(audio).decode()
    return {"type": "session.output_audio.fixture.play", "audio": encoded}


# Turns and transcripts


def test_transcripts_are_on_a_grid_and_bring_their_spaces() -> None:
    events = Client(Say("Good morning to you")).say("Hello there", 5_000)

    for side, text in (("input", " Hello there"), ("output", " Good morning to you")):
        fragments = of(events, f"session.{side}_transcript.delta")
        assert transcript(events, side) == text
        assert len(fragments) > 2
        for fragment in fragments:
            assert fragment["start_ms"] % 200 == 0
            assert fragment["end_ms"] == fragment["start_ms"] + 200
    assert heard(events) == "Good morning to you"


def test_transcripts_can_be_late_or_missing() -> None:
    client = Client(transcripts_ms=[None, 2_000])

    assert transcript(client.say("One"), "input") == ""
    assert transcript(client.say("Two", 1_500), "input") == ""
    assert transcript(client.wait(1_000), "input") == " Two"


def test_the_model_falls_silent_when_it_is_interrupted() -> None:
    client = Client(Say("This is a very long story about a little dog"), Say("Sorry"))
    client.say("Hello", 1_500)
    before = heard(client.play(speech.frames("Stop now please")))
    events = client.wait(3_000)

    assert "dog" not in before
    assert heard(events) == "Sorry"
    assert transcript(events, "output") == " Sorry"


def test_a_caller_who_goes_on_speaking_is_answered_once() -> None:
    client = Client()
    first = client.say("My order", 600)
    second = client.say("is A-1", 6_000)

    assert heard(first) == ""
    assert heard(second) == "I understood: My order is A-1. What else can I do for you?"


def test_a_script_in_the_prompt_of_either_model() -> None:
    block = '```sandbox\n[{"say": "Hi"}]\n```'
    voice = Client(start=session_start(instructions=block))
    delegation = {"type": "responses", "responses": {"model": "m", "instructions": block}}
    backend = Client(start=session_start(delegation=delegation))

    assert heard(voice.say("Hello")) == heard(backend.say("Hello")) == "Hi"


def test_the_steps_of_a_turn() -> None:
    client = Client((Say("One"), Wait(1_000), Say("Two")), Stall(), Say("Three", stall_at_ms=80))
    events = client.say("Hello", 4_000)

    assert heard(events) == "One Two"
    assert heard(client.say("Hello")) == ""
    assert heard(client.say("Hello")) == "T"


# What the client tells the model


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ('Greet the caller now by saying exactly this: "Welcome to Ada\'s."', "Welcome to Ada's."),
        ('Greet the caller now in English: "Good day." Then listen.', "Good day."),
        ("Greet the caller now.", "Hello, how can I help you?"),
    ],
)
def test_an_order_to_greet_is_followed(order: str, words: str) -> None:
    client = Client()
    client.send(note("instructions", order, event_id="i1"))
    events = client.wait(3_000)

    appended = only(events, "session.instructions.appended")
    assert (appended["client_event_id"], appended["start_ms"]) == ("i1", 200)
    assert heard(events) == words


def test_an_order_without_words_takes_the_first_turn() -> None:
    client = Client(Say("Welcome"), Say("Goodbye"))
    client.send(note("instructions", "Greet the caller."))

    assert heard(client.wait(2_000)) == "Welcome"
    assert heard(client.say("Bye")) == "Goodbye"


def test_an_order_cuts_into_speech_and_commentary_does_not() -> None:
    client = Client(Say("This is a very long story about a little dog"))
    client.say("Hello", 1_500)
    client.send(note("commentary", "It is late."))
    both = heard(client.wait(4_000))
    client.send(note("instructions", 'Say: "Stop."'))

    assert both.endswith("dog It is late.")
    assert heard(client.wait(2_000)) == "Stop."


@pytest.mark.parametrize("kind", ["instructions", "thinking"])
def test_what_is_only_to_be_known_is_not_said(kind: str) -> None:
    client = Client()
    client.send(note(kind, "The shop is closed."))

    events = client.wait(2_000)
    assert of(events, f"session.{kind}.appended")
    assert heard(events) == ""


def test_a_text_of_more_than_500_tokens_is_refused() -> None:
    client = Client()

    assert client.error(note("thinking", "long" * 501))["param"] == "content"
    assert client.send(note("thinking", "long" * 500)) == []
    assert of(client.wait(300), "session.thinking.appended")


def test_a_delegation_id_must_be_there_and_may_be_null() -> None:
    client = Client()
    absent = note("thinking", "x")
    del absent["delegation_id"]

    assert client.error(absent)["param"] == "delegation_id"
    assert client.error(note("thinking", "x", delegation_id="item_1"))["code"] == "invalid_value"


# Work for the backend


def test_the_backend_reports_a_call_in_the_order_of_the_real_one() -> None:
    _, events = calling()
    delegated = only(events, DELEGATED)
    wrapped = of(events, "response.event")
    inner = backend(events)

    assert {event["delegation_id"] for event in wrapped} == {delegated["delegation"]["id"]}
    assert [event["type"].removeprefix("response.") for event in inner] == [
        "created",
        "in_progress",
        "output_item.added",
        *["function_call_arguments.delta"] * 2,
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert [event["sequence_number"] for event in inner] == list(range(8))
    completed = inner[-1]["response"]
    assert completed["id"] == delegated["delegation"]["response_id"]
    assert (completed["output"], completed["tools"]) == ([], [])
    assert completed["usage"]["total_tokens"] > 0
    added = backend(events, "output_item.added")[0]["item"]
    assert (added["arguments"], added["status"]) == ("", "in_progress")


def test_the_backend_continues_when_every_call_has_its_output() -> None:
    client, events = calling((Call("look_up_order", {}), Call("look_up_order", {"n": 2})))
    one, two = calls(events)

    client.send(result(one["call_id"], "1"))
    assert client.error(CREATE)["code"] == "function_call_outputs_required"
    client.send(result(two["call_id"], "2"))
    assert not of(client.send(CREATE), "error")
    assert client.error(CREATE)["code"] == "function_call_outputs_required"
    assert heard(client.wait(5_000)) == "The result is: 1. The result is: 2."


def test_an_output_may_come_before_the_response_is_complete() -> None:
    client = Client((Call("look_up_order", {}), Wait(2_000)), start=start(LOOK_UP))
    [call] = calls(client.say("Hello", 2_000))

    client.send(result(call["call_id"], "1"))
    assert client.error(CREATE)["code"] == "function_call_outputs_required"
    client.wait(2_000)
    client.send(CREATE)
    assert heard(client.wait(3_000)) == "The result is: 1."


def test_an_output_answers_an_open_call_once() -> None:
    client, events = calling()
    [call] = calls(events)
    client.send(result(call["call_id"], "1"))

    assert client.error(result(call["call_id"], "2"))["param"] == "item.call_id"
    assert client.error(result("call_other", "2"))["param"] == "item.call_id"


def test_a_call_whose_output_exceeds_the_budget_stays_open() -> None:
    """The line stays healthy and the agent silent, until a tiny output takes its place."""
    client, events = calling()
    [call] = calls(events)
    client.send(typed("x" * 20_000))

    error = client.error(result(call["call_id"], "é" * 6_385))
    assert error["code"] == "response_input_buffer_full"
    assert client.error(CREATE)["code"] == "function_call_outputs_required"
    client.send(result(call["call_id"], "too long"), CREATE)
    assert "too long" in heard(client.wait(5_000))


def test_the_budget_counts_items_too() -> None:
    client = Client()
    client.send(*[typed("") for _ in range(128)])

    assert client.error(typed(""))["code"] == "response_input_buffer_full"


def test_one_task_at_a_time() -> None:
    """What the caller says meanwhile is transcribed, and answered after the result."""
    client, events = calling()
    [call] = calls(events)
    meanwhile = client.say("Are you there?", 8_000)
    client.send(result(call["call_id"], "shipped"), CREATE)
    after = client.wait(8_000)

    assert transcript(meanwhile, "input") == " Are you there?"
    assert heard(meanwhile) == ""
    assert not backend(meanwhile)
    assert heard(after).startswith("The result is: shipped. I understood: Are you there")


def test_a_result_waits_until_the_caller_has_finished() -> None:
    client, events = calling()
    [call] = calls(events)
    client.send(result(call["call_id"], "shipped"), CREATE)
    long = client.play(speech.frames("Wait a moment please I have to tell you something first"))
    after = client.wait(3_000)

    assert heard(long) == ""
    assert heard(after).startswith("The result is: shipped.")


@pytest.mark.parametrize(
    ("end", "status"), [(Fail("server_error"), "failed"), (Incomplete(), "incomplete")]
)
def test_the_calls_of_a_response_that_fails_are_void(end: Fail | Incomplete, status: str) -> None:
    client, events = calling((Call("look_up_order", {}), end))
    [call] = calls(events)

    assert backend(events, status)
    assert client.error(result(call["call_id"], "1"))["param"] == "item.call_id"
    assert "Are you there" in heard(client.say("Are you there?"))


def test_typed_text_is_read_with_the_next_response() -> None:
    client = Client()
    client.send(typed("[The caller pressed 7]"))
    assert heard(client.wait(3_000)) == ""
    client.send(CREATE)

    events = client.wait(4_000)
    assert {event["delegation_id"] for event in of(events, "response.event")} == {None}
    assert heard(events) == "You pressed 7."


def test_a_turn_may_speak_before_it_delegates() -> None:
    _, events = calling((Say("Let me see."), Call("look_up_order", {})))

    assert heard(events) == "Let me see."
    assert len(calls(events)) == 1


def test_an_acknowledgement_may_be_delayed_and_is_cancelled_by_commentary() -> None:
    delegation = {**responses(LOOK_UP), "acknowledgement_delay_ms": 1_500}
    client = Client(start=session_start(delegation=delegation))
    assert heard(client.say("Where is my order?", 1_500)) == ""
    assert heard(client.wait(2_000)) == "One moment."

    client = Client(start=session_start(delegation=delegation))
    client.say("Where is my order?", 1_500)
    client.send(note("commentary", "I am looking."))
    assert heard(client.wait(3_000)) == "I am looking."


def test_the_tokens_of_the_backend_are_reported_once_for_each_response() -> None:
    client, events = calling()
    [call] = calls(events)
    client.send(result(call["call_id"], "x" * 400), CREATE)
    [first] = backend(events, "completed")
    [second] = backend(client.wait(4_000), "completed")

    assert first["response"]["id"] != second["response"]["id"]
    usage = second["response"]["usage"]
    assert usage["input_tokens"] >= first["response"]["usage"]["total_tokens"] + 100
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


# Work for the client


def test_the_client_is_told_that_there_is_work_but_not_which() -> None:
    client = Client(Call("anything", {}), start=session_start(delegation=CLIENT))
    events = client.say("Where is my order?")
    delegation = only(events, DELEGATED)["delegation"]
    client.send(note("commentary", "It ships today.", delegation_id=delegation["id"]))

    assert delegation.keys() == {"id", "type", "target"}
    assert not backend(events)
    assert heard(client.wait(2_000)) == "It ships today."
    assert client.error(CREATE)["code"] == "invalid_delegation_type"
    assert client.error(typed("x"))["code"] == "invalid_delegation_type"


# Usage


def test_usage_is_cumulative_and_follows_the_audio() -> None:
    client = Client()
    updates = of(client.wait(31_000), "session.usage.updated")

    assert [update["usage"]["seconds"] for update in updates] == [15, 30]
    assert 0 < updates[0]["context_window"]["usage_ratio"] < 0.1


# Disturbances


def test_a_stall_is_followed_by_a_burst() -> None:
    client = Client((Hold(3_000), Say("Here I am")))
    events = client.say("Hello", 3_700)
    burst = client.wait(200)

    assert len(of(events, DELTA)) < 20
    assert len(of(burst, DELTA)) >= 30
    assert heard([*events, *burst, *client.wait(1_000)]) == "Here I am"


def test_a_session_expires_without_a_warning() -> None:
    client = Client(Expire())
    *_, closed, end = client.say("Hello")

    assert (closed["type"], closed["reason"]) == ("session.closed", "expired")
    assert end == Close(1000)


@pytest.mark.parametrize("end", [Drop(), Close(1011, "gone")])
def test_the_connection_ends_when_the_model_has_spoken(end: Close | Drop) -> None:
    events = Client((Say("Well"), end)).say("Hello")

    assert heard(events) == "Well"
    assert events[-1] == end


def test_an_error_in_the_session() -> None:
    client = Client((Error("server_error"), Say("Well")), Error("credit_balance_exhausted"))
    events = client.say("Hello")
    assert only(events, "error")["error"]["code"] == "server_error"
    assert heard(events) == "Well"

    *_, error, end = client.say("Hello")
    assert error["error"]["code"] == "credit_balance_exhausted"
    assert end == Close(1000)


def test_a_refusal_that_the_script_wants() -> None:
    when = When("session.start", (Error("rate_limit_exceeded"),), instead=True)
    error, end = Client(when=[when]).opening

    assert error["error"]["code"] == "rate_limit_exceeded"
    assert end == Close(1000)


def test_ids_are_the_same_every_time() -> None:
    assert Client().say("Hello") == Client().say("Hello")
