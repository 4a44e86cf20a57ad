"""The callbacks in the OpenAPI document: what a customer's backend is sent, and may answer.

The limits and the lists are the code's own; ``tests/callbacks/test_schema.py`` holds the rest
against what is sent and what is read.
"""

from __future__ import annotations

from typing import Any, get_args

from core.schema import Json
from telephony.callbacks import on_call_start, outbox, payloads, tools
from telephony.engine import plan, plan_reader
from telephony.engine.bounds import DEEPEST
from telephony.engine.tool_runs import LONGEST_RESULT, MOST_KEPT, Status
from telephony.models import Call

ENDED_REASONS = {
    "caller_hangup": "The person at the other end hung up.",
    "agent_hangup": "The model ended the call with `end_call`.",
    "transferred": "The call was put through to somebody else.",
    "inactivity": "Nobody said anything for `inactivityTimeoutMs`.",
    "max_duration": "The call reached `maxDurationSeconds`.",
    "api_hangup": "`POST /api/calls/{id}/hangup`.",
    "model_error": "The model could not be reached or configured, or failed for good.",
    "model_disconnected": "OpenAI closed the connection in the middle.",
    "engine_lost": "The process that held the call died.",
    "internal_error": "Something failed on our side.",
    "rejected": (
        "The backend did not want the call or gave no usable answer, the account may not take "
        "calls, has too many, or has reached its spending limit."
    ),
    "busy": "The number that was called was busy.",
    "no_answer": "Nobody answered.",
    "failed": "The call never came about.",
    "canceled": "The call was canceled while it rang.",
}

ERROR_CODES = {
    "call_start_timeout": (
        f"onCallStart had no whole answer within {on_call_start.TIMEOUT_SECONDS:g} seconds."
    ),
    "call_start_unreachable": "Its URL could not be reached, or leads to a private address.",
    "call_start_bad_status": "It answered with another status than 2xx.",
    "call_start_bad_answer": (
        "Its answer is not JSON, too large, or has fields that cannot be used: the message names "
        "them."
    ),
    "account_sid_mismatch": "The call came from another Twilio account than `twilioAccountSid`.",
    "invalid_twilio_signature": "Twilio's signature does not fit `twilioAuthToken`.",
    "spending_limit_reached": (
        "The account has spent its limit for this month: the call was rejected."
    ),
    "model_unreachable": "OpenAI could not be reached, or did not get ready.",
    "model_rejected_configuration": "OpenAI refused the session: the message is its own.",
    "model_disconnected": "OpenAI closed the connection.",
    "engine_lost": "The process that held the call died.",
    "internal_error": "Something failed on our side.",
}
MODEL_CODES = "`model_` and OpenAI's own code, after which there is no going on"


def add_webhooks(result: Json, **kwargs: Any) -> Json:
    """Add the callbacks and what they consist of (a post-processing hook)."""
    result["webhooks"] = {name: {"post": operation} for name, operation in _webhooks().items()}
    result["components"]["schemas"] |= _SCHEMAS
    result["components"]["parameters"] = _HEADERS
    return result


def _webhooks() -> dict[str, Json]:
    return {
        "onCallStart": _webhook(
            "onCallStart",
            "How is this call handled?",
            "Asked when a number of yours is called, and when a call that you placed is answered. "
            f"There are {on_call_start.TIMEOUT_SECONDS:g} seconds for the whole answer, and it is "
            "asked once: without a usable answer the call is rejected, and onError says why.",
            "CallStart",
            {"200": _answer("What becomes of the call.", _ONE_OF_THREE)},
        ),
        "onToolCall": _webhook(
            "onToolCall",
            "Run a tool for the model",
            f"There are {tools.TIMEOUT_SECONDS:g} seconds for the whole answer, while the "
            "conversation goes on. A tool that fails is no error of the call: the model is told, "
            "and goes on without a result.",
            "ToolCall",
            {"200": _answer("What the tool has found or done.", _ref("ToolResult"))},
        ),
        "onCallEnd": _webhook(
            "onCallEnd",
            "A call has ended",
            f"Told once it was taken by your backend, or placed, however it ended. {_REPEATED}",
            "CallEnd",
            _TAKEN,
        ),
        "onError": _webhook(
            "onError", "Something went wrong with a call", _REPEATED, "CallError", _TAKEN
        ),
    }


