"""A realtime session, event by event. OpenAI's own types judge everything that it sends."""

import base64
import math

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
from sandbox.tests.models import audio_of, function_tool, heard, only
from sandbox.tests.realtime import (
    PAUSE,
    TRANSCRIBED,
    Client,
    appends,
    session_update,
    types,
    user_text,
)


def test_it_works() -> None:
    events = Client(Say("Good morning")).say("Hello")

    assert types(events) == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_audio_transcript.delta",
        "response.output_audio.delta",
        "response.output_audio_transcript.delta",
        "response.output_audio.delta",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
        "rate_limits.updated",
        "conversation.item.input_audio_transcription.delta",
        TRANSCRIBED,
    ]
    assert heard(events) == "Good morning"
    assert only(events, TRANSCRIBED)["transcript"] == "Hello"


# The session


def test_the_session_is_created_with_the_defaults_of_openai() -> None:
    [created] = Client(configure=False).opening

    assert created["type"] == "session.created"
    assert created["session"]["audio"]["input"]["turn_detection"]["type"] == "server_vad"
    assert created["session"]["audio"]["output"]["format"] == {"type": "audio/pcm", "rate": 24000}


def test_an_update_is_merged_into_the_session() -> None:
    client = Client()
    [updated] = client.send(
        {
            "type": "session.update",
            "session": {
                "type": "realtime",
                "audio": {"input": {"noise_reduction": None}, "output": {"speed": 1.2}},
            },
        }
    )

    audio = updated["session"]["audio"]
    assert updated["type"] == "session.updated"
    assert updated["session"]["instructions"] == "Be friendly."
    assert audio["input"]["format"] == {"type": "audio/pcmu"}
    assert audio["input"]["noise_reduction"] is None
    assert audio["output"] == {"format": {"type": "audio/pcmu"}, "voice": "marin", "speed": 1.2}


def test_another_turn_detection_has_its_own_defaults() -> None:
    [updated] = Client(configure=False).send(
        session_update(turn_detection={"type": "semantic_vad", "eagerness": None})
    )

    assert updated["session"]["audio"]["input"]["turn_detection"] == {
        "type": "semantic_vad",
        "eagerness": "auto",
        "create_response": True,
        "interrupt_response": True,
    }


def test_a_refused_update_changes_nothing() -> None:
    client = Client()
    before = client.session.settings
    error = client.error(session_update(instructions="New", tool_choice="sometimes"))

    assert error["param"] == "session.tool_choice"
    assert client.session.settings == before


def test_the_voice_is_fixed_once_it_was_heard() -> None:
    client = Client()
    other = {"type": "realtime", "audio": {"output": {"voice": "cedar"}}}
    assert types(client.send({"type": "session.update", "session": other})) == ["session.updated"]
    client.ask()
    other["audio"]["output"]["voice"] = "marin"

    error = client.error({"type": "session.update", "session": other})
    assert error["code"] == "cannot_update_voice"


def test_the_model_of_a_session_stays() -> None:
    session = {"type": "realtime", "model": "gpt-realtime-2"}

    error = Client().error({"type": "session.update", "session": session})
    assert error["param"] == "session.model"


# What a client gets wrong


def test_an_error_names_the_event_that_caused_it() -> None:
    error = Client().error({"type": "nope", "event_id": "mine_1"})

    assert error == {
        "type": "invalid_request_error",
        "code": "invalid_value",
        "message": "Invalid value: 'nope'. Supported values are: 'session.update', "
        "'input_audio_buffer.append', 'input_audio_buffer.commit', 'input_audio_buffer.clear', "
        "'conversation.item.create', 'conversation.item.truncate', 'conversation.item.delete', "
        "'conversation.item.retrieve', 'response.create', and 'response.cancel'.",
        "param": "type",
        "event_id": "mine_1",
    }


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("not json", "invalid_json"),
        ("[]", "invalid_event"),
        ("{}", "missing_required_parameter"),
        ('{"type": 7}', "invalid_value"),
        ('{"type": "response.create", "event_id": 7}', "invalid_type"),
    ],
)
def test_what_is_no_event_is_refused(text: str, code: str) -> None:
    client = Client()
    client.session.receive(text)
    [event] = client.read()

    assert event["error"]["code"] == code
    assert event["error"]["event_id"] is None


