"""A whole call with GPT-Live in one thread: session, codec, and the sandbox's model and caller.

Time is the caller's audio: a step is 100 ms of it.
"""

from __future__ import annotations

import base64
import json
import math
from dataclasses import replace
from typing import Any, TypeVar

from sandbox import speech
from sandbox.model import Close, Drop, Script
from sandbox.model.live.session import LiveSession
from sandbox.model.live.voice import STEP_BYTES, STEP_MS
from sandbox.tests.live import judge_client
from telephony.engine import actions, events
from telephony.engine.codecs.live.codec import LiveCodec
from telephony.engine.plan import CallPlan
from telephony.engine.playback import BYTES_PER_MS
from telephony.engine.session import CallSession
from telephony.engine.snapshot import Snapshot
from telephony.engine.twilio_codec import Encoder
from telephony.tests.engine.conversation import PLAN

A = TypeVar("A", bound=actions.Action)
_ENCODER = Encoder("MZ1")
_SILENCE = b"\xff" * STEP_BYTES


class LiveCall:
    def __init__(self, *turns: Any, script: Script | None = None, **plan: Any) -> None:
        self.plan: CallPlan = replace(PLAN, model="gpt-live-1.1", **plan)
        self.now = 100.0
        self.session = CallSession(self.plan, self.now)
        self.all: list[actions.Action] = []
        self.played: list[tuple[float, bytes]] = []  # audio, and when the caller hears it
        self._plays_until = self.now
        self._marks: list[tuple[float, str]] = []
        #: The scripts of the model's further sessions.
        self.scripts: list[Script] = []
        self._sessions = 0
        self._is_leaving_model = False
        self._connect(script or Script(turns=turns))

    def _connect(self, script: Script) -> None:
        self._sessions += 1
        self.model = LiveSession(script, self._sessions)
        self.model.open()
        self.codec = LiveCodec()
        self._agent = self.codec.agent_audio(
            self._to_caller, _ENCODER, self.session.playback, lambda: self.now
        )
        self.sent: list[dict[str, Any]] = []  # to the model
        self._is_listening = False
        self.receive(events.ModelReady())
        self._exchange()

    def move(self, *turns: Any) -> None:
        """Go on with another engine and another session of the model."""
        snapshot = self.session.snapshot("engine_stopping", self.now)
        assert snapshot is not None
        kept = Snapshot.from_dict(json.loads(json.dumps(snapshot.to_dict())))
        self.session = CallSession.resume(kept, self.now)
        self._marks = []
        self._connect(Script(turns=turns))

    # The runner

    def receive(self, event: events.Event) -> None:
        self._agent.settle()
        for action in self.session.receive(event, self.now):
            self.all.append(action)
            self._do(action)
        self._agent.resume()

    def _do(self, action: actions.Action) -> None:
        match action:
            case actions.ToModel():
                self._send(self.codec.encode(action.command))
            case actions.ConnectModel():
                self._is_leaving_model = True
            case actions.SendMark():
                self._mark(action.name)
            case actions.ClearAudio():
                self.played = [(at, audio) for at, audio in self.played if at <= self.now]
                self._plays_until = self.now
                self._marks = [(self.now, name) for _, name in self._marks]

    def _send(self, messages: list[dict[str, Any]]) -> None:
        for message in messages:
            judge_client(message)
            self.sent.append(message)
            self.model.receive(json.dumps(message))

    def _exchange(self) -> None:
        """Process what the model sends, until it sends nothing more."""
        while not self._is_leaving_model:
            self.model.advance(math.inf)
            if not (outputs := self.model.take()):
                return
            for output in outputs:
                if not self._is_leaving_model:
                    self._process(output)
        self._is_leaving_model = False
        self._connect(self.scripts.pop(0) if self.scripts else Script())

    def _process(self, output: Any) -> None:
        if isinstance(output, Close | Drop):
            for event in self.codec.closed():
                self.receive(event)
            self.receive(events.ModelClosed(getattr(output, "code", 1006)))
            return
        for event in self.codec.decode(output):
            self.receive(event)
            if self._is_leaving_model:
                return
            self._is_listening |= isinstance(event, events.ModelConfigured)
        if (delta := self.codec.audio(output)) and self._agent.play(*delta):
            self.receive(events.AgentAudioStarted(delta[0]))
        self._send(self.codec.due())

    # Twilio

    def _to_caller(self, text: bytes) -> None:
        message = json.loads(text)
        if message["event"] == "mark":
            self._mark(message["mark"]["name"])
            return
        audio = base64.b64decode(message["media"]["payload"])
        start = max(self._plays_until, self.now)
        self.played.append((start, audio))
        self._plays_until = start + len(audio) / BYTES_PER_MS / 1000

    def _mark(self, name: str) -> None:
        self._marks.append((max(self._plays_until, self.now), name))

    def _return_marks(self) -> None:
        due = [name for at, name in self._marks if at <= self.now]
        self._marks = [(at, name) for at, name in self._marks if at > self.now]
        for name in due:
            self.receive(events.MarkPlayed(name))

    # The caller

    def play(self, audio: bytes) -> None:
        """Send so much audio of the caller, in steps of 100 ms."""
        for at in range(0, len(audio), STEP_BYTES):
            self._step(audio[at : at + STEP_BYTES].ljust(STEP_BYTES, b"\xff"))

    def _step(self, audio: bytes) -> None:
        self.now += STEP_MS / 1000
        while (at := self.session.deadline) is not None and at <= self.now:
            self.receive(events.TimePassed())
        if self._is_listening and not self.session.is_over:
            self.model.receive(self.codec.append_audio(base64.b64encode(audio)).decode())
        self._exchange()
        self._return_marks()

    def say(self, text: str, then_s: float = 4.0) -> str:
        """Say something and listen; return what the agent said meanwhile."""
        before = len(self.played)
        self.play(b"".join(speech.frames(text)))
        self.wait(then_s)
        return self.heard(before)

    def wait(self, seconds: float) -> str:
        before = len(self.played)
        self.play(_SILENCE * round(seconds * 1000 / STEP_MS))
        return self.heard(before)

    def heard(self, since: int = 0) -> str:
        return speech.hear(audio for _, audio in self.played[since:])

    @property
    def delay_s(self) -> float:
        """How much audio waits at Twilio."""
        return max(0.0, self._plays_until - self.now)

    def lines(self) -> list[tuple[str, str]]:
        return [(line.role, line.text) for line in self.session.lines()]

    def ever(self, kind: type[A]) -> list[A]:
        return [action for action in self.all if isinstance(action, kind)]

    def finished(self) -> actions.Finish:
        """Let the call come to its end; return how it was."""
        for _ in range(100):
            if ended := self.ever(actions.Finish):
                return ended[0]
            self.wait(0.5)
        raise AssertionError("The call did not finish.")
