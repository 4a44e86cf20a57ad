"""The sections of the guide "Reasons and errors" on each code, which pages and emails link to.

Meanings and remedies are those of ``telephony.engine.codes``; the causes are here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from django.urls import reverse
from django.utils.text import slugify

from telephony.engine.codes import (
    MODEL_CODES,
    MODEL_CODES_MEANING,
    MODEL_CODES_REMEDY,
    MODEL_PREFIX,
    CallProblem,
    EndedReason,
    ErrorCode,
)


@dataclass(frozen=True, slots=True)
class Section:
    """A code in sentences of Markdown; ``cause`` and ``remedy`` are empty if nothing is wrong."""

    code: str
    meaning: str
    cause: str = ""
    remedy: str = ""
    title: str = ""

    @property
    def heading(self) -> str:
        return self.title or f"`{self.code}`"

    @property
    def anchor(self) -> str:
        """The section's id in the guide. Links use it, so it never changes."""
        return slugify(self.title or self.code)


#: OpenAI's codes that have no section of their own, after ``MODEL_PREFIX``.
OTHER_MODEL_CODES = Section(
    f"{MODEL_PREFIX}…",
    MODEL_CODES_MEANING,
    "`message` is OpenAI's own text. New codes appear without notice.",
    MODEL_CODES_REMEDY,
    title="Other codes of OpenAI",
)


def section_of(code: str) -> Section | None:
    """Return the section on a code, or None if this version does not know the code.

    All of OpenAI's codes that are not known by name share one section.
    """
    found = SECTIONS.get(code)
    if found is None and code.startswith(MODEL_PREFIX):
        name = code.removeprefix(MODEL_PREFIX)
        return replace(OTHER_MODEL_CODES, meaning=f"OpenAI reported `{name}`.")
    return found


def guide_section_url(code: str) -> str:
    """Return the path of the guide's section on a code, or of the guide if there is none."""
    guide = reverse("guide", args=["reasons-and-errors"])
    found = section_of(code)
    return f"{guide}#{found.anchor}" if found else guide


