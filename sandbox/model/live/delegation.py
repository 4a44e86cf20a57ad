"""Work that the model leaves to the backend, or to the client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sandbox.model.base import Event
from sandbox.model.errors import ClientError
from sandbox.model.live.backend import CALL_MS, CONTINUE_MS, Backend
from sandbox.model.live.clocked import ClockedSession, Steps
from sandbox.model.live.speaker import Speaker
from sandbox.model.script import Say, Turn

ACKNOWLEDGEMENT = "One moment."


class Delegation:
    """The tasks of one session; ``when_done`` is called when a task has no work left."""

    def __init__(
        self, session: ClockedSession, speaker: Speaker, when_done: Callable[[], None]
    ) -> None:
        self._session = session
        self._speaker = speaker
        self._when_done = when_done
        self._backend = Backend(session.new_id)
        self._task: str | None = None
        self._unacknowledged: str | None = None
        self._of_client: set[str] = set()

    @property
    def has_open_task(self) -> bool:
        """True while the backend works on a task, or waits for results."""
        return self._backend.has_open_task

    def begin(self, turn: Turn, *, is_acknowledged: bool) -> None:
        """Delegate the rest of a turn."""
        session = self._session
        self._task = session.new_id("item")
        target = session.settings["delegation"]["type"]
        delegation = {"id": self._task, "type": "delegation", "target": target}
        settings = session.responses
        if settings is None:
            self._of_client.add(self._task)
        else:
            delegation["response_id"] = session.new_id("resp")
        session.emit(
            {
                "type": "session.delegation.created",
                "offset_ms": session.clock_ms,
                "delegation": delegation,
            }
        )
        if not is_acknowledged:
            self._acknowledge_soon(self._task)
        if settings is not None:
            self._respond(turn, settings, delegation["response_id"], CALL_MS)

    def expect_client_task(self, delegation_id: str | None) -> None:
        if delegation_id is not None and delegation_id not in self._of_client:
            raise ClientError(
                f"Invalid 'delegation_id': no client delegation '{delegation_id}'.",
                param="delegation_id",
            )

    # "One moment"

    def acknowledge_no_more(self) -> None:
        """Say no "one moment" that is still to come: there is something else to say."""
        self._unacknowledged = None

    def _acknowledge_soon(self, task: str) -> None:
        """Say "one moment" for a task after the configured delay."""
        self._unacknowledged = task
        delay_ms = self._session.settings["delegation"].get("acknowledgement_delay_ms") or 0
        self._session.after(delay_ms, lambda: self._acknowledge(task))

    def _acknowledge(self, task: str) -> None:
        if self._unacknowledged == task and not self._speaker.is_interrupted:
            self._speaker.say(ACKNOWLEDGEMENT)

    # The backend

    def create_item(self, event: Event) -> None:
        self._expect_backend()
        self._backend.add(event["item"])

    def create_response(self, _event: Event) -> None:
        settings = self._expect_backend()
        turn = self._session.next_turn(self._backend.continued(settings))
        self._respond(turn, settings, self._session.new_id("resp"), CONTINUE_MS)

    def _respond(
        self, turn: Turn, settings: dict[str, Any], response_id: str, lead_ms: float
    ) -> None:
        self._session.run(self._work_on(turn, settings, response_id, lead_ms))

    def _work_on(
        self, turn: Turn, settings: dict[str, Any], response_id: str, lead_ms: float
    ) -> Steps:
        task, session = self._task, self._session
        created_at = session.unix_s
        for output in self._backend.respond(turn, settings, response_id, created_at, lead_ms):
            match output:
                case dict():
                    session.emit({"type": "response.event", "delegation_id": task, "event": output})
                case Say():
                    self.acknowledge_no_more()
                    self._speaker.utter(output.text)
                case _:
                    yield output
        if not self.has_open_task:
            self._task = None
            self._when_done()

    def _expect_backend(self) -> dict[str, Any]:
        settings = self._session.responses
        if settings is None:
            raise ClientError(
                "This event requires Responses delegation.", code="invalid_delegation_type"
            )
        return settings