def test_audio_in_another_format_is_refused() -> None:
    client = Client(configure=False)

    assert client.error(*appends([b"1234"]))["code"] == "unsupported_audio_format"
    assert client.error({"type": "response.create"})["code"] == "unsupported_audio_format"


def test_audio_must_be_base64() -> None:
    error = Client().error({"type": "input_audio_buffer.append", "audio": "???"})

    assert error["param"] == "audio"


# The caller speaks


def test_the_caller_is_heard_from_before_the_first_sound() -> None:
    client = Client(Stall())
    events = client.send(*appends([speech.SILENCE] * 50), *appends(speech.frames("Hello")))
    started = only(events, "input_audio_buffer.speech_started")
    stopped = client.send(*appends(PAUSE))

    assert 600 <= started["audio_start_ms"] <= 900
    assert only(stopped, "input_audio_buffer.speech_stopped")["item_id"] == started["item_id"]
    assert only(stopped, "input_audio_buffer.committed")["item_id"] == started["item_id"]


def test_items_name_the_one_before_them() -> None:
    client = Client()
    first = client.say("Hello")
    second = client.say("Hello again")

    added = [
        (event["previous_item_id"], event["item"]["id"])
        for event in [*first, *second]
        if event["type"] == "conversation.item.added"
    ]
    assert [previous for previous, _ in added] == [None, *[item for _, item in added[:-1]]]
    assert only(second, "input_audio_buffer.committed")["previous_item_id"] == added[1][1]


def test_a_transcript_comes_while_the_model_answers_already() -> None:
    events = types(Client(Say("word " * 100)).say("Hello"))

    first, last = events.index("response.output_audio.delta"), events.index("response.done")
    assert first < events.index(TRANSCRIBED) < last


def test_transcripts_can_come_in_another_order_or_never() -> None:
    client = Client(transcripts_ms=(3000, 500, None))
    for words in ("one and", "two and", "three"):
        client.put(*appends([*speech.frames(words), *PAUSE]))
    client.session.advance(math.inf)

    transcripts = [event["transcript"] for event in client.read() if event["type"] == TRANSCRIBED]
    assert transcripts == ["two and", "one and"]


def test_a_failed_transcription() -> None:
    events = Client(transcription_fails=True).say("Hello")

    assert TRANSCRIBED not in types(events)
    failed = only(events, "conversation.item.input_audio_transcription.failed")
    assert failed["error"]["code"] == "transcription_failed"


@pytest.mark.parametrize(
    ("model", "usage"),
    [
        ("gpt-transcribe", {"type": "duration", "seconds": 0.54}),
        (
            "gpt-4o-mini-transcribe",
            {
                "type": "tokens",
                "total_tokens": 8,
                "input_tokens": 6,
                "input_token_details": {"text_tokens": 0, "audio_tokens": 6},
                "output_tokens": 2,
            },
        ),
    ],
)
def test_transcription_has_a_price(model: str, usage: dict[str, object]) -> None:
    client = Client()
    update = session_update()
    update["session"]["audio"]["input"]["transcription"] = {"model": model}
    client.send(update)

    events = client.send(*appends(speech.frames("Hello")), *appends([speech.SILENCE] * 30))
    assert only(events, TRANSCRIBED)["usage"] == usage


def test_without_transcription_there_is_no_transcript() -> None:
    client = Client()
    update = session_update()
    update["session"]["audio"]["input"]["transcription"] = None
    client.send(update)

    assert TRANSCRIBED not in types(client.say("Hello"))


def test_a_client_that_detects_turns_itself_commits_them() -> None:
    client = Client(configure=False)
    client.send(session_update(turn_detection=None))

    assert client.say("Hello") == []
    committed = client.send({"type": "input_audio_buffer.commit"})
    assert types(committed)[:3] == [
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
    ]
    assert "response.created" not in types(committed)
    assert heard(client.ask()) == "I understood: Hello. What else can I do for you?"


