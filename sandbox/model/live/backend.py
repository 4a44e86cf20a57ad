"""The delegated Responses model: it runs tools, and writes what the voice is to say.

A response is an iterator as :class:`sandbox.model.response.Response` has one: events, pauses
between them, and what is to happen to the connection. ``Say`` stands for text that it has written.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sandbox.model.base import Event
from sandbox.model.errors import ClientError, error_body
from sandbox.model.persona import Prompt
from sandbox.model.response import ARGUMENT_CHARACTERS, ARGUMENT_MS, Pause
from sandbox.model.script import (
    Call,
    Disturbance,
    Fail,
    Incomplete,
    Say,
    Stall,
    Turn,
    Wait,
)
from sandbox.model.usage import BackendMeter, text_tokens

# The real backend takes 0.7 to 1.5 s to call a tool, and 1 to 3 s to continue after the results.
CALL_MS = 700.0
CONTINUE_MS = 1_000.0
MOST_ITEMS = 128
MOST_BYTES = 32_768

Output = Event | Pause | Say | Disturbance


@dataclass(slots=True)
class Budget:
    """What a client may give the backend in one session: results and messages together."""

    items: int = 0
    bytes: int = 0

    def take(self, text: str) -> None:
        """Count an item, or raise :class:`ClientError` and count nothing."""
        size = len(text.encode(errors="replace"))
        if self.items >= MOST_ITEMS or self.bytes + size > MOST_BYTES:
            raise ClientError(
                "The input buffer of the Responses backend is full: a session may add "
                f"{MOST_ITEMS} items and {MOST_BYTES} bytes.",
                code="response_input_buffer_full",
                param="item",
            )
        self.items += 1
        self.bytes += size


@dataclass(slots=True)
class _Progress:
    """A response in the making."""

    id: str
    created_at: int
    settings: dict[str, Any]
    given: int
    made: int = 0
    items: int = 0
    events: int = 0

    def event(self, kind: str, **fields: Any) -> Event:
        self.events += 1
        return {"type": f"response.{kind}", "sequence_number": self.events - 1, **fields}

    def snapshot(self, status: str, **fields: Any) -> dict[str, Any]:
        """Return the response as its lifecycle events show it: without input and output."""
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created_at,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "model": self.settings["model"],
            "output": [],
            "parallel_tool_calls": self.settings.get("parallel_tool_calls") is not False,
            "tool_choice": self.settings.get("tool_choice") or "auto",
            "tools": [],
            "usage": None,
            **fields,
        }


class Backend:
    """The backend of one session, which does one task at a time."""

    def __init__(self, new_id: Callable[[str], str]) -> None:
        self._new_id = new_id
        self._budget = Budget()
        self._meter = BackendMeter()
        self._read = 0
        self._results: dict[str, str | None] = {}  # by call; None while the call is open
        self._typed: list[str] = []
        self.is_busy = False

    @property
    def has_open_task(self) -> bool:
        """True while a response is in progress, or waits for results."""
        return self.is_busy or bool(self._results)

    def add(self, item: dict[str, Any]) -> None:
        """Add an item of a valid ``response.item.create``, for the next response.

        Raises :class:`ClientError` if it answers no open call, or exceeds the budget.
        """
        if item["type"] == "message":
            text = " ".join(part["text"] for part in item["content"])
            self._budget.take(text)
            self._typed.append(text)
            return
        call_id = item["call_id"]
        if call_id not in self._results or self._results[call_id] is not None:
            raise ClientError(
                f"No open function call with call_id '{call_id}'.", param="item.call_id"
            )
        self._budget.take(item["output"])
        self._results[call_id] = item["output"]

    def continued(self, settings: dict[str, Any]) -> Prompt:
        """Return what the next response reads, or raise :class:`ClientError` if it is too early."""
        if self.is_busy or None in self._results.values():
            raise ClientError(
                "The delegated response is waiting for function call outputs. Add an output for "
                "each call once the response has completed.",
                code="function_call_outputs_required",
            )
        results = [result for result in self._results.values() if result is not None]
        typed = " ".join(self._typed)
        self._results.clear()
        self._typed.clear()
        self._read += text_tokens(typed) + sum(map(text_tokens, results))
        return Prompt(
            instructions=settings.get("instructions") or "",
            said=typed,
            results=results,
            tools=functions(settings),
            tool_choice=settings.get("tool_choice") or "auto",
        )

    def respond(
        self,
        turn: Turn,
        settings: dict[str, Any],
        response_id: str,
        created_at: int,
        lead_ms: float,
    ) -> Iterator[Output]:
        """Yield the events of a response which carries out the turn.

        ``lead_ms`` passes before its first item. The backend is busy until it has ended.
        """
        given = text_tokens(json.dumps([settings.get("instructions"), settings.get("tools")]))
        response = _Progress(response_id, created_at, settings, given + self._read)
        self.is_busy = True
        for stage in ("created", "in_progress"):
            yield response.event(stage, response=response.snapshot("in_progress"))
        yield Pause(lead_ms)
        status = "completed"
        details: dict[str, Any] = {}
        for step in turn:
            match step:
                case Call():
                    yield from self._call(step, response)
                case Say():
                    yield from self._write(step, response)
                case Wait():
                    yield Pause(step.ms)
                case Stall():
                    yield Pause(math.inf)
                case Fail():
                    error = error_body(step.code, step.message)
                    status, details = "failed", {"error": _error(error.code, error.message)}
                    break
                case Incomplete():
                    status, details = "incomplete", {"incomplete_details": {"reason": step.reason}}
                    break
                case _:
                    yield step
        if status != "completed":
            self._results.clear()  # its calls are void
        self._read += response.made
        self.is_busy = False
        usage = self._meter.count(response.given, response.made)
        yield response.event(status, response=response.snapshot(status, usage=usage, **details))

    def _call(self, step: Call, response: _Progress) -> Iterator[Output]:
        arguments = step.arguments
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments, ensure_ascii=False)
        item = {
            "id": self._new_id("fc"),
            "type": "function_call",
            "status": "in_progress",
            "call_id": self._new_id("call"),
            "name": step.name,
            "arguments": "",
        }
        at = {"item_id": item["id"], "output_index": response.items}
        yield self._item(response, "added", item)
        for start in range(0, len(arguments), ARGUMENT_CHARACTERS):
            delta = arguments[start : start + ARGUMENT_CHARACTERS]
            yield response.event("function_call_arguments.delta", **at, delta=delta)
            yield Pause(ARGUMENT_MS)
        yield response.event("function_call_arguments.done", **at, arguments=arguments)
        status = "incomplete" if step.cancelled else "completed"
        if not step.cancelled:
            self._results[item["call_id"]] = None
        response.made += text_tokens(step.name + arguments)
        yield self._item(response, "done", {**item, "status": status, "arguments": arguments})

    def _write(self, step: Say, response: _Progress) -> Iterator[Output]:
        item = {"id": self._new_id("msg"), "type": "message", "role": "assistant"}
        at = {"item_id": item["id"], "output_index": response.items, "content_index": 0}
        part = {"type": "output_text", "text": step.text, "annotations": []}
        response.made += text_tokens(step.text)
        yield self._item(response, "added", {**item, "status": "in_progress", "content": []})
        yield response.event("content_part.added", **at, part={**part, "text": ""})
        yield response.event("output_text.delta", **at, delta=step.text, logprobs=[])
        yield response.event("output_text.done", **at, text=step.text, logprobs=[])
        yield response.event("content_part.done", **at, part=part)
        yield self._item(response, "done", {**item, "status": "completed", "content": [part]})
        yield step

    def _item(self, response: _Progress, what: str, item: dict[str, Any]) -> Event:
        index = response.items
        response.items += what == "done"
        return response.event(f"output_item.{what}", output_index=index, item=item)


def functions(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the tools that the client runs."""
    return [tool for tool in settings.get("tools") or [] if tool["type"] == "function"]


def _error(code: str | None, message: str) -> dict[str, Any]:
    return {"code": code or "server_error", "message": message}
