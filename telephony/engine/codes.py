"""The codes that Switchhook reports about a call, each with its meaning: reasons for its end, error
codes, and kinds of event in the timeline.

The OpenAPI document, the tables in the guides and the texts on pages are derived from them. The
database stores the values, so a value never changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NewType, Self, get_args

# The groups of reasons. The index ``call_by_result`` lists the reasons of each group except
# "failed", so a new reason in another group needs a migration.
OutcomeGroup = Literal["completed", "unanswered", "rejected", "failed"]


#: The outcomes of calls: see ``outcome_of``.
OUTCOMES = ("in-progress", *get_args(OutcomeGroup))


class EndedReason(StrEnum):
    """Reasons for the end of a call: ``endedReason`` in onCallEnd and in the API.

    ``label`` is for a badge, ``meaning`` a sentence in Markdown. ``outcome`` is the outcome of a
    call with this reason. A rejected call with an error code failed, too: see ``outcome_of``.
    """

    outcome: OutcomeGroup
    label: str
    meaning: str

    def __new__(cls, value: str, outcome: OutcomeGroup, label: str, meaning: str) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.outcome, member.label, member.meaning = outcome, label, meaning
        return member

    CALLER_HANGUP = (
        "caller_hangup",
        "completed",
        "Caller hung up",
        "The caller hung up or, on an outbound call, the callee.",
    )
    AGENT_HANGUP = (
        "agent_hangup",
        "completed",
        "Agent hung up",
        "The agent ended the call with `end_call`.",
    )
    TRANSFERRED = (
        "transferred",
        "completed",
        "Transferred",
        "The call was transferred to another number.",
    )
    INACTIVITY = (
        "inactivity",
        "completed",
        "Silence",
        "Nobody spoke for `inactivityTimeoutMs`.",
    )
    MAX_DURATION = (
        "max_duration",
        "completed",
        "Maximum duration",
        "The call reached `maxDurationSeconds`.",
    )
    API_HANGUP = (
        "api_hangup",
        "completed",
        "Hung up on request",
        "You hung up with `POST /api/calls/{id}/hangup` or in the dashboard, support did, or the "
        "account no longer has a subscription.",
    )
    MODEL_ERROR = (
        "model_error",
        "failed",
        "Model error",
        "The model could not be reached or configured, or reported an unrecoverable error.",
    )
    MODEL_DISCONNECTED = (
        "model_disconnected",
        "failed",
        "Model disconnected",
        "OpenAI closed the connection during the call.",
    )
    ENGINE_LOST = (
        "engine_lost",
        "failed",
        "Engine lost",
        "The process that ran the call stopped unexpectedly.",
    )
    INTERNAL_ERROR = (
        "internal_error",
        "failed",
        "Internal error",
        "Something failed in Switchhook.",
    )
    REJECTED = (
        "rejected",
        "rejected",
        "Rejected",
        "Your backend rejected the call or gave no usable response; or the account is not active, "
        "has too many calls in progress, or has reached its spending limit. If your backend "
        "rejected it, `errorCode` in the API is null.",
    )
    BUSY = (
        "busy",
        "unanswered",
        "Busy",
        "The callee was busy.",
    )
    NO_ANSWER = (
        "no_answer",
        "unanswered",
        "No answer",
        "The callee did not answer.",
    )
    FAILED = (
        "failed",
        "failed",
        "Failed",
        "The call could not be connected.",
    )
    CANCELED = (
        "canceled",
        "unanswered",
        "Canceled",
        "The call was canceled before it was answered.",
    )


class _Explained(StrEnum):
    """Codes with a ``meaning`` and a ``remedy``: sentences in Markdown."""

    meaning: str
    remedy: str

    def __new__(cls, value: str, meaning: str, remedy: str) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning, member.remedy = meaning, remedy
        return member


class ErrorCode(_Explained):
    """Error codes of onError."""

    CALL_START_TIMEOUT = (
        "call_start_timeout",
        "onCallStart did not respond in time.",
        "Respond first, and do slow work afterwards.",
    )
    CALL_START_UNREACHABLE = (
        "call_start_unreachable",
        "The URL of onCallStart could not be reached, or leads to a private address.",
        "Check that the URL is public and its certificate is valid.",
    )
    CALL_START_BAD_STATUS = (
        "call_start_bad_status",
        "onCallStart responded with a status other than 2xx.",
        "Look for the error in your backend's log.",
    )
    CALL_START_BAD_ANSWER = (
        "call_start_bad_answer",
        "The response of onCallStart is not JSON, is too large, or has fields that cannot be used.",
        "Correct the fields that the error message names.",
    )
    ACCOUNT_SID_MISMATCH = (
        "account_sid_mismatch",
        "The call came from a Twilio account other than `twilioAccountSid`, or other than the one "
        "that the number is bound to.",
        "Return the SID of the Twilio account that owns the number. If you have moved the number, "
        "confirm its new account.",
    )
    INVALID_TWILIO_SIGNATURE = (
        "invalid_twilio_signature",
        "Twilio's signature does not match `twilioAuthToken`.",
        "Return the auth token of the Twilio account that the call comes from, and check the "
        "number's webhook at Twilio.",
    )
    SPENDING_LIMIT_REACHED = (
        "spending_limit_reached",
        "The account has reached its spending limit for this month, so the call was rejected.",
        "Raise the limit, or wait for the next month.",
    )
    MODEL_UNREACHABLE = (
        "model_unreachable",
        "OpenAI could not be reached, or the model was not ready in time.",
        "Try again later.",
    )
    MODEL_REJECTED_CONFIGURATION = (
        "model_rejected_configuration",
        "OpenAI refused the configuration of the call.",
        "Correct what OpenAI's message names.",
    )
    MODEL_DISCONNECTED = (
        "model_disconnected",
        "OpenAI closed the connection during the call.",
        "Call again.",
    )
    ENGINE_LOST = (
        "engine_lost",
        "The process that ran the call stopped unexpectedly.",
        "Call again. Contact support if it happens often.",
    )
    INTERNAL_ERROR = (
        "internal_error",
        "Something failed in Switchhook.",
        "Call again. Contact support if it happens often.",
    )


class CallProblem(_Explained):
    """What else can go wrong with a call: ``errorCode`` in the API, but never in onError."""

    PAYMENT_REQUIRED = (
        "payment_required",
        "The account has no active subscription, so the call was rejected.",
        "Check your subscription and your card under **Billing**.",
    )
    ACCOUNT_SUSPENDED = (
        "account_suspended",
        "The account is suspended, so the call was rejected.",
        "Check for an unpaid invoice under **Billing**, or contact support.",
    )
    ACCOUNT_DISABLED = (
        "account_disabled",
        "The account is disabled, so the call was rejected.",
        "Contact support.",
    )
    TOO_MANY_CALLS = (
        "too_many_calls",
        "The account had as many calls in progress as it may have, so the call was rejected.",
        "Contact support if you need more calls at a time.",
    )
    CARRIER_REJECTED = (
        "carrier_rejected",
        "Twilio refused to place the call.",
        "Look up Twilio's error code in the timeline, and check the numbers and credentials that "
        "you sent.",
    )
    CARRIER_UNAVAILABLE = (
        "carrier_unavailable",
        "Twilio could not be reached, so the call was not placed.",
        "Place the call again.",
    )
    NOT_CONNECTED = (
        "not_connected",
        "The call ended before its audio was connected.",
        "Look for the call in Twilio's log: it says why the call could not be connected.",
    )
    TOOL_FAILED = (
        "tool_failed",
        "A tool failed. The model was told so, and the call continued.",
        "Check how your backend responds to onToolCall.",
    )
    TOOL_TIMEOUT = (
        "tool_timeout",
        "A tool did not respond in time. The model was told so, and the call continued.",
        "Respond to onToolCall faster, or do slow work after you respond.",
    )
    CALLBACK_GIVEN_UP = (
        "callback_given_up",
        "Your backend did not accept a callback of this call, so we gave it up.",
        "Check that the URL responds with a status from 200 to 299. `GET /api/calls/{id}` has the "
        "call's timeline and cost, but not its transcript.",
    )


#: OpenAI's code of an unrecoverable error, after ``MODEL_PREFIX``.
ModelErrorCode = NewType("ModelErrorCode", str)
OnErrorCode = ErrorCode | ModelErrorCode
MODEL_PREFIX = "model_"
MODEL_CODES_MEANING = (
    f"OpenAI reported an unrecoverable error. Its code follows `{MODEL_PREFIX}`, such as in "
    f"`{MODEL_PREFIX}invalid_api_key`, `{MODEL_PREFIX}insufficient_quota` or "
    f"`{MODEL_PREFIX}session_expired`."
)
MODEL_CODES_REMEDY = "Correct what OpenAI's message names."


def model_error_code(code: str) -> ModelErrorCode:
    """Return the code of onError for an error code of OpenAI."""
    return ModelErrorCode(f"{MODEL_PREFIX}{code}")


@dataclass(frozen=True, slots=True)
class Explanation:
    """What an error code means and what to do about it: sentences in Markdown."""

    meaning: str
    remedy: str


_ADD_CREDIT = "Add credit or raise the budget at platform.openai.com/settings/organization/billing."
_RAISE_LIMIT = "Raise the limit at platform.openai.com/settings/organization/limits."
_LOOK_AT_STATUS = "Call again. If it happens often, look at status.openai.com."
_CORRECT_VALUE = "Correct what the message names in the response of onCallStart."

# OpenAI's codes that customers can do something about:
# https://platform.openai.com/docs/guides/error-codes
MODEL_CODES: Mapping[str, Explanation] = {
    model_error_code(code): Explanation(meaning, remedy)
    for code, meaning, remedy in (
        (
            "invalid_api_key",
            "OpenAI refused the API key.",
            "Return a valid OpenAI API key in `openaiApiKey`. Find your keys at "
            "platform.openai.com/api-keys.",
        ),
        (
            "account_deactivated",
            "OpenAI has deactivated the account of the API key.",
            "Contact OpenAI, or return the key of another account in `openaiApiKey`.",
        ),
        (
            "insufficient_quota",
            "Your OpenAI account has no credit left, or has reached its budget.",
            _ADD_CREDIT,
        ),
        ("credit_balance_exhausted", "Your OpenAI account has no credit left.", _ADD_CREDIT),
        (
            "billing_hard_limit_reached",
            "Your OpenAI account has reached its budget for the month.",
            _RAISE_LIMIT,
        ),
        (
            "organization_spend_limit_exceeded",
            "Your OpenAI organization has reached its spend limit.",
            _RAISE_LIMIT,
        ),
        (
            "organization_usage_limit_exceeded",
            "Your OpenAI organization has reached its usage limit.",
            _RAISE_LIMIT,
        ),
        (
            "project_spend_limit_exceeded",
            "The OpenAI project of the API key has reached its spend limit.",
            _RAISE_LIMIT,
        ),
        (
            "rate_limit_exceeded",
            "Your OpenAI account has reached a rate limit.",
            "Wait, or raise the limits of your OpenAI account.",
        ),
        (
            "slow_down",
            "OpenAI asked for fewer requests.",
            "Call again, and increase the number of simultaneous calls gradually.",
        ),
        ("server_error", "OpenAI failed to produce a response.", _LOOK_AT_STATUS),
        ("no_response", "The model did not begin a response.", _LOOK_AT_STATUS),
        (
            "model_not_found",
            "OpenAI has no such model, or your API key may not use it.",
            "Check `model` in the response of onCallStart, and what your OpenAI project may use.",
        ),
        (
            "session_expired",
            "OpenAI ended the session, and the call could not go on in another one.",
            _LOOK_AT_STATUS,
        ),
        (
            "response_input_buffer_full",
            "The model took no more results of tools, and the call could not go on in another "
            "session.",
            "Return short results from your tools, and only what the model needs.",
        ),
        ("invalid_request_error", "OpenAI refused a request of the call.", _CORRECT_VALUE),
        ("invalid_value", "OpenAI refused a value in a request of the call.", _CORRECT_VALUE),
    )
}


def outcome_of(ended_reason: str, error_code: str) -> str:
    """Return the outcome of a call: "in-progress" or an ``OutcomeGroup``.

    A call that its backend rejected on purpose has no error code. What another version wrote and
    this one does not know counts as failed.
    """
    if not ended_reason:
        return "in-progress"
    reason = _REASONS.get(ended_reason)
    if reason is None or (reason is EndedReason.REJECTED and error_code):
        return "failed"
    return reason.outcome


_REASONS = {reason.value: reason for reason in EndedReason}


_TROUBLE = True


class EventKind(StrEnum):
    """Kinds of event in a call's timeline: ``kind`` in the API.

    ``meaning`` is a sentence for pages and guides, ``detail`` describes the event's other fields in
    Markdown. ``is_trouble`` marks events that help to find a fault.
    """

    meaning: str
    detail: str
    is_trouble: bool

    def __new__(cls, value: str, meaning: str, detail: str = "", is_trouble: bool = False) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning, member.detail, member.is_trouble = meaning, detail, is_trouble
        return member

    RECEIVED = "received", "Someone called your number"
    PLACED = "placed", "You placed the call"
    RINGING = "ringing", "The callee's phone rang"
    ANSWERED = "answered", "The call was answered", "`by`: a human or a machine, in Twilio's words"
    ACCEPTED = (
        "accepted",
        "Your backend accepted the call",
        "`onCallStartMs`: how long it took to respond; `onCallStartStatus`: its HTTP status",
    )
    DECLINED = (
        "declined",
        "Your backend rejected the call",
        "`reason`; `onCallStartMs`; `onCallStartStatus`",
    )
    NOT_ACCEPTED = (
        "not_accepted",
        "The call could not be accepted",
        "`code`, as in onError; `onCallStartMs`; `onCallStartStatus`, if there was a response",
        _TROUBLE,
    )
    REFUSED = (
        "refused",
        "Switchhook rejected the call",
        "`why`: the account's status or limits, or the Twilio account that the call came from. "
        "Your backend was not asked, unless the account's status or number of calls changed "
        "meanwhile.",
    )
    TRANSFERRED = "transferred", "Your backend transferred the call", "`to`"
    CONNECTED = "connected", "The caller's audio was connected"
    MODEL_READY = (
        "model_ready",
        "OpenAI accepted the configuration",
        "`model`; `ms` since the audio was connected",
    )
    MODEL_RENEWED = (
        "model_renewed",
        "Another session of the model went on with the call",
        "`why`: the last one was `closed`, too old (`age`), had taken all that it can from tools "
        "and keys (`full`), or failed with a code of OpenAI's",
    )
    MODEL_FALLBACK = (
        "model_fallback",
        "A model did not start, and the next one in your list was tried",
        "`model` that did not start; `code` and `message`: why, as in onError; `to`: the next one",
        _TROUBLE,
    )
    GREETED = (
        "greeted",
        "The agent spoke first",
        "`ms` since the audio was connected; `cached` if the greeting came from the cache",
    )
    CALLER_SPOKE = "caller_spoke", "The caller spoke", "`ms`: for how long"
    AGENT_SPOKE = (
        "agent_spoke",
        "The agent spoke",
        "`latencyMs` from the end of the caller's speech to the first audio, tools included",
    )
    AGENT_HEARD = (
        "agent_heard",
        "The caller began to hear the agent",
        "`latencyMs` from the end of the caller's speech, tools included. Twilio confirms it up to "
        "a second later, and not for a response that the caller interrupted before.",
    )
    MOVED = (
        "moved",
        "The call went on in another media stream",
        "`why`: `engine_stopping`, `engine_lost` or `stream_broken`; `ms` since the conversation "
        "was handed over",
    )
    INTERRUPTED = (
        "interrupted",
        "The caller interrupted the agent",
        "`heardMs`: how much of the response the caller heard",
    )
    RESPONSE_DONE = "response_done", "The model ended a response", "`status`, in OpenAI's words"
    RESPONSE_FAILED = (
        "response_failed",
        "A response failed and is requested again",
        "`code`, OpenAI's",
        _TROUBLE,
    )
    MODEL_ERROR = "model_error", "OpenAI reported an error", "`code`, OpenAI's", _TROUBLE
    NOT_SPOKEN = (
        "not_spoken",
        "The caller heard no response",
        "`why`: the model wrote it (`text`), a content filter stopped it (`content_filter`), it "
        "was empty (`nothing`), or the model kept calling tools that cannot run (`tools`). Except "
        "after `tools`, the model is asked again, a few times.",
        _TROUBLE,
    )
    NOT_UNDERSTOOD = (
        "not_understood",
        "OpenAI sent an event that could not be read",
        "`what`",
        _TROUBLE,
    )
    REPEATED = "repeated", "OpenAI sent an event twice", "`what`"
    RESPONSE_LOST = (
        "response_lost",
        "OpenAI did not begin or end a response; the call continues",
        "",
        _TROUBLE,
    )
    SPEECH_END_LOST = (
        "speech_end_lost",
        "OpenAI did not report the end of the caller's speech; the call continues",
        "",
        _TROUBLE,
    )
    MARKS_LOST = (
        "marks_lost",
        "Twilio did not report what was played; the call continues",
        "",
        _TROUBLE,
    )
    TOOLS_DROPPED = (
        "tools_dropped",
        "Tool calls were not run",
        "`count`. Their response failed, was cancelled, came after the end of the call, or "
        "called too many.",
        _TROUBLE,
    )
    TOOL_CALLED = "tool_called", "The model called a tool", "`tool`"
    TOOL_RETURNED = (
        "tool_returned",
        "The tool returned a result",
        "`tool`; `ms` since it was called",
    )
    TOOL_FAILED = (
        "tool_failed",
        "The tool failed",
        "`tool`; `ms` since it was called; `message`",
        _TROUBLE,
    )
    TOOL_TIMEOUT = (
        "tool_timeout",
        "The tool did not respond in time",
        "`tool`; `ms` since it was called",
        _TROUBLE,
    )
    DIGIT_PRESSED = "digit_pressed", "The caller pressed a key"
    TEXT_TYPED = "text_typed", "The caller typed a message", "Only in test calls."
    HANGUP_REQUESTED = "hangup_requested", "A hang-up was requested"
    STREAM_ERROR = (
        "stream_error",
        "Twilio reported an error in its media stream",
        "`message`",
        _TROUBLE,
    )
    STATUS_IGNORED = (
        "status_ignored",
        "Twilio reported the end of the call while its audio was connected",
        "`status`, in Twilio's words",
    )
    CARRIER_REJECTED = (
        "carrier_rejected",
        "Twilio refused the call",
        "`code` and `message`, Twilio's",
        _TROUBLE,
    )
    CARRIER_UNAVAILABLE = "carrier_unavailable", "Twilio could not be reached", "`reason`", _TROUBLE
    ERROR = (
        "error",
        "An error was reported",
        "`code` and `message`, as in onError, which is sent if the number has a URL for it",
        _TROUBLE,
    )
    INCOMPLETE = (
        "incomplete",
        "Part of the call's record was lost",
        "`missing`: `transcript`, or `cost` if `openaiCost` is too low or 0",
        _TROUBLE,
    )
    RESUMED = (
        "resumed",
        "The call had continued: only the connection to our database was lost",
        "It had been ended as `engine_lost`.",
    )
    ENDED = "ended", "The call ended", "`reason`, the call's `endedReason`"
