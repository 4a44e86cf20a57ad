"""Connects a call to the model, within one deadline for all attempts."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from telephony.engine.plan import CallPlan
from telephony.voice.model_side import CONNECT_WITHIN_S, ModelSide
from telephony.voice.warm_sockets import warm_sockets
from telephony.voice.websocket import ConnectFailed

if TYPE_CHECKING:
    from telephony.voice.runner import CallRunner

# The pause before each further attempt.
TRY_AGAIN_AFTER_S = (0.25, 0.75)
# OpenAI is overloaded or restarting: a moment later another server may accept the call. None: the
# connection failed or was dropped before there was a response.
TRY_AGAIN_STATUSES = frozenset({None, 429, 500, 502, 503, 504})


async def connect(plan: CallPlan, runner: CallRunner) -> None:
    """Open the model's socket for a call; raise :class:`ConnectFailed`.

    The first attempt may have begun before the call's stream. A failure that may be temporary is
    retried.
    """
    clock = asyncio.get_running_loop().time
    give_up_at = clock() + CONNECT_WITHIN_S
    attempt = warm_sockets.take(plan, runner) or _open(plan, runner, CONNECT_WITHIN_S)
    for pause in (*TRY_AGAIN_AFTER_S, math.inf):
        try:
            await attempt
            return
        except ConnectFailed as failure:
            is_late = clock() + pause >= give_up_at
            if is_late or failure.status not in TRY_AGAIN_STATUSES:
                raise
        await asyncio.sleep(pause)
        attempt = _open(plan, runner, give_up_at - clock())


async def _open(plan: CallPlan, runner: CallRunner, within_s: float) -> None:
    side = ModelSide(runner.call)
    side.serve(runner)
    await side.open(plan, within_s)
