"""Calls that a customer places through REST: ringing, answering, and status callbacks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

from sandbox.phone.call import Call, timestamp
from sandbox.phone.callees import Callee
from sandbox.phone.interpreter import Interpreter

_SETUP_S = 0.3
# How long a machine's or a person's first words are analyzed to tell which it is.
_DETECTION_S = {"human": 1.0, "machine": 2.0}
_SIP_CODES = {"busy": "486", "no-answer": "487", "failed": "404", "canceled": "487"}


@dataclass(frozen=True, slots=True)
class Order:
    """A customer's request; ``url`` or ``twiml`` says what to do when the callee answers."""

    to: str
    from_: str
    url: str = ""
    method: str = "POST"
    twiml: str = ""
    timeout: float = 60.0
    machine_detection: str = ""
    status_callback: str = ""
    status_callback_method: str = "POST"
    status_callback_events: tuple[str, ...] = ("completed",)


class StatusCallbacks:
    """Reports each change that the customer subscribed to."""

    def __init__(self, call: Call, order: Order) -> None:
        self._call = call
        self._order = order
        self._sequence = 0
        self._held: list[dict[str, str]] = []

    def report(self, event: str, **extra: str) -> None:
        """Make the request, if it was subscribed to; with the fault, all of them at the end."""
        parameters = {
            "CallbackSource": "call-progress-events",
            "SequenceNumber": str(self._sequence),
            "Timestamp": timestamp(datetime.now(UTC)),
            **extra,
        }
        self._sequence += 1
        if not self._order.status_callback or event not in self._order.status_callback_events:
            return
        self._held.append(self._call.parameters() | parameters)
        if self._call.faults.statuses_reversed and event != "completed":
            return
        for held in reversed(self._held):
            self._call.notify(
                "status",
                self._order.status_callback,
                held,
                method=self._order.status_callback_method,
            )
        self._held.clear()

    def report_end(self) -> None:
        call = self._call
        if call.is_answered:
            minutes = math.ceil(call.duration / 60)
            outcome = {"CallDuration": str(call.duration), "Duration": str(minutes)}
        else:
            outcome = {"CallDuration": "0", "Duration": "0"}
        outcome["SipResponseCode"] = _SIP_CODES.get(call.status, "200")
        self.report("completed", **outcome)


async def place(call: Call, order: Order, callee: Callee, interpreter: Interpreter) -> None:
    """Ring the callee, and execute the customer's TwiML when they answer."""
    statuses = StatusCallbacks(call, order)
    call.on_answer = lambda: statuses.report("answered")
    call.on_end = statuses.report_end
    await call.clock.sleep(_SETUP_S)
    statuses.report("initiated", CallStatus="initiated")
    if callee.answers == "failed":
        call.end("failed")
        return
    call.status = "ringing"
    call.journal.add("rings", number=order.to)
    statuses.report("ringing")
    await _ring(call, order, callee)
    if call.is_over:
        return
    call.start(call.person.follow(callee.script))
    call.answer()
    await _detect_machine(call, order, callee)
    if order.twiml:
        await interpreter.run_text(order.twiml)
    else:
        await interpreter.fetch_and_run("voice", order.url, method=order.method)


async def _ring(call: Call, order: Order, callee: Callee) -> None:
    patience = min(callee.rings_for, order.timeout)
    if callee.answers == "no-answer":
        patience = order.timeout
    await call.clock.sleep(patience)
    if callee.answers == "busy":
        call.end("busy")
    elif callee.answers == "no-answer" or callee.rings_for > order.timeout:
        call.end("no-answer")


async def _detect_machine(call: Call, order: Order, callee: Callee) -> None:
    """Detect who answered, if the customer wants to know that first."""
    if not order.machine_detection:
        return
    await call.clock.sleep(_DETECTION_S[callee.answers])
    call.answered_by = "human"
    if callee.answers == "machine":
        call.answered_by = "machine_start"
        if order.machine_detection == "DetectMessageEnd":
            await call.line.until(lambda: not call.line.is_speaking)
            call.answered_by = "machine_end_beep"
    call.journal.add("answered-by", who=call.answered_by)