def test_a_committed_buffer_is_empty() -> None:
    error = Client().error({"type": "input_audio_buffer.commit"})

    assert error["code"] == "input_audio_buffer_commit_empty"
    assert error["message"].endswith("but buffer only has 0.00ms of audio.")


def test_a_cleared_buffer_is_empty() -> None:
    client = Client()
    client.start_saying("Hello")

    assert types(client.send({"type": "input_audio_buffer.clear"})) == [
        "input_audio_buffer.cleared"
    ]
    assert client.error({"type": "input_audio_buffer.commit"})
    assert client.send(*appends(PAUSE)) == []


def test_a_turn_without_create_response_waits_for_the_client() -> None:
    client = Client(configure=False)
    detection = {"type": "server_vad", "create_response": False, "silence_duration_ms": 300}
    client.send(session_update(turn_detection=detection))

    assert "response.created" not in types(client.say("Hello"))
    assert heard(client.ask()) == "I understood: Hello. What else can I do for you?"


# Barge-in


def test_speech_interrupts_the_response() -> None:
    client = Client(Say("This is a long story", stall_at_ms=600), Say("Yes?"))
    begun = client.say("Hello")
    events = client.start_saying("Stop")

    assert types(events) == [
        "input_audio_buffer.speech_started",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
        "rate_limits.updated",
    ]
    response = only(events, "response.done")["response"]
    assert response["status"] == "cancelled"
    assert response["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
    assert response["output"][0]["status"] == "incomplete"
    assert len(audio_of(begun)) == 600 * 8
    assert heard(client.send(*appends(PAUSE))) == "Yes?"


def test_speech_does_not_interrupt_if_it_should_not() -> None:
    client = Client(Say("This is a long story", stall_at_ms=600), configure=False)
    client.send(
        session_update(turn_detection={"type": "semantic_vad", "interrupt_response": False})
    )
    client.ask()
    events = client.say("Stop")

    assert "response.done" not in types(events)
    refused = only(events, "error")["error"]
    assert refused["code"] == "conversation_already_has_active_response"


def test_what_was_not_heard_is_truncated() -> None:
    client = Client()
    item = only(client.ask(), "response.output_item.done")["item"]
    truncate = {"type": "conversation.item.truncate", "item_id": item["id"], "content_index": 0}
    [truncated] = client.send({**truncate, "audio_end_ms": 500})

    assert truncated["type"] == "conversation.item.truncated"
    assert truncated["audio_end_ms"] == 500
    retrieved = client.send({"type": "conversation.item.retrieve", "item_id": item["id"]})
    content = only(retrieved, "conversation.item.retrieved")["item"]["content"][0]
    assert content["transcript"] == ""
    assert len(base64.b64decode(content["audio"])) == 500 * 8

    error = client.error({**truncate, "audio_end_ms": 501})
    assert error["message"] == "Audio content of 500ms is already shorter than 501ms"


def test_only_the_model_is_truncated() -> None:
    client = Client()
    item = only(client.send(user_text("Hi", id="mine")), "conversation.item.added")["item"]
    truncate = {"type": "conversation.item.truncate", "content_index": 0, "audio_end_ms": 0}

    error = client.error({**truncate, "item_id": item["id"]})
    assert error["message"] == "Only model output audio messages can be truncated"
    error = client.error({**truncate, "item_id": "unknown"})
    assert error["code"] == "item_truncate_invalid_item_id"
    assert (
        client.error({**truncate, "item_id": "x", "content_index": 1})["param"] == "content_index"
    )


# Responses


def test_a_client_cancels_a_response() -> None:
    client = Client(Say("This is a long story", stall_at_ms=600))
    response_id = only(client.ask(), "response.created")["response"]["id"]

    error = client.error({"type": "response.cancel", "response_id": "another"})
    assert error["code"] == "response_cancel_not_active"
    response = only(client.send({"type": "response.cancel"}), "response.done")["response"]
    assert response["id"] == response_id
    assert response["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
    assert client.error({"type": "response.cancel"})["code"] == "response_cancel_not_active"


def test_one_response_at_a_time() -> None:
    client = Client(Stall())
    client.ask()

    error = client.error({"type": "response.create"})
    assert error["code"] == "conversation_already_has_active_response"


def test_a_response_has_settings_of_its_own() -> None:
    client = Client()
    client.send(session_update(tools=[function_tool("look_up_order")]))
    client.send(user_text("Where is my order?"))
    events = client.ask(
        instructions='Say hello, saying exactly this: "Welcome to \\"Ada\'s\\"."',
        tool_choice="none",
        max_output_tokens=100,
        metadata={"topic": "greeting"},
        audio={"output": {"voice": "cedar"}},
    )

    response = only(events, "response.done")["response"]
    assert heard(events) == 'Welcome to "Ada\'s".'
    assert response["max_output_tokens"] == 100
    assert response["metadata"] == {"topic": "greeting"}
    assert response["audio"]["output"]["voice"] == "cedar"


def test_a_response_in_text() -> None:
    events = Client(Say("Hello there")).ask(output_modalities=["text"])

    assert types(events) == [
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
        "rate_limits.updated",
    ]
    assert only(events, "response.output_text.done")["text"] == "Hello there"


def test_a_tool_call() -> None:
    client = Client((Say("One moment."), Call("look_up_order", {"order": "A-7"})), Say("It left."))
    events = client.say("Where is my order?")
    message, call = only(events, "response.done")["response"]["output"]

    assert message["content"] == [{"type": "output_audio", "transcript": "One moment."}]
    assert call["type"] == "function_call"
    assert call["status"] == "completed"
    assert call["arguments"] == '{"order": "A-7"}'
    deltas = [e["delta"] for e in events if e["type"] == "response.function_call_arguments.delta"]
    assert "".join(deltas) == call["arguments"]
    done = only(events, "response.function_call_arguments.done")
    assert (done["call_id"], done["name"]) == (call["call_id"], "look_up_order")

    output = {"type": "function_call_output", "call_id": call["call_id"], "output": '"left"'}
    added = client.send({"type": "conversation.item.create", "item": output})
    assert types(added) == ["conversation.item.added", "conversation.item.done"]
    assert heard(client.ask()) == "It left."


def test_what_a_history_has_answered_is_not_answered_again() -> None:
    client = Client()
    content = [{"type": "output_text", "text": "At nine."}]
    said = {"type": "message", "role": "assistant", "content": content}
    client.send(user_text("When do you open"))
    client.send({"type": "conversation.item.create", "item": said})

    assert heard(client.say("Thank you")).startswith("I understood: Thank you.")


def test_an_answer_to_a_call_that_never_was() -> None:
    output = {"type": "function_call_output", "call_id": "call_1", "output": ""}

    error = Client().error({"type": "conversation.item.create", "item": output})
    assert error["code"] == "invalid_tool_call_id"


def test_a_tool_call_that_was_cancelled() -> None:
    events = Client(Call("look_up_order", {"order": 7}, cancelled=True)).say("Where is it?")
    response = only(events, "response.done")["response"]

    assert only(events, "response.function_call_arguments.done")["arguments"] == '{"order": 7}'
    assert response["status"] == "cancelled"
    assert response["output"][0]["status"] == "incomplete"


def test_arguments_that_are_no_json() -> None:
    events = Client(Call("look_up_order", '{"order": ')).ask()

    assert only(events, "response.done")["response"]["output"][0]["arguments"] == '{"order": '


def test_a_failed_response() -> None:
    events = Client(Fail("insufficient_quota")).ask()
    response = only(events, "response.done")["response"]

    assert types(events) == ["response.created", "response.done", "rate_limits.updated"]
    assert response["status"] == "failed"
    assert response["status_details"]["error"]["code"] == "insufficient_quota"


def test_an_incomplete_response() -> None:
    response = only(Client((Say("Well"), Incomplete())).ask(), "response.done")["response"]

    assert response["status_details"] == {"type": "incomplete", "reason": "max_output_tokens"}


def test_events_that_come_twice() -> None:
    events = Client(Say("Hi"), twice=["response.done"]).ask()
    first, second = (event for event in events if event["type"] == "response.done")

    assert first == second
    assert types(events).count("response.created") == 1


def test_usage_counts_what_was_read_and_said() -> None:
    client = Client(Say("a" * 24), Say("b"))
    update = session_update(instructions="i" * 398)
    client.send(update)
    client.send(*appends(speech.frames("Hello")))
    first = only(client.send(*appends(PAUSE)), "response.done")["response"]["usage"]
    second = only(client.ask(), "response.done")["response"]["usage"]

    # 0.54 s of the caller's speech with the pause; 1 s of the model's.
    assert first["input_token_details"] == {
        "text_tokens": 100,
        "audio_tokens": 6,
        "image_tokens": 0,
        "cached_tokens": 0,
        "cached_tokens_details": {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0},
    }
    assert first["output_token_details"] == {"text_tokens": 6, "audio_tokens": 20}
    assert second["input_token_details"]["cached_tokens_details"]["text_tokens"] == 64
    assert second["input_token_details"]["audio_tokens"] == 26
    assert second["total_tokens"] == second["input_tokens"] + second["output_tokens"]


def test_the_model_speaks_faster_than_real_time() -> None:
    client = Client(Say("a" * 249))
    client.put({"type": "response.create"})
    client.session.advance(1_500)
    events = client.read()

    assert len(audio_of(events)) > 4_000 * 8
    assert "response.done" not in types(events)
    deltas = [e["delta"] for e in events if e["type"] == "response.output_audio.delta"]
    assert len(base64.b64decode(deltas[0])) == 200 * 8
    assert {len(base64.b64decode(delta)) for delta in deltas[1:]} == {400 * 8}


def test_a_slow_response() -> None:
    client = Client((Wait(5_000), Say("Sorry")))
    client.put({"type": "response.create"})
    client.session.advance(5_000)
    assert types(client.read()) == ["response.created"]

    client.session.advance(6_000)
    assert heard(client.read()) == "Sorry"


# Items


def test_items_are_created_retrieved_and_deleted() -> None:
    client = Client()
    for item_id in ("a", "b", "c"):
        client.send(user_text(item_id, id=item_id))
    assert types(client.send({"type": "conversation.item.delete", "item_id": "b"})) == [
        "conversation.item.deleted"
    ]

    event = user_text("d", id="d")
    assert client.send({**event, "previous_item_id": "a"})[0]["previous_item_id"] == "a"
    event["item"]["id"] = "first"
    assert client.send({**event, "previous_item_id": "root"})[0]["previous_item_id"] is None
    assert [item.id for item in client.session.conversation.items] == ["first", "a", "d", "c"]


def test_a_client_brings_audio_of_its_own() -> None:
    client = Client()
    audio = base64.b64encode(b"".join(speech.frames("Good evening"))).decode()
    event = user_text("")
    event["item"]["content"] = [{"type": "input_audio", "audio": audio}]
    item = only(client.send(event), "conversation.item.added")["item"]

    assert item["content"] == [{"type": "input_audio", "transcript": None}]
    assert heard(client.ask()) == "I understood: Good evening. What else can I do for you?"
    retrieved = client.send({"type": "conversation.item.retrieve", "item_id": item["id"]})
    assert retrieved[0]["item"]["content"][0]["audio"] == audio


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({"type": "conversation.item.delete", "item_id": "x"}, "item_delete_invalid_item_id"),
        ({"type": "conversation.item.retrieve", "item_id": "x"}, "item_retrieve_invalid_item_id"),
        (
            {**user_text("Hi"), "previous_item_id": "x"},
            "item_create_invalid_previous_item_id",
        ),
        (user_text("Hi", id="x" * 33), "string_above_max_length"),
    ],
)
def test_an_item_that_does_not_exist(event: dict[str, object], code: str) -> None:
    assert Client().error(event)["code"] == code


