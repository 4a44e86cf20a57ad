"""Invariants of every call, whatever its peers send and in any order."""

from __future__ import annotations

import json
from typing import Any

from telephony.engine import leaving, toolbox
from telephony.engine.actions import CancelTool, ConnectModel, Finish, Note, RunTool
from telephony.engine.codecs.table import codec_of
from telephony.engine.events import (
    Event,
    ModelReady,
    ResponseDone,
    ResponseStarted,
    SpeechStopped,
    TimePassed,
    ToolFailed,
    ToolReturned,
)
from telephony.engine.phase import Phase
from telephony.engine.snapshot import Snapshot
from telephony.engine.timeline import MOST_NOTES
from telephony.engine.timers import Timer, ToolTimer
from telephony.tests.engine.conversation import PLAN, Conversation, Sent, Took

LIMIT_S = 300
# After the end, the last transcripts and the results of running tools may follow.
ENDS_WITHIN_S = LIMIT_S + toolbox.TOOL_S + leaving.TRANSCRIPT_S
# The model accepts no larger message.
LARGEST_MESSAGE = 1 << 20
MOST_EXPIRED = 5_000


class CheckedConversation(Conversation):
    """A conversation that checks the invariants after every event."""

    def __init__(self, **plan: Any) -> None:
        self.is_connected = self.is_finished = False
        self.running: list[str] = []
        self.asked_tools: set[str] = set()
        self.answered: set[str] = set()
        self.notes_count = 0
        self.began = 100.0  # where the conversation's clock begins
        codec = plan.pop("codec", None) or codec_of(plan.get("model", PLAN.model))
        super().__init__(ready=False, max_duration_seconds=LIMIT_S, codec=codec, **plan)

    def receive(self, event: Event) -> list[Took]:
        if isinstance(event, ModelReady):
            self.is_connected = True
        actions = super().receive(event)
        if isinstance(event, ToolReturned | ToolFailed) and event.call_id in self.running:
            self.running.remove(event.call_id)
        assert not (self.is_finished and actions), "an action after the end"
        assert sum(kind == "response.create" for kind in self.told()) <= 1
        for action in actions:
            self._check(action)
        assert (self.session.deadline is None) == self.is_finished, "a wait without a deadline"
        if self.session.phase not in (Phase.DRAINING, Phase.FINISHED):
            self._check_waits()
        return actions

    def _check_waits(self) -> None:
        """Check that each wait for an event has its own deadline."""
        timers, queue = self.session._state.timers._at, self.session._state.answers._queue
        assert (Timer.ASKED in timers) == (queue.asked is not None)
        assert (Timer.ACTIVE in timers) == queue.is_active
        assert (Timer.SPEECH in timers) == self.session._state.is_speaking
        if self.is_connected and not (
            queue.asked or queue.is_active or self.session._state.is_speaking
        ):
            assert (Timer.RESPONSE in timers) == bool(queue._wanted)
        for call_id in self.running:
            assert ToolTimer(call_id) in timers

    def _check(self, action: Took) -> None:
        match action:
            case Sent():
                assert self.is_connected, "an event for the model before it is connected"
                assert len(json.dumps(action.event)) <= LARGEST_MESSAGE
                self._check_output(action.event)
            case ConnectModel():
                self.is_connected = False
                self.codec = codec_of(action.plan.model)
                self.answered = set()  # by the next session, which learns all results
            case RunTool():
                assert action.call_id not in self.asked_tools, "a tool runs twice"
                self.asked_tools.add(action.call_id)
                self.running.append(action.call_id)
            case CancelTool():
                self.running.remove(action.call_id)
            case Note():
                self.notes_count += 1
                assert self.notes_count <= MOST_NOTES
            case Finish():
                assert action is self.actions[-1]
                assert self.now <= self.began + ENDS_WITHIN_S
                self.is_finished = True

    def _check_output(self, event: dict[str, Any]) -> None:
        item = event.get("item", {})
        if item.get("type") == "function_call_output":
            assert item["call_id"] not in self.answered, "two results for one call"
            self.answered.add(item["call_id"])

    def end(self) -> None:
        """Let time pass until no timer is left; the call must end by then."""
        expired = 0
        while (at := self.session.deadline) is not None:
            self.now = max(self.now, at)
            self.receive(TimePassed())
            expired += 1
            assert expired < MOST_EXPIRED, "timers expire endlessly"
        assert self.is_finished

    def cooperate(self) -> None:
        """Let model and backend respond until no request is left."""
        self.receive(SpeechStopped(""))
        for _ in range(200):
            if self.is_finished or self.session.phase is Phase.DRAINING:
                return
            self._cooperate_once()
            if not self.session._state.answers.is_busy and not self.running:
                return
        raise AssertionError("a queued request is never sent")

    def _cooperate_once(self) -> None:
        responses = self.session._state.answers._queue
        if self.running:
            self.receive(ToolReturned(self.running[-1], "ok"))
        elif responses.asked is not None:
            self.respond(f"answer to {responses.asked.id}")
        elif responses.active:
            response_id = "" if responses.active == "?" else responses.active
            self.receive(ResponseDone(response_id, "completed", spoke=True))
        elif responses.aside:
            aside_id = "" if responses.aside == "?" else responses.aside
            self.receive(ResponseDone(aside_id, "completed", spoke=True, is_aside=True))
        else:
            self.wait(1)

    def move(self, ago: float = 0.0, *, ready: bool = False) -> Snapshot | None:
        """Let another engine take the call up, if it is not over."""
        if self.session.is_over:
            return None
        usage = self.session.usage
        self.is_connected, self.running = False, []
        self.codec = codec_of(self.session._state.plan.model)
        self.answered = set()  # by the model of this session
        self.began += 1_000
        snapshot = super().move(ago, ready=ready)
        assert self.session.usage == usage
        return snapshot

    def take(self, steps: list[tuple[str, Any]]) -> None:
        for name, argument in steps:
            getattr(self, name)(argument)

    def begin_asked(self, _: int) -> None:
        if asked := self.session._state.answers._queue.asked:
            self.receive(ResponseStarted(f"of {asked.id}"))

    def return_tool(self, index: int) -> None:
        if self.running:
            self.receive(ToolReturned(self.running[index % len(self.running)], "ok"))