def _webhook(name: str, summary: str, description: str, body: str, responses: Json) -> Json:
    return {
        "operationId": name,
        "summary": summary,
        "description": description,
        "parameters": [{"$ref": f"#/components/parameters/{header}"} for header in _HEADERS],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _ref(body)}},
        },
        "responses": responses,
    }


def _answer(description: str, schema: Json) -> Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(description: str, required: Json, optional: Json | None = None, **more: Any) -> Json:
    return {
        "type": "object",
        "description": description,
        "properties": required | (optional or {}),
        "required": list(required),
        **more,
    }


def _text(description: str = "", **more: Any) -> Json:
    return {"type": "string", **({"description": description} if description else {}), **more}


def _spoken(description: str) -> Json:
    return _text(description, maxLength=plan.LONGEST_SPOKEN, pattern=_NO_CONTROL)


def _choice(choices: tuple[str, ...], default: str, description: str) -> Json:
    return _text(description, enum=list(choices), default=default)


def _whole(description: str, *, least: int, most: int, default: int) -> Json:
    limits = {"minimum": least, "maximum": most, "default": default}
    return {"type": "integer", "description": description, **limits}


_REPEATED = (
    f"What is not taken within {outbox.TIMEOUT_SECONDS:g} seconds with 2xx is repeated after 5 s, "
    "5 min, 30 min, 2 h, 5 h, 10 h and 10 h. `webhook-id` stays the same."
)
_TAKEN = {
    "2XX": {"description": "Taken: it is not sent again."},
    "410": {"description": "Not taken, and not to be sent again."},
    "default": {
        "description": "Not taken: it is sent again. Redirects are not followed.",
        "headers": {
            "Retry-After": {
                "description": "The earliest time for that: seconds, or an HTTP date.",
                "schema": {"type": "string"},
            }
        },
    },
}
_ONE_OF_THREE = {
    "anyOf": [_ref("CallConfiguration"), _ref("CallRefusal"), _ref("CallTransfer")],
}

_HEADERS: dict[str, Json] = {
    name: {"name": name, "in": "header", "required": True, "description": about, "schema": schema}
    for name, about, schema in (
        ("webhook-id", "The same each time a callback is repeated.", {"type": "string"}),
        (
            "webhook-timestamp",
            "When it was sent, in seconds since 1970.",
            {"type": "string", "pattern": "^[0-9]+$"},
        ),
        (
            "webhook-signature",
            "`v1,` and the base64 HMAC-SHA256 of `webhook-id.webhook-timestamp.body`, as Standard "
            "Webhooks has it. For 24 hours after a rotation there are two, separated by a space.",
            {"type": "string", "pattern": "^v1,[A-Za-z0-9+/=]+( v1,[A-Za-z0-9+/=]+)*$"},
        ),
        (
            "X-Veevo-Signature",
            "The hexadecimal HMAC-SHA256 of the body; its key is the text of the secret.",
            {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        ),
    )
}

# A text that XML can hold, as far as a regular expression of JavaScript's goes.
_NO_CONTROL = r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]*$"
_CALL_SID = {"callSid": _text("Twilio's name for the call.")}
_PARTIES = {
    "callerPhone": _text("Who calls."),
    "callerNumber": _text("The same as `callerPhone`."),
    "calledNumber": _text("Who is called."),
}
_DIRECTION = {"direction": _text(enum=list(Call.Direction.values))}
_TIMESTAMP = {"timestamp": _text("When it was sent.", format="date-time")}
_METADATA = {"metadata": {"description": "Of the configuration, or of the call that was placed."}}
_URL = {"type": "string", "format": "uri", "maxLength": 2000}
_E164 = {"type": "string", "pattern": f"^{plan.E164.pattern}$"}

