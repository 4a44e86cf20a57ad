"""A stand-in for OpenAI that has the conversation of ``dialogue``, and says what it reported.

It is the sandbox's model, with its timing and its ear. As a program, it writes its port to standard
output, and then a JSON object for everything that it reported as used, and for each session in
which it began to hear the caller: ``{"call", "used"}`` or ``{"call", "hears_at"}``, in seconds of
the machine's monotonic clock. It exits when its standard input is closed.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from typing import Any

import uvloop
from aiohttp import web

from devtools.cluster import dialogue
from sandbox.model import persona
from sandbox.model.script import Call, Say, Script, Turn
from sandbox.model.server import ModelServer
from sandbox.model.session import RealtimeSession
from telephony.engine.costs import TokenUsage

_CALL = re.compile(r"\bCA[0-9a-f]{32}\b")
_AUDIO = '{"type":"input_audio_buffer.append"'
_DONE = "response.done"
_TRANSCRIBED = "conversation.item.input_audio_transcription.completed"


class TalkingSession(RealtimeSession):
    def __init__(self, model: str, script: Script, number: int = 1, expires_at: int = 0) -> None:
        super().__init__(model, script, number, expires_at)
        self._hears = False

    def receive(self, text: str) -> None:
        if not self._hears and text.startswith(_AUDIO):
            self._hears = True
            self._tell(hears_at=time.monotonic())
        super().receive(text)

    def send(self, event: dict[str, Any]) -> None:
        """Send an event, with the usage that the dialogue has for it."""
        if event["type"] == _TRANSCRIBED:
            seconds = self._use("transcript").transcribed_seconds
            event = {**event, "usage": {"type": "duration", "seconds": seconds}}
        elif event["type"] == _DONE:
            calls = any(item["type"] == "function_call" for item in event["response"]["output"])
            usage = _on_the_wire(self._use("call" if calls else "speech"))
            event = {**event, "response": {**event["response"], "usage": usage}}
        super().send(event)

    def reply(self, prompt: persona.Prompt) -> Turn:
        """Answer the last question, or say what the backend has answered."""
        if words := persona.exact_words(prompt.instructions):
            return (Say(words),)
        for item in reversed(self.conversation.items):
            if item.wire["type"] == "function_call_output":
                return (Say(item.text),)
            if item.wire.get("role") == "user":
                return _reply_to(item.text)
        return (Say("Nobody asked."),)

    def _use(self, kind: str) -> TokenUsage:
        self._tell(used=kind)
        return dialogue.USED[kind]

    def _tell(self, **what: Any) -> None:
        call = _CALL.search(self.settings["instructions"])
        print(json.dumps({"call": call[0] if call else "", **what}), flush=True)


def _reply_to(question: str) -> Turn:
    number = dialogue.number_in(question)
    if dialogue.question(number) != question:
        return (Say(f"What is {question}"),)
    if dialogue.needs_tool(number):
        return (Call(dialogue.TOOL["name"], {"number": number}),)
    return (Say(dialogue.answer(number)),)


def _on_the_wire(usage: TokenUsage) -> dict[str, Any]:
    given = {
        "text_tokens": usage.text_in + usage.text_cached,
        "audio_tokens": usage.audio_in + usage.audio_cached,
        "image_tokens": 0,
    }
    cached = {
        "text_tokens": usage.text_cached,
        "audio_tokens": usage.audio_cached,
        "image_tokens": 0,
    }
    made = {"text_tokens": usage.text_out, "audio_tokens": usage.audio_out}
    return {
        "total_tokens": sum(given.values()) + sum(made.values()),
        "input_tokens": sum(given.values()),
        "output_tokens": sum(made.values()),
        "input_token_details": {
            **given,
            "cached_tokens": sum(cached.values()),
            "cached_tokens_details": cached,
        },
        "output_token_details": made,
    }


async def _serve() -> None:
    app = web.Application()
    ModelServer(key=None, realtime=TalkingSession).add_routes(app)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    uvloop.run(_serve())
