"""A process full of people who have the conversation of ``dialogue`` on the sandbox's phone.

It is told ``{"numbers": [[number, account SID, auth token], …], "turns", "a_second"}`` as its
argument, and places one call to each number. It writes a JSON object a line to standard output:
``{"event": "talks", "sid"}`` when the second answer was heard, and ``{"event": "over", …}`` with
the fields of :class:`Told` when the call has ended. It exits after the last one. Times are of the
machine's monotonic clock, in seconds.

A person whose stream closes while they speak breaks off, and asks again on the next stream. They
also ask again if it closes before the answer, and none comes on the next one.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import uvloop

from devtools.attack.voice import ENGINE_URL
from devtools.cluster import dialogue
from sandbox.phone.call import Call
from sandbox.phone.exchange import Phone
from sandbox.phone.identity import CarrierAccount
from sandbox.phone.line import LineClosed

# How long to wait for an answer: less if the question may have been lost with its stream.
_PATIENCE_S, _PATIENCE_AFTER_MOVE_S = 20.0, 4.0
_TRIES = 3
# Nobody asks the next question while the last word of an answer fades.
_BREATH_S = 0.5
# How much longer than planned a conversation may take, before its caller gives up.
_DELAY_S = 30.0
_ENDED_WITHIN_S = 30.0
_MOST_TROUBLE = 5


@dataclass
class Told:
    """A call as its caller knows it.

    :param opened: when each of its streams was opened; ``closed`` when it was closed.
    :param waits: the seconds from each question to the end of its answer.
    :param cut: questions that were broken off by a move; ``again``: those that a move left without
        an answer, and that were asked again; ``unanswered``: those given up.
    :param heard: everything that the caller understood.
    :param trouble: what the phone noted as errors and warnings.
    :param why: why the conversation ended early; "" if it did not.
    """

    sid: str
    number: str
    rang_at: float
    opened: list[float] = field(default_factory=list)
    closed: list[float] = field(default_factory=list)
    hung_up_at: float = 0.0
    waits: list[float] = field(default_factory=list)
    cut: list[int] = field(default_factory=list)
    again: list[int] = field(default_factory=list)
    unanswered: list[int] = field(default_factory=list)
    heard: str = ""
    trouble: list[str] = field(default_factory=list)
    why: str = ""


class Talker:
    def __init__(self, call: Call, turns: int) -> None:
        self._call = call
        self._line, self._person = call.line, call.person
        self._turns = turns
        self._told = Told(call.sid, call.to, time.monotonic())

    async def run(self) -> None:
        """Have the conversation, and report it."""
        watching = asyncio.create_task(self._watch())
        try:
            async with asyncio.timeout(dialogue.lasts(self._turns) + _DELAY_S):
                await self._converse()
        except LineClosed:
            self._told.why = "The call was ended."
        except TimeoutError as error:
            self._told.why = f"It took too long: {error}"
        self._told.heard = self._line.heard
        self._told.hung_up_at = time.monotonic()
        self._person.hang_up()
        await self._call.ended(within=_ENDED_WITHIN_S)
        await watching
        tell("over", **asdict(self._told))

    async def _converse(self) -> None:
        await self._person.hears(dialogue.GREETING)
        began = self._told.opened[0]
        for number in range(1, self._turns + 1):
            await self._until(began + dialogue.asked_after(number))
            await self._ask(number)
            await self._person.wait(_BREATH_S)
            if number == 2:
                tell("talks", sid=self._told.sid)
        await self._until(began + dialogue.lasts(self._turns))
        await self._person.until_connected()

    async def _ask(self, number: int) -> None:
        """Ask a question until it is answered."""
        asked_at = time.monotonic()
        for _ in range(_TRIES):
            await self._person.until_connected()
            stream = self._call.stream
            if not await self._say(dialogue.question(number)):
                self._told.cut.append(number)
            elif await self._hears(dialogue.answer(number)):
                self._told.waits.append(time.monotonic() - asked_at)
                return
            elif self._call.stream is stream:
                break
            else:
                self._told.again.append(number)
        self._told.unanswered.append(number)

    async def _hears(self, answer: str) -> bool:
        """Wait for the answer; return False if it does not come in time."""
        line, stream = self._line, self._call.stream
        await line.until(
            lambda: answer in line.heard or self._call.stream is not stream, within=_PATIENCE_S
        )
        if self._call.stream is stream:
            return answer in line.heard
        return await line.until(lambda: answer in line.heard, within=_PATIENCE_AFTER_MOVE_S)

    async def _say(self, text: str) -> bool:
        """Say the text; return False if the stream was closed before its end."""
        line, stream = self._line, self._call.stream
        line.speak(text)
        await line.until(lambda: not line.is_speaking or self._call.stream is not stream)
        line.hush()
        return self._call.stream is stream

    async def _until(self, moment: float) -> None:
        await self._person.wait(max(0.0, moment - time.monotonic()))

    async def _watch(self) -> None:
        """Note when streams are opened and closed, and what the phone complains about."""
        told = self._told
        async for event in self._call.journal.follow():
            match event.kind:
                case "stream-connected":
                    told.opened.append(time.monotonic())
                case "stream-closed":
                    told.closed.append(time.monotonic())
                case "error" | "warning" if len(told.trouble) < _MOST_TROUBLE:
                    told.trouble.append(str(event.detail))


def tell(event: str, **what: Any) -> None:
    print(json.dumps({"event": event, **what}), flush=True)


async def _run(told: dict[str, Any]) -> None:
    numbers = [(number, CarrierAccount(sid, token)) for number, sid, token in told["numbers"]]
    account = numbers[0][1]
    async with (
        Phone(
            voice_url=f"{ENGINE_URL}/voice", account_sid=account.sid, auth_token=account.token
        ) as phone,
        asyncio.TaskGroup() as talks,
    ):
        for number, account in numbers:
            call = phone.ring(to=number, account=account)
            talks.create_task(Talker(call, told["turns"]).run())
            await asyncio.sleep(1 / told["a_second"])


if __name__ == "__main__":
    uvloop.run(_run(json.loads(sys.argv[1])))
