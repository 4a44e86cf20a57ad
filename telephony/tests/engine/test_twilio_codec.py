"""Twilio's media stream messages."""

import json

import pytest

from telephony.engine.events import CallerHungUp, DigitPressed, MarkPlayed
from telephony.engine.twilio_codec import (
    MULAW,
    CallerAudio,
    Encoder,
    StreamStarted,
    decode,
)

# As Twilio writes it.
MEDIA = (
    b'{"event":"media","sequenceNumber":"4","media":{"track":"inbound","chunk":"2",'
    b'"timestamp":"5","payload":"no+JhoaJjpz/"},"streamSid":"MZ18ad"}'
)


def test_media():
    assert decode(json.loads(MEDIA)) == CallerAudio(b"no+JhoaJjpz/")


def test_start():
    message = {
        "event": "start",
        "sequenceNumber": "1",
        "start": {
            "streamSid": "MZ1",
            "accountSid": "AC1",
            "callSid": "CA1",
            "tracks": ["inbound"],
            "customParameters": {"ticket": "t"},
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        },
        "streamSid": "MZ1",
    }
    assert decode(message) == StreamStarted("MZ1", "CA1", "AC1", {"ticket": "t"}, MULAW)


def test_dtmf_mark_and_stop():
    assert decode({"event": "dtmf", "dtmf": {"track": "inbound_track", "digit": "1"}}) == (
        DigitPressed("1")
    )
    assert decode({"event": "mark", "mark": {"name": "7"}}) == MarkPlayed("7")
    assert decode({"event": "stop", "stop": {"callSid": "CA1"}}) == CallerHungUp()


@pytest.mark.parametrize(
    "message",
    [
        {"event": "connected", "protocol": "Call", "version": "1.0.0"},
        {"event": "media", "media": {"track": "outbound", "payload": "AA=="}},
        {"event": "new one"},
        {},
    ],
)
def test_a_message_that_changes_nothing_is_no_event(message):
    assert decode(message) is None


def test_messages_to_twilio():
    encoder = Encoder("MZ1")
    assert [
        json.loads(text) for text in (encoder.media(b"AA=="), encoder.mark("3"), encoder.clear())
    ] == [
        {"event": "media", "streamSid": "MZ1", "media": {"payload": "AA=="}},
        {"event": "mark", "streamSid": "MZ1", "mark": {"name": "3"}},
        {"event": "clear", "streamSid": "MZ1"},
    ]


@pytest.mark.parametrize("parameters", [{}, {"customParameters": None}, {"customParameters": {}}])
def test_a_start_without_parameters(parameters):
    start = {
        "streamSid": "MZ1",
        "accountSid": "AC1",
        "callSid": "CA1",
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        **parameters,
    }
    assert decode({"event": "start", "start": start}).parameters == {}


@pytest.mark.parametrize("media", [{"payload": ""}, {"payload": "AAAA", "track": "outbound"}])
def test_media_other_than_the_callers_audio_is_ignored(media):
    assert decode({"event": "media", "media": media}) is None


@pytest.mark.parametrize(
    "message",
    [
        {"event": "dtmf", "dtmf": {"digit": "12"}},
        {"event": "dtmf", "dtmf": {"digit": "E"}},
        {"event": "mark", "mark": {"name": 'a"b'}},
        {"event": "mark", "mark": {"name": ""}},
        {"event": "media", "media": {"payload": 'AA"AA'}},
    ],
)
def test_invalid_texts_are_refused(message):
    with pytest.raises(ValueError, match="another shape"):
        decode(message)