#: By error code.
_CAUSES: Mapping[str, str] = {
    ErrorCode.CALL_START_TIMEOUT: (
        "Your backend has 10 seconds for the whole response. A cold start, a slow database query "
        "or a request to another service often takes up that time."
    ),
    ErrorCode.CALL_START_UNREACHABLE: (
        "The host has no DNS record, nothing listens there, a firewall blocks the request, the "
        "certificate has expired or is not trusted, or the host leads to a private address. "
        "Redirects are not followed."
    ),
    ErrorCode.CALL_START_BAD_STATUS: (
        "Your backend failed (5xx), did not find the route (404), refused the signature (401), or "
        "redirected the request (3xx). `message` has the status."
    ),
    ErrorCode.CALL_START_BAD_ANSWER: (
        "Often an error page in HTML, a missing `twilioAccountSid`, `twilioAuthToken` or "
        "`openaiApiKey`, or `tools` without `onToolCallUrl`."
    ),
    ErrorCode.ACCOUNT_SID_MISMATCH: (
        "A subaccount or another account owns the number, or the number moved between accounts."
    ),
    ErrorCode.INVALID_TWILIO_SIGNATURE: (
        "The auth token belongs to another account or was rotated, or the number's webhook at "
        "Twilio is not your `engineVoiceUrl`. Requests that someone else forged have this code too."
    ),
    ErrorCode.SPENDING_LIMIT_REACHED: (
        "What calls have cost this month has reached the limit that you set."
    ),
    ErrorCode.MODEL_UNREACHABLE: (
        "OpenAI had an outage, responded too slowly, or refused the connection. `message` has the "
        "status if there was one: 403 and 404 mean that the key may not use the model."
    ),
    ErrorCode.MODEL_REJECTED_CONFIGURATION: (
        "A field has a value that the model does not accept, such as an unknown `voice`, or a tool "
        "whose `parameters` are not a valid JSON Schema."
    ),
    ErrorCode.MODEL_DISCONNECTED: (
        "OpenAI restarted a server, or the network between us failed: three times within a minute, "
        "or before the agent had said goodbye. The caller heard an apology, unless the agent was "
        "ending the call. After fewer breaks, the call goes on with another session of the model."
    ),
    ErrorCode.ENGINE_LOST: (
        "The server or its process failed. Until we noticed that, the call was shown as in "
        "progress."
    ),
    ErrorCode.INTERNAL_ERROR: "There is a fault in Switchhook. Its operators can see it.",
    CallProblem.PAYMENT_REQUIRED: (
        "The first payment is missing, or the subscription was canceled. A timeline calls this "
        "`account_inactive`."
    ),
    CallProblem.ACCOUNT_SUSPENDED: (
        "An invoice has not been paid, or support suspended the account."
    ),
    CallProblem.ACCOUNT_DISABLED: "Support disabled the account. Nobody can sign in to it.",
    CallProblem.TOO_MANY_CALLS: (
        "Long calls, and calls that never end, count towards the limit. Inbound callers hear a "
        "busy signal."
    ),
    CallProblem.CARRIER_REJECTED: (
        "The credentials are wrong, the number does not belong to that Twilio account, the account "
        "has no credit, or it may not call that country. The timeline has Twilio's code."
    ),
    CallProblem.CARRIER_UNAVAILABLE: "Twilio's API had an outage, or responded too slowly.",
    CallProblem.NOT_CONNECTED: (
        "The number does not exist or cannot be reached, or Twilio could not connect its audio to "
        "Switchhook."
    ),
    CallProblem.TOOL_FAILED: (
        "Your `onToolCallUrl` could not be reached, responded with a status other than 2xx, or "
        "sent a response that has no `result` or is larger than 64 KB. The timeline says which."
    ),
    CallProblem.TOOL_TIMEOUT: "Your `onToolCallUrl` has 30 seconds for the whole response.",
    CallProblem.CALLBACK_GIVEN_UP: (
        "Your backend accepted none of the eight attempts, which take about 28 hours, or responded "
        "with 410. The transcript of the call cannot be recovered."
    ),
}

#: By OpenAI's code, after ``MODEL_PREFIX``.
_CAUSES_OF_MODEL_CODES: Mapping[str, str] = {
    "invalid_api_key": ("The key was revoked, belongs to a deleted project, or is incomplete."),
    "account_deactivated": "OpenAI's email to the account's owner says why.",
    "insufficient_quota": ("The prepaid credit is used up, or the account has no payment method."),
    "credit_balance_exhausted": (
        "The prepaid credit is used up, and automatic recharge is off or failed."
    ),
    "billing_hard_limit_reached": "Usage has reached the budget that is set at OpenAI.",
    "organization_spend_limit_exceeded": "An administrator of the organization set the limit.",
    "organization_usage_limit_exceeded": "OpenAI sets the limit by your usage tier.",
    "project_spend_limit_exceeded": "An administrator of the project set the limit.",
    "rate_limit_exceeded": (
        "All calls with keys of one OpenAI account share its limits of requests and tokens a "
        "minute. Switchhook tried three times."
    ),
    "slow_down": "Your traffic at OpenAI grew quickly. Switchhook tried three times.",
    "server_error": "Something failed at OpenAI. Switchhook tried three times.",
    "no_response": (
        "OpenAI was overloaded, or failed without an error. Switchhook tried three times."
    ),
    "model_not_found": (
        "The name has a typo, OpenAI has retired the model, or the key's project does not allow it."
    ),
    "session_expired": (
        "OpenAI ends each session after an hour, or when the session says so. Switchhook continues "
        "the call in another one, unless the agent is saying goodbye or the new session expires at "
        "once too."
    ),
    "response_input_buffer_full": (
        "Only Live models have this limit. Switchhook continues the call in another session, "
        "unless the agent is saying goodbye or the third session within a minute is full."
    ),
    "invalid_request_error": "Often a setting that the chosen `model` does not support.",
    "invalid_value": "Often a setting that the chosen `model` does not support.",
}

