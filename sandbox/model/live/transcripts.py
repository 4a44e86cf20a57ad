"""The transcripts of both sides, as a session sends them: the caller's lags behind."""

from __future__ import annotations

from sandbox.model.live.clocked import ClockedSession
from sandbox.model.live.voice import Fragment, Transcript

TRANSCRIPT_MS = 400.0


class Transcripts:
    def __init__(self, session: ClockedSession) -> None:
        self._session = session
        self._caller = Transcript()
        self._model = Transcript()
        self._late: list[Fragment] = []  # of the caller's transcript

    def hear_caller(self, audio: bytes, turn: int) -> None:
        """Hear a step of the caller's audio, in the turn with this number."""
        if fragment := self._caller.hear(audio, self._session.clock_ms):
            self._send_later(fragment, turn)

    def hear_model(self, audio: bytes) -> None:
        """Hear a step of the model's audio."""
        if fragment := self._model.hear(audio, self._session.clock_ms):
            self._send("output", fragment)

    def finish(self, turn: int) -> None:
        """Send at once what is left."""
        if fragment := self._caller.finish(self._session.clock_ms):
            self._send_later(fragment, turn)
        for fragment in list(self._late):
            self._send_late(fragment)
        if fragment := self._model.finish(self._session.clock_ms):
            self._send("output", fragment)

    def _send_later(self, fragment: Fragment, turn: int) -> None:
        script = self._session.script
        listed = script.transcripts_ms
        delay_ms = listed[turn] if turn < len(listed) else TRANSCRIPT_MS
        if delay_ms is not None and not script.transcription_fails:
            self._late.append(fragment)
            self._session.after(delay_ms, lambda: self._send_late(fragment))

    def _send_late(self, fragment: Fragment) -> None:
        self._late.remove(fragment)
        self._send("input", fragment)

    def _send(self, side: str, fragment: Fragment) -> None:
        self._session.emit(
            {
                "type": f"session.{side}_transcript.delta",
                "delta": fragment.text,
                "start_ms": fragment.start_ms,
                "end_ms": fragment.end_ms,
            }
        )
