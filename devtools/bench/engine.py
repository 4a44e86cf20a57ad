"""The engine's media socket, with responses from memory instead of the database.

Started by ``devtools.bench.relays``; writes its port to standard output and serves until its
standard input is closed, at the latest when its parent exits.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import django
import uvloop

if TYPE_CHECKING:
    from telephony.models import Call
    from telephony.voice.handover import Handed
    from telephony.voice.media import MediaListener


def configure(model_url: str) -> None:
    """Load the product unchanged, except for the model's address and an unused database."""
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "DEBUG": "1",
        "SANDBOX": "1",
        "SECRET_KEY": "bench",
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        "OPENAI_REALTIME_URL": model_url,
    }
    django.setup()


async def serve() -> None:
    from operations.metrics.exporting import is_exported

    if is_exported():
        from operations.metrics import measuring

        measuring.measure()
        measuring.measure_loop()
    listener = await listen(_redeem_anything)
    print(listener.port, flush=True)
    await asyncio.to_thread(sys.stdin.read)


def _redeem_anything(started: Any, *_: Any) -> tuple[Call, Handed, list[str]]:
    from telephony.engine.plan import CallPlan
    from telephony.models import Call
    from telephony.voice.handover import Handed

    plan = CallPlan(
        twilio_account_sid=started.account_sid,
        twilio_auth_token="",
        openai_api_key="bench",
        system_prompt="Say what you hear.",
    )
    return Call(call_sid=started.call_sid, account_id="bench"), Handed(plan), []


async def listen(redeem: Callable[..., tuple[Call, Handed, list[str]]]) -> MediaListener:
    """Listen for media streams.

    :param redeem: replaces ``redeem_ticket``, which queries.
    """
    from telephony.db import answer_without_database
    from telephony.services import call_audio_ended
    from telephony.voice.caller_side import redeem_ticket
    from telephony.voice.ending import end_call
    from telephony.voice.heartbeat import EngineHeartbeat
    from telephony.voice.live import Look, look_after
    from telephony.voice.media import MediaListener
    from telephony.voice.recorder import record
    from telephony.voice.transactions import after_stream_keep

    class Unheard(EngineHeartbeat):
        """Beats nowhere: it would need a connection of its own."""

        def start(self) -> None:
            pass

    answer_without_database(
        {
            redeem_ticket: redeem,
            look_after: lambda *_: Look(to_hang_up=[], taken_for_lost=[], moved=[]),
            record: _nothing,
            after_stream_keep: _nothing,
            call_audio_ended: _nothing,
            end_call: _nothing,
        }
    )
    return await MediaListener.start("127.0.0.1", 0, Unheard())


def _nothing(*_: Any, **__: Any) -> None:
    pass


if __name__ == "__main__":
    configure(sys.argv[1])
    uvloop.run(serve())