def test_an_item_cannot_be_there_twice() -> None:
    client = Client()
    client.send(user_text("Hi", id="mine"))

    assert client.error(user_text("Hi", id="mine"))["param"] == "item.id"


# Scripts


def test_a_greeting_takes_no_turn_of_the_script() -> None:
    client = Client(Say("First"))

    assert heard(client.ask(instructions='Do it saying exactly this: "Welcome"')) == "Welcome"
    assert heard(client.ask()) == "First"
    assert heard(client.ask()) == "Are you still there?"


def test_a_greeting_may_be_a_turn_of_the_script() -> None:
    client = Client(Fail(), greets=False)

    response = only(client.ask(instructions='saying exactly this: "Welcome"'), "response.done")
    assert response["response"]["status"] == "failed"


def test_a_script_in_the_prompt() -> None:
    client = Client(Say("Not this"))
    prompt = 'Be kind.\n```sandbox\n[{"say": "Scripted"}, {"fail": "server_error"}]\n```\n'
    client.send(session_update(instructions=prompt))

    assert heard(client.ask()) == "Scripted"
    client.send(session_update(instructions=prompt))
    assert only(client.ask(), "response.done")["response"]["status"] == "failed"
    assert heard(client.say("Thanks")) == "I understood: Thanks. What else can I do for you?"


