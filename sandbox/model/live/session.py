"""One session of GPT-Live on its primary WebSocket: how it starts, changes and ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sandbox.model.base import Event
from sandbox.model.errors import ClientError, ErrorBody
from sandbox.model.live.appends import Appends
from sandbox.model.live.clocked import ClockedSession
from sandbox.model.live.dialogue import Dialogue
from sandbox.model.live.requests import check_event
from sandbox.model.live.settings import expect_changeable, started_session, updated_session
from sandbox.model.live.speaker import Speaker
from sandbox.model.live.transcripts import Transcripts
from sandbox.model.script import Close, Script
from sandbox.model.usage import text_tokens

USAGE_MS = 15_000
FINALIZING_MS = 300.0
REFUSED_MS = 2_000.0
CONTEXT_TOKENS = 128_000
TOKENS_PER_SECOND = 30


class LiveSession(ClockedSession):
    """The model's side of a connection, from ``session.start`` on.

    ``refusal`` is why no session may start, ``began_at`` the time in Unix seconds.
    """

    def __init__(
        self,
        script: Script,
        number: int = 1,
        *,
        expires_at: int = 0,
        began_at: int = 0,
        refusal: ErrorBody | None = None,
    ) -> None:
        super().__init__(script, number, began_at)
        self._expires_at = expires_at
        self._refusal = refusal
        self._transcripts = Transcripts(self)
        self._speaker = Speaker(self, self._transcripts)
        self._dialogue = Dialogue(self, self._speaker, self._transcripts)
        self._appends = Appends(self, self._speaker, self._dialogue)
        self._handlers: dict[str, Callable[[Event], None]] = {
            "session.update": self._update,
            "session.input_audio.append": self._append_audio,
            "session.input_audio.mute": self._dialogue.mute,
            "session.input_audio.unmute": self._dialogue.unmute,
            "session.output_audio.fixture.play": self._speaker.play_fixture,
            "session.instructions.append": self._appends.append,
            "session.thinking.append": self._appends.append,
            "session.commentary.append": self._appends.append,
            "response.item.create": self._dialogue.delegation.create_item,
            "response.create": self._dialogue.delegation.create_response,
            "session.close": self._close,
        }

    # From the client

    def _opened(self) -> None:
        """Say nothing: the client begins."""

    def _handle(self, event: Event) -> None:
        if self.is_leaving:
            return
        kind = str(event.get("type"))
        if kind == "session.start" and not self.settings:
            self._start(event)
            return
        if kind == "session.update":
            expect_changeable(event.get("session"))
        self._handlers[self._expected(check_event(event))](event)

    def _expected(self, kind: str) -> str:
        if kind == "session.start":
            raise ClientError("The session has already started.", code="session_already_started")
        if not self.settings:
            raise ClientError(
                "Send session.start first, and wait for session.started.",
                code="session_not_started",
            )
        return kind

    def _start(self, event: Event) -> None:
        """Start the session, or refuse it: with an error in place of ``session.started``."""
        try:
            check_event(event)
            if self._refusal:
                raise ClientError.of(self._refusal)
            session_id = self.new_id("live")
            settings = started_session(session_id, self._expires_at, event["session"])
            self._read_scripts(settings)
        except ClientError as error:
            self._leave(error.body)
            return
        self._start_clock(settings)
        self._speaker.has_spoken = bool(settings["input"])
        self.answer(event, "session.started", session=settings)

    def _update(self, event: Event) -> None:
        settings = updated_session(self.settings, event["session"])
        self._read_scripts(settings)
        self.settings = settings
        self.answer(event, "session.updated", session=settings)

    def _read_scripts(self, settings: dict[str, Any]) -> None:
        backend = (settings["delegation"].get("responses") or {}).get("instructions")
        self._read_script(
            f"{settings['instructions'] or ''}\n{backend or ''}", "session.instructions"
        )

    # The clock

    def _step(self, audio: bytes) -> None:
        self._dialogue.hear(audio)
        self._speaker.step()
        if self.clock_ms % USAGE_MS == 0:
            self.emit(
                {
                    "type": "session.usage.updated",
                    "usage": self._usage,
                    "context_window": {"usage_ratio": self._usage_ratio},
                }
            )

    @property
    def _usage(self) -> dict[str, float]:
        return {"seconds": self.used_s}

    @property
    def _usage_ratio(self) -> float:
        read = text_tokens(self.settings["instructions"] or "") + self._appends.tokens
        tokens = read + self.clock_ms * TOKENS_PER_SECOND // 1000
        return round(min(1.0, tokens / CONTEXT_TOKENS), 4)

    # The end

    def fail(self, body: ErrorBody) -> None:
        if not self.settings or body.close:
            self._leave(body)
        else:
            self._refuse(body, None)

    def expire(self) -> None:
        self._closed("expired")

    def _close(self, event: Event) -> None:
        self.is_leaving = True
        event_id = event.get("event_id")
        self._connection.after(FINALIZING_MS, lambda: self._closed("close_requested", event_id))

    def _closed(self, reason: str, event_id: str | None = None) -> None:
        if self.settings:
            self._transcripts.finish(self._dialogue.heard_turns)
            self.answer(
                {"event_id": event_id},
                "session.closed",
                reason=reason,
                usage=self._usage,
                session=self.settings,
            )
        self._end(Close(1000))

    def _leave(self, body: ErrorBody) -> None:
        """Send the error; the socket goes a little later."""
        self._refuse(body, None)
        self.is_leaving = True
        self._connection.after(REFUSED_MS, lambda: self._end(Close(1000)))

    def _refuse(self, body: ErrorBody, event_id: str | None) -> None:
        error = {**body.wire(), "code": body.code or body.type}
        if event_id is not None:
            error["client_event_id"] = event_id
        self.emit({"type": "error", "error": error})
