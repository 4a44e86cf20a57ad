"""Executes TwiML verb by verb."""

from __future__ import annotations

from sandbox.phone import verbs
from sandbox.phone.call import Call
from sandbox.phone.callees import CalleeOf
from sandbox.phone.connect import connect
from sandbox.phone.execution import CarryOut, Execution, Flow, Outcome
from sandbox.phone.twiml import Document, TwimlError, parse
from sandbox.speech import frames

APPLICATION_ERROR = "We are sorry, an application error has occurred. Goodbye."

_VERBS: dict[str, CarryOut] = {
    "Say": verbs.say,
    "Play": verbs.play,
    "Pause": verbs.pause,
    "Gather": verbs.gather,
    "Connect": connect,
    "Dial": verbs.dial,
    "Redirect": verbs.redirect,
    "Reject": verbs.hang_up,
    "Hangup": verbs.hang_up,
}


class Interpreter:
    """Executes documents for one call, until one ends it or there are no more."""

    def __init__(self, call: Call, callee_of: CalleeOf) -> None:
        self._call = call
        self._callee_of = callee_of

    async def fetch_and_run(self, purpose: str, url: str, *, method: str = "POST") -> None:
        """Request the first document, and continue from there."""
        try:
            document = await self._call.fetch(purpose, url, method=method)
        except TwimlError as error:
            await self._apologize(error)
        else:
            await self.run(document)

    async def run_text(self, twiml: str) -> None:
        """Execute TwiML that has no URL of its own."""
        try:
            document = parse(twiml)
        except TwimlError as error:
            await self._apologize(error)
        else:
            await self.run(document)

    async def run(self, document: Document) -> None:
        """Execute the document, and all that follow from it."""
        outcome: Outcome = document
        try:
            while isinstance(outcome, Document):
                outcome = await self._carry_out(outcome)
        except TwimlError as error:
            await self._apologize(error)

    async def _carry_out(self, document: Document) -> Outcome:
        call = self._call
        for warning in document.warnings:
            call.journal.add("warning", code=12200, message=warning)
        if self._is_rejected(document):
            return Flow.HANG_UP
        call.answer()
        for verb in document.verbs:
            carry_out = _VERBS.get(verb.name)
            if carry_out is None:
                continue
            call.journal.add("twiml", verb=verb.name, attributes=verb.attributes, text=verb.text)
            outcome = await carry_out(Execution(call, self._callee_of, verb, document))
            if outcome is not Flow.GO_ON:
                return outcome
        return Flow.HANG_UP

    def _is_rejected(self, document: Document) -> bool:
        """Reject an unanswered call if the first verb says so: that is free."""
        if self._call.is_answered or not document.verbs or document.verbs[0].name != "Reject":
            return False
        reject = document.verbs[0]
        self._call.journal.add("twiml", verb="Reject", attributes=reject.attributes, text="")
        self._call.end("busy" if reject.get("reason") == "busy" else "no-answer", by="product")
        return True

    async def _apologize(self, error: TwimlError) -> None:
        self._call.journal.add("error", code=error.code, message=error.message)
        self._call.answer()
        await self._call.play_out(b"".join(frames(APPLICATION_ERROR)))
