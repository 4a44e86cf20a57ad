"""The execution of one verb in one call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from sandbox.phone.call import Call
from sandbox.phone.callees import CalleeOf
from sandbox.phone.twiml import Document, Verb


class Flow(Enum):
    """The ways in which a call continues after a verb, other than with another document."""

    GO_ON = "the next verb"
    HANG_UP = "nothing"


Outcome = Flow | Document


@dataclass(frozen=True, slots=True)
class Execution:
    call: Call
    callee_of: CalleeOf
    verb: Verb
    document: Document

    def url(self, attribute: str) -> str:
        """Return the URL in an attribute, or "" if there is none."""
        reference = self.verb.get(attribute)
        return self.document.address(reference) if reference else ""

    def of(self, verb: Verb) -> Execution:
        """Return the execution of a verb nested in this one."""
        return Execution(self.call, self.callee_of, verb, self.document)

    async def ask_action(self, **extra: str) -> Outcome:
        """Continue with the response of the action URL, or with the next verb if there is no
        action.
        """
        action = self.url("action")
        if not action or "action" in self.call.faults.lost:
            return Flow.GO_ON
        return await self.call.fetch("action", action, method=self.verb.get("method"), **extra)


CarryOut = Callable[[Execution], Awaitable[Outcome]]
