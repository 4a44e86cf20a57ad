"""How long the caller waits for the agent: for its audio to come, and to be heard."""

from __future__ import annotations

from telephony.engine.codes import EventKind
from telephony.engine.context import CallContext


class ReplyTimes:
    def __init__(self, context: CallContext) -> None:
        self._context = context
        self._started = context.now
        self._waiting_since: float | None = None  # for a response
        # The item of a response that the caller does not hear yet, and since when they wait for it.
        self._awaited: tuple[str, float] | None = None
        self._is_silent = True  # no one has spoken yet

    def follow(self) -> None:
        """Continue a call in which someone has spoken."""
        self._is_silent = False

    def caller_speaks(self) -> None:
        self._waiting_since = self._awaited = None
        self._is_silent = False

    def caller_waits(self, ago_s: float = 0.0) -> None:
        """Begin to wait: the caller finished a turn, so long ago."""
        self._waiting_since = self._context.now - ago_s

    def audio_came(self, item_id: str, *, is_cached: bool = False) -> None:
        """Note how long the first audio of an item took, if the caller waited for it.

        :param is_cached: it is a greeting from the cache.
        """
        if self._waiting_since is not None:
            took = self._context.ms_since(self._waiting_since)
            self._context.note(EventKind.AGENT_SPOKE, latencyMs=took)
            self._awaited = (item_id, self._waiting_since)
        elif self._is_silent:
            detail = {"cached": True} if is_cached else {}
            ms = self._context.ms_since(self._started)
            self._context.note(EventKind.GREETED, ms=ms, **detail)
        self._waiting_since, self._is_silent = None, False

    def audio_heard(self, item_id: str, played_ms: int) -> None:
        """Note how long the caller waited to hear an item, with the first mark in it."""
        if self._awaited and self._awaited[0] == item_id:
            since, self._awaited = self._awaited[1], None
            began = max(self._context.ms_since(since) - played_ms, 0)
            self._context.note(EventKind.AGENT_HEARD, latencyMs=began)
