"""The delegated Responses model: which calls are open, when it may continue, what it may be given.

The backend runs one task at a time. It continues when its response is complete, every call has its
output, and one ``response.create`` asks it to. What a session may give it is limited.
"""

from __future__ import annotations

from typing import Any

# OpenAI's limits for a session are 128 items and 32,768 bytes, with results and messages together.
# The rest of them is for placeholders: a call without an output would silence the agent for good.
MOST_ITEMS = 100
MOST_BYTES = 30_000
# What the next results may need. With less left, another session is to take this one's place.
SPARE_ITEMS = 25
SPARE_BYTES = 10_000
# Of one result or message: the voice cannot say more anyway.
LONGEST_BYTES = 8_000
# Bytes: in English, 500 tokens have some 2,000, and in Chinese as many, of fewer characters.
LONGEST_APPENDED = 1_700
TOO_LONG = '{"error":"The result is too long."}'
_PLACEHOLDER = "{}"

Message = dict[str, Any]


class Work:
    def __init__(self) -> None:
        self._open: set[str] = set()
        self._is_running = False
        self._wanted: str | None = None  # the id of a request that waits
        self._asked = ""  # the id of one that was sent, and has not become a response
        self._is_bare = False  # it had nothing new for the backend
        self._may_repeat = False  # the last response or request failed
        self._has_input = False
        self._given: list[Message] = []  # the last input, for a voice whose backend fails
        self._known: list[Message] | None = None  # what the voice is to speak about next
        self._items = 0
        self._bytes = 0

    # What the backend reports

    def began(self) -> None:
        self._is_running, self._may_repeat, self._asked = True, False, ""

    def refused(self, about: str, *, may_pass: bool) -> None:
        """Record an error about a request, or "" for one that names nothing.

        If the request has not become a response, it may be sent again without new input. But after
        a failed response there may be nothing to continue: then the voice has to go on alone.
        """
        if not self._asked or about not in ("", self._asked):
            return
        if self._is_bare and not may_pass:
            self._known, self._given, self._asked = self._given, [], ""
        else:
            self._may_repeat = True

    def forget_failure(self) -> None:
        """Repeat no response that failed: something else is said instead."""
        self._may_repeat = False

    def called(self, call_id: str) -> None:
        self._open.add(call_id)

    def ended(self, *, is_complete: bool) -> None:
        """Record the end of a response; the calls of one that failed are void."""
        self._is_running, self._may_repeat = False, not is_complete
        if is_complete:
            self._given = []
        else:
            self._open.clear()

    # What it is given

    def add_result(self, item_id: str, call_id: str, result: str) -> list[Message]:
        """Return the messages that give a result; a void call's is only made known."""
        if call_id not in self._open:
            self._known = self._known or []
            return [thought(item_id, result)]
        self._open.discard(call_id)
        self._has_input = True
        self._given.append(thought(item_id, result))
        item = {"type": "function_call_output", "call_id": call_id}
        return [self._item(item_id, {**item, "output": self._fitting(result, TOO_LONG)})]

    def add_text(self, item_id: str, role: str, text: str) -> list[Message]:
        self._has_input = True
        content = [{"type": "input_text", "text": self._fitting(text, "…")}]
        return [self._item(item_id, {"type": "message", "role": role, "content": content})]

    def ask(self, request_id: str) -> bool:
        """Ask for a response as soon as it may come; return False if there is nothing new."""
        if not self._has_more:
            return False
        self._wanted = request_id
        return True

    def due(self) -> list[Message]:
        """Return the request that waited, if the backend may continue."""
        if self._wanted is None or self._is_running or self._open or not self._has_more:
            return []
        self._asked, self._wanted = self._wanted, None
        self._is_bare = not self._has_input
        self._has_input = self._may_repeat = False
        return [{"type": "response.create", "event_id": self._asked}]

    def left_to_voice(self) -> list[Message] | None:
        """Return what the voice has to know before it speaks in place of the backend.

        None if it has nothing to speak about.
        """
        known, self._known = self._known, None
        return [] if self._is_running else known  # if it is running, it has been given up

    @property
    def _has_more(self) -> bool:
        """Return True if the backend has something to respond to, or did not react to a request."""
        return self._has_input or self._may_repeat or bool(self._asked)

    @property
    def is_nearly_full(self) -> bool:
        """Return True if little is left of what a session may be given."""
        few_items = self._items > MOST_ITEMS - SPARE_ITEMS
        return few_items or self._bytes > MOST_BYTES - SPARE_BYTES

    def _fitting(self, text: str, otherwise: str) -> str:
        """Return the text if the budget has room for it, and count it."""
        for candidate in (text, otherwise):
            size = len(candidate.encode(errors="replace"))
            fits = size <= LONGEST_BYTES and self._bytes + size <= MOST_BYTES
            if fits and self._items < MOST_ITEMS:
                self._items += 1
                self._bytes += size
                return candidate
        return _PLACEHOLDER

    @staticmethod
    def _item(item_id: str, item: dict[str, Any]) -> Message:
        return {"type": "response.item.create", "event_id": item_id, "item": item}


def thought(item_id: str, text: str) -> Message:
    """Return the message that makes something known to the voice."""
    return append("thinking", item_id, text)


def append(kind: str, event_id: str, text: str) -> Message:
    """Return the message that appends a text, of which OpenAI takes 500 tokens."""
    return {
        "type": f"session.{kind}.append",
        "event_id": event_id,
        "delegation_id": None,
        "content": text.encode(errors="replace")[:LONGEST_APPENDED].decode(errors="ignore"),
    }