_PLACED_CALLS = "Only outbound calls end like this."

#: Reasons that are not also codes of onError: cause and remedy. Empty where nothing is wrong.
_OF_REASON: Mapping[EndedReason, tuple[str, str]] = {
    EndedReason.CALLER_HANGUP: ("", ""),
    EndedReason.AGENT_HANGUP: ("", ""),
    EndedReason.TRANSFERRED: ("", ""),
    EndedReason.INACTIVITY: (
        "The caller put the phone down without hanging up, or could not be heard.",
        "To wait longer, return a higher `inactivityTimeoutMs`.",
    ),
    EndedReason.MAX_DURATION: (
        "The conversation was long, or two machines were talking to each other.",
        "To allow longer calls, return a higher `maxDurationSeconds`, up to 14100.",
    ),
    EndedReason.API_HANGUP: ("", ""),
    EndedReason.MODEL_ERROR: (
        "onError has the code that says why. The call's page shows it too.",
        "Find the code on this page and do what its section says.",
    ),
    EndedReason.REJECTED: (
        "The call's timeline says who rejected it: your backend (`declined`), a response that "
        "cannot be used (`not_accepted`), or your account's status or limits (`refused`).",
        "If you did not reject the call yourself, find the code from the timeline on this page.",
    ),
    EndedReason.BUSY: (_PLACED_CALLS, "Call again later."),
    EndedReason.NO_ANSWER: (
        f"{_PLACED_CALLS} The phone rang for `timeout` seconds.",
        "Call again later, or set a longer `timeout`.",
    ),
    EndedReason.FAILED: (
        "The number does not exist or cannot be reached, Twilio refused the call, or Twilio could "
        "not connect its audio to us.",
        "Look at the timeline for `carrier_rejected` with Twilio's code, and at the call in the "
        "Twilio Console.",
    ),
    EndedReason.CANCELED: (
        "Someone canceled the call at Twilio while the phone rang, or the browser of a test call "
        "did not connect.",
        "",
    ),
}

#: Words that are no error codes of a call: reasons in a timeline, and results of callbacks.
_OTHERS = (
    Section(
        "account_inactive",
        "The account was not active when the call came in. The API calls this "
        "[`payment_required`](#payment_required).",
        "The first payment is missing, or the subscription was canceled.",
        "Complete the checkout under **Billing**, or with `POST /api/billing/checkout`.",
    ),
    Section(
        "number_inactive",
        "The number is inactive, so calls to it are rejected.",
        "Someone on your side deactivated it (`isActive`).",
        "Activate it under **Numbers**, or with `PATCH /api/phone-numbers/{id}`.",
    ),
    Section(
        "endpoint_failing",
        "Callbacks to one of your servers are held back, because it did not respond three times in "
        "a row.",
        "The server is down, too slow, or blocks our requests.",
        "Bring the server back. Its first response, even an error, releases what is held back.",
    ),
)


def _all() -> Iterable[Section]:
    for reason, (cause, remedy) in _OF_REASON.items():
        yield Section(reason, reason.meaning, cause, remedy)
    for code in (*ErrorCode, *CallProblem):
        yield Section(code, code.meaning, _CAUSES[code], code.remedy)
    for code, explanation in MODEL_CODES.items():
        cause = _CAUSES_OF_MODEL_CODES[code.removeprefix(MODEL_PREFIX)]
        yield Section(code, explanation.meaning, cause, explanation.remedy)
    yield OTHER_MODEL_CODES
    yield from _OTHERS


#: By code, in the order of the guide.
SECTIONS: Mapping[str, Section] = {each.code: each for each in _all()}
