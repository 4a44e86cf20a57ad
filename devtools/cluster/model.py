"""A stand-in for OpenAI that says what it hears, light enough for hundreds of calls.

Unlike the benchmark's model, it also responds when it is asked to, as a call that has moved to
another engine may do. As a program, it writes its port to standard output, and exits when its
standard input is closed.
"""

from __future__ import annotations

import asyncio
import itertools
import sys

import uvloop
from picows import WSFrame, WSTransport

from devtools.bench import frames, load
from sandbox.model.conversation import Conversation
from sandbox.model.response import Answer, Response
from sandbox.model.script import Say
from sandbox.model.usage import Meter, Tokens

# Its audio comes in chunks longer than a frame: the callers only time those of one frame.
WORDS = "I am here."
_AS_CONFIGURED = Answer(
    modality="audio",
    audio={"output": {"format": {"type": "audio/pcmu"}, "voice": "marin"}},
    max_output_tokens="inf",
    metadata=None,
    instructions=Tokens(),
)


class Model(load.Model):
    """A realtime session that says what it hears, and a few words when it is asked to respond."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self._ids = itertools.count(1)
        self._conversation = Conversation()
        self._meter = Meter()

    def _learnt(self, transport: WSTransport, frame: WSFrame) -> bool:
        if super()._learnt(transport, frame):
            return True
        if frame.get_payload_as_bytes().startswith(b'{"type":"response.create"'):
            self._respond(transport)
        return False

    def _respond(self, transport: WSTransport) -> None:
        """Send a whole response at once."""
        response = Response(
            (Say(WORDS),),
            _AS_CONFIGURED,
            self._conversation,
            self._new_id("conv"),
            self._meter,
            self._new_id,
        )
        for output in response.run():
            if isinstance(output, dict):
                event = {**output, "event_id": self._new_id("event")}
                transport.send(load.TEXT, frames.dumps(event))

    def _new_id(self, kind: str) -> str:
        return f"{kind}_{self._number:04x}{next(self._ids):08x}"


async def _serve() -> None:
    async with load.ModelServer(Model) as server:
        print(server.port, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(_serve())