_CREDENTIALS = {
    "twilioAccountSid": _text(
        "Of the Twilio account that the call comes from.",
        pattern=f"^{plan_reader.ACCOUNT_SID.pattern}$",
    ),
    "twilioAuthToken": _text(
        "Twilio's signature is checked with it; it is not kept.",
        minLength=1,
        maxLength=plan_reader.LONGEST_AUTH_TOKEN,
        pattern=_NO_CONTROL,
    ),
}
_MESSAGE_NEEDS_CREDENTIALS = {
    "if": {"required": ["message"], "properties": {"message": {"minLength": 1}}},
    "then": {"required": list(_CREDENTIALS)},
}
_TOOLS_NEED_URL = {
    "if": {"required": ["tools"], "properties": {"tools": {"minItems": 1}}},
    "then": {"required": ["onToolCallUrl"]},
}

_SCHEMAS: dict[str, Json] = {
    "CallStart": _object(
        "A call that waits to be handled.",
        _CALL_SID | _PARTIES | _DIRECTION | _TIMESTAMP,
        {
            "metadata": {"description": "Of the call that was placed, if it has any."},
            "answeredBy": _text(
                "What Twilio's machine detection has found: `human`, `machine_start`, …"
            ),
        },
    ),
    "CallConfiguration": _object(
        "The call is answered by a model. A field that is null counts as left out. There are at "
        f"most {plan.MOST_FIELDS} fields, and tools are nested at most {DEEPEST} deep.",
        {
            **_CREDENTIALS,
            "openaiApiKey": _text(
                "It is not kept.", pattern="^[!-~]+$", maxLength=plan.LONGEST_API_KEY
            ),
            "systemPrompt": _text(
                "What the model is, knows and does.",
                minLength=1,
                maxLength=plan.LONGEST_PROMPT,
                pattern=_NO_CONTROL,
            ),
        },
        {
            "tools": {
                "type": "array",
                "description": (
                    "What the model may have your backend do: at most "
                    f"{on_call_start.MOST_TOOL_BYTES // 1024} KB of JSON."
                ),
                "items": _ref("Tool"),
                "maxItems": plan.MOST_TOOLS,
            },
            "onToolCallUrl": _URL | {"description": "Where tools are run. Required with `tools`."},
            "builtinTools": {
                "type": "array",
                "description": "Tools of Switchhook's own.",
                "items": _text(enum=list(plan.BUILTIN_TOOLS)),
                "maxItems": len(plan.BUILTIN_TOOLS),
            },
            "transferNumbers": {
                "type": "array",
                "description": (
                    "The only numbers that `transfer_call` may dial. Without them the model may "
                    "name any number that may be called."
                ),
                "items": _E164,
                "minItems": 1,
                "maxItems": plan.MOST_TRANSFER_NUMBERS,
            },
            "voice": _choice(plan.VOICES, plan.DEFAULT_VOICE, "Of the model."),
            "model": _text(
                "Of OpenAI's realtime models.",
                pattern=r"^gpt-realtime[A-Za-z0-9._-]{0,88}$",
                default=plan.DEFAULT_MODEL,
            ),
            "vadEagerness": _choice(
                plan.EAGERNESS, "high", "How soon a pause counts as the end of a sentence."
            ),
            "noiseReduction": _choice(
                plan.NOISE_REDUCTION, "near_field", "For a phone at the ear, or far off."
            ),
            "inactivityTimeoutMs": _whole(
                "The call ends after so much silence.",
                least=1_000,
                most=3_600_000,
                default=plan.DEFAULT_INACTIVITY_MS,
            ),
            "maxDurationSeconds": _whole(
                "The call ends after so long.",
                least=1,
                most=plan.LONGEST_DURATION_S,
                default=plan.DEFAULT_MAX_DURATION_S,
            ),
            "greeting": _spoken("The model says this first."),
            "greetingUrl": _URL
            | {"description": "An MP3 that is played before the model is connected."},
            "metadata": {
                "description": (
                    f"Any JSON, up to {payloads.MOST_METADATA_BYTES // 1024} KB, nested at most "
                    f"{DEEPEST} deep. Every later callback of the call brings it."
                )
            },
        },
        **_TOOLS_NEED_URL,
    ),
    "CallRefusal": _object(
        "The call is not taken. With a message it is answered, and your Twilio account pays for "
        "that, so a message needs the credentials that the call must be signed with.",
        {"reject": {"const": True}},
        {
            "reason": _choice(
                plan.REJECT_REASONS, "rejected", "What the caller hears, or its carrier."
            ),
            "message": _spoken("The call is answered, this is said, and it is hung up."),
            **_CREDENTIALS,
        },
        **_MESSAGE_NEEDS_CREDENTIALS,
    ),
    "CallTransfer": _object(
        "The call is put through to another number, without a model. Your Twilio account pays for "
        "that, so the call must be signed with its credentials.",
        {"transfer": _E164, **_CREDENTIALS},
    ),
    "Tool": {"anyOf": [_ref("FunctionDefinition"), _ref("NestedFunctionDefinition")]},
    "FunctionDefinition": _object(
        "A function of your backend, as OpenAI has it.",
        {"name": _text(pattern="^[A-Za-z0-9_-]{1,64}$")},
        {
            "type": {"const": "function"},
            "description": _text(
                "Tells the model when to use it.",
                maxLength=plan.LONGEST_DESCRIPTION,
                pattern=_NO_CONTROL,
            ),
            "parameters": {"type": "object", "description": "A JSON schema."},
        },
    ),
    "NestedFunctionDefinition": _object(
        "The same, as older APIs of OpenAI have it.",
        {"function": _ref("FunctionDefinition")},
        {"type": {"const": "function"}},
    ),
    "ToolCall": _object(
        "A tool that the model wants to have run.",
        _CALL_SID | {"toolName": _text(), "arguments": {"type": "object"}} | _METADATA | _TIMESTAMP,
    ),
    "ToolResult": _object(
        f"What the model is told: at most {tools.LARGEST_ANSWER // 1024} KB.",
        {"result": {"description": f"Any JSON, nested at most {DEEPEST} deep."}},
    ),
    "CallEnd": _object(
        "A call that is over.",
        _CALL_SID
        | _PARTIES
        | _DIRECTION
        | {
            "durationSeconds": {
                "type": "integer",
                "minimum": 0,
                "description": "Since the caller and the model met; 0 if they did not.",
            },
            "endedReason": _ref("EndedReason"),
            "transcript": {"type": "array", "items": _ref("TranscriptLine")},
            "costBreakdown": _ref("CostBreakdown"),
        }
        | _METADATA
        | _TIMESTAMP,
        {
            "toolCalls": {
                "type": "array",
                "maxItems": MOST_KEPT,
                "items": _ref("ToolCallResult"),
                "description": "How each onToolCall request ended, if there were any.",
            }
        },
    ),
    "ToolCallResult": _object(
        "How an onToolCall request ended.",
        {
            "toolName": _text(),
            "status": {
                "enum": list(get_args(Status)),
                "description": "`unknown` if Switchhook stopped before it ended.",
            },
            "result": _text(
                "The beginning of what the model was told: the result, or why there is none.",
                maxLength=LONGEST_RESULT,
            ),
            "durationMs": {"type": ["integer", "null"], "minimum": 0},
            "timestamp": _text(format="date-time"),
        },
    ),
    "TranscriptLine": _object(
        "A turn of the conversation.",
        {
            "role": _text(enum=["user", "assistant"]),
            "text": _text(),
            "timestamp": _text(format="date-time"),
        },
        {
            "interrupted": {
                "type": "boolean",
                "description": "True if the caller did not hear it to its end.",
            }
        },
    ),
    "CallError": _object(
        "What went wrong.",
        _CALL_SID
        | {
            "code": {
                "type": "string",
                "description": "\n".join(
                    [f"- `{code}`: {about}" for code, about in ERROR_CODES.items()]
                    + [f"- {MODEL_CODES}, such as `model_insufficient_quota`."]
                ),
                "anyOf": [{"enum": list(ERROR_CODES)}, {"pattern": "^model_"}],
            },
            "message": _text("A sentence for people."),
        }
        | _PARTIES
        | _METADATA
        | _TIMESTAMP,
    ),
    "EndedReason": _text(
        "\n".join(f"- `{reason}`: {about}" for reason, about in ENDED_REASONS.items()),
        enum=list(ENDED_REASONS),
    ),
}
