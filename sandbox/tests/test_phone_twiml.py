"""TwiML that is read."""

import pytest
from twilio.twiml.voice_response import Connect, VoiceResponse

from sandbox.phone.twiml import TwimlError, parse


def test_it_works() -> None:
    response = VoiceResponse()
    response.play("https://files.example/hello.mp3")
    connect = Connect(action="/voice/after")
    stream = connect.stream(url="wss://media.example/media", status_callback="/voice/stream")
    stream.parameter(name="ticket", value="abc")
    response.append(connect)
    response.hangup()

    document = parse(str(response), "https://engine.example/voice")

    play, connect_verb, hangup = document.verbs
    assert play.text == "https://files.example/hello.mp3"
    assert document.address(connect_verb.get("action")) == "https://engine.example/voice/after"
    noun = connect_verb.child("Stream")
    assert noun is not None
    assert noun.get("statusCallback") == "/voice/stream"
    assert [parameter.attributes for parameter in noun.children] == [
        {"name": "ticket", "value": "abc"}
    ]
    assert hangup.name == "Hangup"
    assert document.warnings == ()


def test_the_text_of_say_is_all_its_text() -> None:
    document = parse("<Response><Say>Good <emphasis>morning</emphasis>,\n  all</Say></Response>")

    assert document.verbs[0].text == "Good morning, all"


@pytest.mark.parametrize("text", ["", "Hello", "<Response>", "<Reply/>", '{"error": "no"}'])
def test_what_is_no_twiml_is_a_document_error(text: str) -> None:
    with pytest.raises(TwimlError) as caught:
        parse(text)
    assert caught.value.code == 12100


@pytest.mark.parametrize(
    ("twiml", "warning"),
    [
        ("<Sing/>", "Schema validation warning: <Sing> is unknown"),
        ('<Say pitch="high">Hi</Say>', "Schema validation warning: pitch is no attribute of <Say>"),
        ("<Record/>", "<Record> is not simulated"),
        ("<Connect><Siprec/></Connect>", "<Siprec> is not simulated"),
    ],
)
def test_what_is_not_carried_out_is_a_warning(twiml: str, warning: str) -> None:
    assert parse(f"<Response>{twiml}</Response>").warnings == (warning,)


def test_a_number_that_is_none_counts_as_absent() -> None:
    verb = parse('<Response><Pause length="soon"/></Response>').verbs[0]

    assert verb.number("length", 1) == 1
