"""A test call in progress: the customer's browser receives more than Twilio would.

The messages have the media stream's shape. ``transcript`` has all turns so far, in the format of
onCallEnd. ``after`` has what Twilio would do now: ``say``, ``transfer``, or nothing, to hang up.
The socket stays open until the last transcript is there, which is not charged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from telephony.engine import events
from telephony.engine.after_stream import AfterStream, as_json
from telephony.engine.transcript import Line
from telephony.voice.runner import CallRunner, Connection


class BrowserCallRunner(CallRunner):
    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._shown: Sequence[dict[str, Any]] = []

    def receive(self, event: events.Event) -> None:
        super().receive(event)
        self._show_transcript(self._session.lines())

    def caller_stopped(self) -> None:
        self._note_close()
        self.receive(events.CallerHungUp())

    async def _end_stream(self, after: AfterStream) -> None:
        self._note_close()
        self._show("after", as_json(after))

    def _show_transcript(self, lines: Sequence[Line]) -> None:
        transcript = self._outcomes.transcript(lines)
        if transcript != self._shown:
            self._shown = transcript
            self._show("transcript", transcript)

    def _show(self, kind: str, content: Any) -> None:
        self._caller.send(orjson.dumps({"event": kind, kind: content}))
