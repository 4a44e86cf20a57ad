"""A call session with a clock that tests control, and short methods for its events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from telephony.engine.actions import Action, Note, ToModel
from telephony.engine.codecs.interface import Codec
from telephony.engine.codecs.realtime.codec import RealtimeCodec
from telephony.engine.events import (
    AgentAudioEnded,
    AgentTranscribed,
    CallerTranscribed,
    Event,
    FunctionCall,
    ItemAdded,
    ModelClosed,
    ModelConfigured,
    ModelErrored,
    ModelReady,
    ResponseDone,
    ResponseStarted,
    SpeechStarted,
    SpeechStopped,
    TimePassed,
)
from telephony.engine.plan import CallPlan, Tool
from telephony.engine.session import CallSession
from telephony.engine.snapshot import Snapshot

PLAN = CallPlan(
    twilio_account_sid="AC" + "0" * 32,
    twilio_auth_token="token",
    openai_api_key="sk-1",
    system_prompt="Be brief.",
    on_tool_call_url="https://backend.example/tool",
    tools=(Tool("look_up"), Tool("book")),
    builtin_tools=("end_call", "transfer_call", "send_dtmf"),
)

CODEC: Codec = RealtimeCodec()
# Of a conversation's clock.
UNIX_AHEAD = 1_788_552_000.0


@dataclass(frozen=True)
class Sent:
    """A message to the model, as the codec writes a command; it stands for ``ToModel``."""

    event: dict[str, Any]


Took = Action | Sent
_CLOSED = ModelClosed(1006)
A = TypeVar("A", bound=Took)


def encoded(actions: Sequence[Action], codec: Codec = CODEC) -> list[Took]:
    """Return the actions, with each command as the messages that the model gets."""
    took: list[Took] = []
    for action in actions:
        if isinstance(action, ToModel):
            took += [Sent(event) for event in codec.encode(action.command)]
        else:
            took.append(action)
    return took


def errored(code: str, message: str = "", event_id: str = "", param: str = "") -> ModelErrored:
    """Return the event of an error, as OpenAI writes it."""
    error = {"code": code, "message": message, "event_id": event_id, "param": param}
    [event] = CODEC.decode({"type": "error", "error": error})
    assert isinstance(event, ModelErrored)
    return event


class Conversation:
    def __init__(self, *, ready: bool = True, codec: Codec = CODEC, **plan: Any) -> None:
        self.now = 100.0
        self.codec = codec
        unix_now = self.now + UNIX_AHEAD
        self.session = CallSession(replace(PLAN, **plan), self.now, unix_now=unix_now)
        self.actions: list[Took] = []  # of the last event
        self.all: list[Took] = []
        self._items: list[str] = []
        self._acknowledged: set[str] = set()
        self._response = ""  # the last that began
        self._responses = 0
        if ready:
            self.receive(ModelReady())
            self.receive(ModelConfigured())

    def receive(self, event: Event) -> list[Took]:
        self.actions = encoded(self.session.receive(event, self.now), self.codec)
        self.all += self.actions
        return self.actions

    def wait(self, seconds: float) -> list[Took]:
        """Let time pass, with ``TimePassed`` at each deadline; return all actions."""
        until = self.now + seconds
        done: list[Took] = []
        while (at := self.session.deadline) is not None and at <= until:
            self.now = max(self.now, at)
            done += self.receive(TimePassed())
        self.now = until
        return done

    def move(self, ago: float = 0.0, *, ready: bool = True) -> Snapshot:
        """Let another engine, whose clock is 1,000 seconds ahead, take the call up.

        Then ``all`` has only what the new session did.
        """
        snapshot = self.session.snapshot("engine_stopping", self.now)
        assert snapshot is not None
        sealed = json.dumps(snapshot.to_dict())
        self.now += 1_000 + ago
        taken_up = Snapshot.from_dict(json.loads(sealed))
        self.session = CallSession.resume(
            taken_up, self.now, ago=ago, unix_now=self.now + UNIX_AHEAD
        )
        self.all, self._items, self._acknowledged = [], [], set()
        if ready:
            self.receive(ModelReady())
            self.receive(ModelConfigured())
        return taken_up

    # What the model does

    def hear(self, message: object) -> list[Took]:
        """Receive a message from the model, decoded from JSON, whatever it contains."""
        self.actions = []
        codec = self.codec
        for event in codec.decode(message):
            self.receive(event)
            if codec is not self.codec:  # another session takes the place of this one
                break
        return self.actions

    def disconnect(self, event: Event = _CLOSED) -> list[Took]:
        """Break the model's session so often that the call ends."""
        for _ in range(3):
            self.receive(event)
        return self.actions

    def answer(self, *items: object, **response: Any) -> list[Took]:
        """Let the model begin and end a response of these items."""
        self.respond()
        whole = {"id": self._response, "status": "completed", "output": list(items), **response}
        self._response = ""
        return self.hear({"type": "response.done", "response": whole})

    def respond(self, response_id: str = "") -> None:
        """Begin a response; generate an id if none is given."""
        self._responses += 1
        self._response = response_id or f"r{self._responses}"
        self.receive(ResponseStarted(self._response))

    def say(
        self, ms: int, *, item: str = "a1", text: str = "", ended: bool = False
    ) -> list[str | None]:
        """Send ``ms`` of the item's audio in frames of 20 ms; return the result of each."""
        if item not in self._items:
            self._add(item, "assistant")
        answers = [self.session.playback.sent(item, 160, self.now) for _ in range(ms // 20)]
        if ended:
            self.receive(AgentAudioEnded(item))
        if text:
            self.receive(AgentTranscribed(item, text))
        return answers

    def done(self, *calls: FunctionCall, status: str = "completed", **fields: Any) -> list[Took]:
        """End the response that began last; without one, a response without an id."""
        response, self._response = self._response, ""
        return self.receive(ResponseDone(response, status, calls, **fields))

    def call_tool(self, name: str = "look_up", arguments: str = "{}", *, id: str = "c1") -> None:
        self.respond()
        self.done(FunctionCall(id, name, arguments))

    def listen(self, item: str = "u1") -> None:
        self.receive(SpeechStarted(item))

    def heard(self, text: str, item: str = "u1") -> None:
        """End the caller's speech, and deliver its transcript."""
        self.receive(SpeechStopped(item))
        self._add(item, "user")
        self.receive(CallerTranscribed(item, text, 1.5))

    def acknowledge(self) -> None:
        """Add the items that the session has sent to the conversation, as the model does."""
        for sent in self.ever(Sent):
            item = sent.event.get("item", {})
            if item and item["id"] not in self._acknowledged:
                self._acknowledged.add(item["id"])
                self._add(item["id"], item.get("role", ""))

    def _add(self, item: str, role: str) -> None:
        previous = self._items[-1] if self._items else None
        self._items.append(item)
        self.receive(ItemAdded(item, previous, role))

    # What the session did

    def took(self, kind: type[A]) -> list[A]:
        """Return the actions of a kind that the last event caused."""
        return [action for action in self.actions if isinstance(action, kind)]

    def ever(self, kind: type[A]) -> list[A]:
        return [action for action in self.all if isinstance(action, kind)]

    def told(self) -> list[str]:
        """Return the types of the events that the model got because of the last event."""
        return types(self.actions)

    def asked(self) -> list[dict[str, Any]]:
        """Return every ``response.create`` so far."""
        sent = [action.event for action in self.ever(Sent)]
        return [event for event in sent if event["type"] == "response.create"]

    def notes(self, *kinds: str) -> list[tuple[str, dict[str, Any]]]:
        """Return the timeline events of these kinds."""
        return [(note.kind, note.detail) for note in self.ever(Note) if note.kind in kinds]

    def outputs(self) -> list[str]:
        """Return all results of tool calls that the model got."""
        items = [
            action.event["item"]
            for action in self.ever(Sent)
            if action.event["type"] == "conversation.item.create"
        ]
        return [item["output"] for item in items if item["type"] == "function_call_output"]


def types(actions: Sequence[Took]) -> list[str]:
    """Return the types of the events for the model."""
    return [action.event["type"] for action in actions if isinstance(action, Sent)]
