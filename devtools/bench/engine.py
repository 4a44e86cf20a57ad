"""The engine's media socket, with responses from memory instead of the database.

Started by ``devtools.bench.relays``; writes its port to standard output and serves until its
standard input is closed, at the latest when its parent exits.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from typing import Any

import django
import uvloop


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


async def from_memory(query: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Answer the queries of a running call; every ticket is valid."""
    return _ANSWERS[query.__name__](*args)


def _let_in(started: Any, signature: str, engine_id: str) -> Any:
    from telephony.engine.plan import CallPlan
    from telephony.models import Call

    plan = CallPlan(
        twilio_account_sid=started.account_sid,
        twilio_auth_token="",
        openai_api_key="bench",
        system_prompt="Say what you hear.",
    )
    return Call(call_sid=started.call_sid, account_id="bench"), plan, []


def _look_after(call_ids: list[str], to_say: list[str]) -> Any:
    from telephony.voice.live import _Look

    return _Look(to_hang_up=[], taken_for_lost=[])


def _nothing(*_: Any, **__: Any) -> None:
    pass


_ANSWERS: dict[str, Callable[..., Any]] = {
    "_let_in": _let_in,
    "_look_after": _look_after,
    "calls_sweep": lambda: 0,
    "_record": _nothing,
    "_say_what_comes_next": _nothing,
    "_end_call": _nothing,
}


async def serve() -> None:
    from telephony import db

    db.in_database = from_memory  # type: ignore[assignment] # before others import it
    from telephony.voice import heart
    from telephony.voice.media import MediaListener

    heart.engine_beat = _nothing  # type: ignore[assignment] # its thread has a connection of its own
    listener = await MediaListener.start("127.0.0.1", 0)
    print(listener.port, flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    configure(sys.argv[1])
    uvloop.run(serve())
