"""The relay of audio, message by message."""

from __future__ import annotations

import base64
import json

import pytest

from telephony.engine.codecs.realtime import reader
from telephony.engine.codecs.realtime.relay import DeltaRelay, caller_frame
from telephony.engine.playback import Playback
from telephony.engine.twilio_codec import Encoder

FRAME = base64.b64encode(b"\x01" * 160).decode()


def media(payload=FRAME):
    message = {
        "event": "media",
        "sequenceNumber": "4",
        "media": {"track": "inbound", "chunk": "2", "timestamp": "5", "payload": payload},
        "streamSid": "MZ1",
    }
    return json.dumps(message, separators=(",", ":")).encode()


def delta(item="item_1", audio=FRAME, event="event_1"):
    message = {
        "type": "response.output_audio.delta",
        "event_id": event,
        "response_id": "resp_1",
        "item_id": item,
        "output_index": 0,
        "content_index": 0,
        "delta": audio,
    }
    return json.dumps(message, separators=(",", ":")).encode()


class TestFromTheCaller:
    def test_a_frame_is_passed_on_as_it_came(self):
        assert json.loads(caller_frame(media())) == {
            "type": "input_audio_buffer.append",
            "audio": FRAME,
        }

    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b'{"event":"stop"}',
            b'{"event":"media"}',
            media()[:200],
            b"\x03\xe8",
            media(""),
            media().replace(b"inbound", b"outbound"),
            media().replace(b'"track":"inbound",', b""),
        ],
    )
    def test_everything_else_is_left_to_others(self, text):
        assert caller_frame(text) is None


class TestFromTheAgent:
    @pytest.fixture
    def agent(self):
        return Agent()

    def test_a_frame_is_passed_on_as_it_came(self, agent):
        agent.give(delta())
        assert agent.heard() == [FRAME]

    def test_frames_are_counted_until_settle(self, agent):
        for number in range(30):  # 600 ms, with ids of every length
            agent.give(delta(event="e" * number))
        agent.now = 5.0
        agent.relay.settle()
        assert [(each.item_id, each.heard_ms) for each in agent.playback.clear(5.0)] == [
            ("item_1", 600)
        ]
        assert agent.heard() == [FRAME] * 30

    def test_a_mark_follows_after_every_second(self, agent):
        for _ in range(125):
            agent.give(delta())
        assert [index for index, text in enumerate(agent.sent) if text["event"] == "mark"] == [
            50,
            101,
        ]

    def test_only_the_frames_with_a_mark_are_parsed(self, agent):
        agent.give(delta())
        passed = [agent.give(delta()) for _ in range(124)]
        assert [index for index, is_passed in enumerate(passed, start=1) if not is_passed] == [
            49,
            99,
        ]
        assert len(agent.heard()) == 125

    def test_sizes_may_differ_from_frame_to_frame(self, agent):
        for size in (1, 2, 3, 159, 7000, 1001):
            agent.give(delta(audio=base64.b64encode(bytes(size)).decode()))
        agent.relay.settle()
        (unheard,) = agent.playback.clear(60.0)
        assert unheard.heard_ms == (1 + 2 + 3 + 159 + 7000 + 1001) // 8

    def test_another_item_is_noticed_wherever_its_id_is(self, agent):
        for item in ("item_1", "item_1", "item_2", "item_22", "item_2"):
            agent.give(delta(item))
        agent.relay.settle()
        assert {each.item_id for each in agent.playback.clear(0.0)} == {
            "item_1",
            "item_2",
            "item_22",
        }

    def test_an_interrupted_item_is_dropped_and_the_next_one_passes(self, agent):
        agent.give(delta())
        agent.relay.settle()
        agent.playback.clear(0.0)
        agent.give(delta())
        agent.give(delta("item_2", "AAAA"))
        assert agent.heard() == [FRAME, "AAAA"]

    def test_a_mark_that_comes_back_delays_no_frame(self, agent):
        for _ in range(60):
            agent.give(delta())
        agent.mark_returns("1", 1.1)
        assert agent.give(delta())
        agent.relay.settle()
        (unheard,) = agent.playback.clear(9.0)
        assert unheard.heard_ms == 61 * 20

    def test_after_silence_the_clock_restarts(self, agent):
        for _ in range(50):
            agent.give(delta())
        agent.mark_returns("1", 1.1)
        agent.now = 60.0
        for _ in range(10):
            agent.give(delta())
        agent.relay.settle()
        (unheard,) = agent.playback.clear(60.1)
        assert unheard.heard_ms == 1100

    def test_after_the_end_everything_is_dropped(self, agent):
        agent.playback.close(0.0)
        agent.give(delta())
        assert agent.sent == []

    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b'{"type":"response.done"}',
            json.dumps(json.loads(delta())).encode(),
            b'{"type":"response.output_audio.delta","item_id":"item_1"}',
            delta()[:200],
        ],
    )
    def test_everything_else_is_left_to_others(self, agent, text):
        agent.give(delta())
        agent.give(delta())
        assert agent.relay.take(text) is None
        assert agent.heard() == [FRAME] * 2

    def test_an_empty_frame_is_left_to_the_parser(self, agent):
        agent.give(delta())
        assert agent.relay.take(delta(audio="")) is None

    def test_no_frame_passes_before_an_item_was_played(self, agent):
        assert agent.relay.take(delta(item="")) is None
        assert agent.sent == []
        agent.give(delta())
        assert agent.playback.total == 160

    def test_play_reports_the_first_frame_of_an_item(self):
        relay = DeltaRelay([].append, Encoder("MZ1"), Playback(), lambda: 0.0)
        played = [relay.play(item, FRAME.encode()) for item in ("item_1", "item_1", "item_2")]
        assert played == [True, False, True]

    def test_a_dropped_frame_is_not_a_first_frame(self):
        playback = Playback()
        relay = DeltaRelay([].append, Encoder("MZ1"), playback, lambda: 0.0)
        playback.close(0.0)
        assert not relay.play("item_1", FRAME.encode())


class Agent:
    def __init__(self):
        self.now = 0.0
        self._texts = []
        self.playback = Playback()
        self.relay = DeltaRelay(self._texts.append, Encoder("MZ1"), self.playback, lambda: self.now)

    def give(self, text):
        """Give a delta to the relay as the socket does; parse it otherwise, as the runner does.

        Return True if the relay passed it on.
        """
        if message := self.relay.take(text):
            self._texts.append(message)
        else:
            self.relay.play(*reader.delta(json.loads(text)))
        return bool(message)

    def mark_returns(self, name, now):
        """Report a mark to the playback, as the runner does."""
        self.relay.settle()
        self.playback.played(name, now)
        self.relay.resume()

    @property
    def sent(self):
        return [json.loads(text) for text in self._texts]

    def heard(self):
        return [text["media"]["payload"] for text in self.sent if text["event"] == "media"]