def test_a_script_that_cannot_be_used_is_refused() -> None:
    error = Client().error(session_update(instructions="```sandbox\n[{]\n```"))

    assert error["param"] == "session.instructions"


# Disturbances


@pytest.mark.parametrize(
    ("code", "close"),
    [
        ("session_expired", (1001, "Your session hit the maximum duration of 60 minutes.")),
        ("invalid_api_key", (3000, "invalid_request_error.invalid_api_key")),
        ("credit_balance_exhausted", (1013, "insufficient_quota.credit_balance_exhausted")),
    ],
)
def test_a_fatal_error_closes_the_socket(code: str, close: tuple[int, str]) -> None:
    client = Client((Say("Well"), Error(code), Say("Never said")))
    *_, error, end = client.ask()

    assert error["error"]["code"] == code
    assert end == Close(*close)
    assert client.ask() == []


def test_a_session_goes_on_after_other_errors() -> None:
    events = Client((Error("rate_limit_exceeded"), Say("Here I am"))).ask()

    assert only(events, "error")["error"]["code"] == "rate_limit_exceeded"
    assert heard(events) == "Here I am"


@pytest.mark.parametrize("end", [Drop(), Close(1011, "gone")])
def test_the_connection_ends_in_the_middle(end: Close | Drop) -> None:
    client = Client((Say("Well"), end))
    *events, last = client.ask()

    assert last == end
    assert "response.done" not in types(events)


def test_after_a_hold_everything_comes_at_once() -> None:
    client = Client((Hold(3000), Say("Hello"), Say("there")))
    client.put({"type": "response.create"})
    client.session.advance(2999)
    assert client.read() == []

    client.session.advance(4000)
    events = client.read()
    assert types(events)[0] == "response.created"
    assert heard(events) == "Hello there"


def test_a_session_expires_when_the_script_says_so() -> None:
    *_, error, end = Client(Expire()).ask()

    assert error["error"]["code"] == "session_expired"
    assert end.code == 1001


def test_the_connection_ends_when_a_client_event_comes() -> None:
    when = When("input_audio_buffer.append", (Error("server_error"), Drop()), nth=3)
    client = Client(when=[when])
    error, end = client.send(*appends([speech.SILENCE] * 4))

    assert error["error"]["code"] == "server_error"
    assert end == Drop()


def test_an_event_may_be_swallowed() -> None:
    client = Client(when=[When("session.update", instead=True)])

    assert client.session.settings["instructions"] != "Be friendly."
    assert types(client.send(session_update())) == ["session.updated"]


def test_a_session_may_never_begin() -> None:
    client = Client(when=[When("open", instead=True)], configure=False)
    assert client.opening == []

    client = Client(when=[When("open", (Error("insufficient_quota"),))], configure=False)
    assert client.opening[-1] == Close(1013, "insufficient_quota.insufficient_quota")


def test_ids_are_the_same_every_time() -> None:
    assert Client().say("Hello") == Client().say("Hello")
