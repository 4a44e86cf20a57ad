"""The callbacks in the OpenAPI document: their requests, and the responses of backends.

The limits and lists come from the code. ``tests/callbacks/test_schema.py`` compares the rest with
real requests and responses.
"""

from __future__ import annotations

from typing import Any, get_args

from core.schema import Json
from telephony.callbacks import on_call_start, outbox, tools
from telephony.callbacks.answers import MOST_FIELDS
from telephony.callbacks.configuration import (
    CONFIGURATION,
    REFUSAL,
    SPOKEN_REFUSAL,
    TRANSFER,
    Answer,
)
from telephony.callbacks.kinds import Tools
from telephony.engine.bounds import DEEPEST
from telephony.engine.codes import (
    MODEL_CODES_MEANING,
    MODEL_CODES_REMEDY,
    MODEL_PREFIX,
    EndedReason,
    ErrorCode,
)
from telephony.engine.tool_runs import LONGEST_RESULT, MOST_KEPT, Status
from telephony.models import Call


def add_webhooks(result: Json, **kwargs: Any) -> Json:
    """Add the callbacks and their schemas (a post-processing hook)."""
    result["webhooks"] = {name: {"post": operation} for name, operation in _webhooks().items()}
    result["components"]["schemas"] |= _SCHEMAS
    result["components"]["parameters"] = _HEADERS
    return result


def _webhooks() -> dict[str, Json]:
    return {
        "onCallStart": _webhook(
            "onCallStart",
            "Decide how to handle a call",
            "Sent when someone calls one of your numbers, and when a call that you placed is "
            f"answered. Respond within {on_call_start.TIMEOUT_SECONDS:g} seconds. It is sent once: "
            "without a usable response, the call is rejected and onError says why.",
            "CallStart",
            {"200": _answer("How to handle the call.", _ONE_OF_THREE)},
        ),
        "onToolCall": _webhook(
            "onToolCall",
            "Run a tool for the model",
            f"Respond within {tools.TIMEOUT_SECONDS:g} seconds; the conversation continues "
            "meanwhile. A tool that fails is not an error of the call: the model is told, and "
            "continues without a result.",
            "ToolCall",
            {"200": _answer("The result of the tool.", _ref("ToolResult"))},
        ),
        "onCallEnd": _webhook(
            "onCallEnd",
            "A call has ended",
            "Sent if your backend accepted the call or you placed it, however it ended. "
            f"{_REPEATED}",
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


def _answered(answer: Answer, description: str) -> Json:
    """Return the schema of an answer to onCallStart."""
    required = {field.name: field.schema() for field in answer.fields if field.is_required}
    optional = {field.name: field.schema() for field in answer.fields if not field.is_required}
    rules = [
        _if_there("minItems", field.required_with, [field.name])
        for field in answer.fields
        if field.required_with
    ]
    more = {"allOf": rules} if len(rules) > 1 else dict(*rules)
    return _object(description, required, optional, **more)


def _if_there(least: str, name: str, required: list[str]) -> Json:
    """Require fields if another one is present and not empty."""
    return {
        "if": {"required": [name], "properties": {name: {least: 1}}},
        "then": {"required": required},
    }


_REPEATED = (
    f"Respond with 2xx within {outbox.TIMEOUT_SECONDS:g} seconds. Otherwise Switchhook retries "
    "after 5 s, 5 min, 30 min, 2 h, 5 h, 10 h and 10 h, with the same `webhook-id`."
)
_TAKEN = {
    "2XX": {"description": "Delivered. It is not sent again."},
    "410": {"description": "Not delivered. It is not sent again."},
    "default": {
        "description": "Not delivered. It is sent again. Redirects are not followed.",
        "headers": {
            "Retry-After": {
                "description": "When to retry at the earliest: seconds, or an HTTP date.",
                "schema": {"type": "string"},
            }
        },
    },
}
_ONE_OF_THREE = {
    "anyOf": [_ref("CallConfiguration"), _ref("CallRefusal"), _ref("CallTransfer")],
}

_TRACE = "traceparent"  # which no check of a number's URLs has: that is about no call
_HEADERS: dict[str, Json] = {
    name: {
        "name": name,
        "in": "header",
        "required": name != _TRACE,
        "description": about,
        "schema": schema,
    }
    for name, about, schema in (
        ("webhook-id", "The same for each attempt to deliver a callback.", {"type": "string"}),
        (
            "webhook-timestamp",
            "When it was sent, in seconds since 1970.",
            {"type": "string", "pattern": "^[0-9]+$"},
        ),
        (
            "webhook-signature",
            "`v1,` and the base64 HMAC-SHA256 of `webhook-id.webhook-timestamp.body`, as in "
            "Standard Webhooks. For 24 hours after a rotation there are two, separated by a space.",
            {"type": "string", "pattern": "^v1,[A-Za-z0-9+/=]+( v1,[A-Za-z0-9+/=]+)*$"},
        ),
        (
            "X-Veevo-Signature",
            "The hexadecimal HMAC-SHA256 of the body; its key is the text of the secret.",
            {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        ),
        (
            _TRACE,
            "The call's trace, which all its callbacks share, and a span of this request's own, as "
            "in W3C Trace Context. It is not signed.",
            {"type": "string", "pattern": "^00-[0-9a-f]{32}-[0-9a-f]{16}-01$"},
        ),
    )
}

_CALL_SID = {"callSid": _text("Twilio's ID of the call.")}
_PARTIES = {
    "callerPhone": _text("The number of the caller."),
    "callerNumber": _text("The same as `callerPhone`."),
    "calledNumber": _text("The number that is called."),
}
_DIRECTION = {"direction": _text(enum=list(Call.Direction.values))}
_TIMESTAMP = {"timestamp": _text("When it was sent.", format="date-time")}
_METADATA = {
    "metadata": {"description": "From the configuration, or from the request that placed the call."}
}
_SCHEMAS: dict[str, Json] = {
    "CallStart": _object(
        "A call that waits for your decision.",
        _CALL_SID | _PARTIES | _DIRECTION | _TIMESTAMP,
        {
            "metadata": {"description": "From the request that placed the call, if it had any."},
            "answeredBy": _text(
                "The result of Twilio's machine detection: `human`, `machine_start`, …"
            ),
        },
    ),
    "CallConfiguration": _answered(
        CONFIGURATION,
        "A model answers the call. A field that is null counts as left out. There are at most "
        f"{MOST_FIELDS} fields.",
    ),
    "CallRefusal": _answered(
        SPOKEN_REFUSAL,
        "Switchhook rejects the call. With a message it answers the call, and your Twilio account "
        "pays for that, so a message needs the credentials that the call must be signed with.",
    )
    | {"required": REFUSAL.required()}
    | _if_there("minLength", "message", SPOKEN_REFUSAL.required()[len(REFUSAL.required()) :]),
    "CallTransfer": _answered(
        TRANSFER,
        "Switchhook transfers the caller to another number, without a model. Your Twilio account "
        "pays for that, so the call must be signed with its credentials.",
    ),
    "Tool": {"anyOf": [_ref("FunctionDefinition"), _ref("NestedFunctionDefinition")]},
    "FunctionDefinition": _object(
        "A function of your backend, as OpenAI defines functions.",
        {"name": Tools.name.schema()},
        {
            "type": {"const": "function"},
            "description": Tools.description.schema()
            | {"description": "Tells the model when to use it."},
            "parameters": {"type": "object", "description": "A JSON schema."},
        },
    ),
    "NestedFunctionDefinition": _object(
        "The same, in the form of OpenAI's older APIs.",
        {"function": _ref("FunctionDefinition")},
        {"type": {"const": "function"}},
    ),
    "ToolCall": _object(
        "A tool call of the model.",
        _CALL_SID | {"toolName": _text(), "arguments": {"type": "object"}} | _METADATA | _TIMESTAMP,
    ),
    "ToolResult": _object(
        f"The result for the model: at most {tools.LARGEST_ANSWER // 1024} KB.",
        {"result": {"description": f"Any JSON, nested at most {DEEPEST} deep."}},
    ),
    "CallEnd": _object(
        "A call that has ended.",
        _CALL_SID
        | _PARTIES
        | _DIRECTION
        | {
            "durationSeconds": {
                "type": "integer",
                "minimum": 0,
                "description": "How long the caller's audio was connected; 0 if it was not. "
                "Minutes are billed from when the model is ready, a little later.",
            },
            "endedReason": _ref("EndedReason"),
            "transcript": {"type": "array", "items": _ref("TranscriptLine")},
            "costBreakdown": _ref("CostBreakdown"),
            "latency": _ref("Latency"),
        }
        | _METADATA
        | _TIMESTAMP,
        {
            "toolCalls": {
                "type": "array",
                "maxItems": MOST_KEPT,
                "items": _ref("ToolCallResult"),
                "description": "How each onToolCall request ended, if there were any.",
            },
            "model": _text("The model that spoke with the caller. Left out if none did."),
            "warnings": {
                "type": "array",
                "items": _ref("CallWarning"),
                "description": "What you should change soon, if there is anything.",
            },
        },
    ),
    "CallWarning": _object(
        "Something that worked in this call, and soon will not.",
        {
            "code": _text(
                "`model_retires`: OpenAI turns the model off soon, or has turned it off.",
                enum=["model_retires"],
            ),
            "message": _text("A sentence that says what to do."),
            "model": _text("The model, without the date of a snapshot."),
            "retiresOn": _text("The day on which OpenAI turns it off.", format="date"),
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
        "An error.",
        _CALL_SID
        | {
            "code": {
                "type": "string",
                "description": "\n".join(
                    [f"- `{code}`: {code.meaning} {code.remedy}" for code in ErrorCode]
                    + [f"- `{MODEL_PREFIX}…`: {MODEL_CODES_MEANING} {MODEL_CODES_REMEDY}"]
                ),
                "anyOf": [
                    {"enum": [code.value for code in ErrorCode]},
                    {"pattern": f"^{MODEL_PREFIX}"},
                ],
            },
            "message": _text("A sentence that explains the error."),
        }
        | _PARTIES
        | _METADATA
        | _TIMESTAMP,
    ),
    "EndedReason": _text(
        "\n".join(f"- `{reason}`: {reason.meaning}" for reason in EndedReason),
        enum=[reason.value for reason in EndedReason],
    ),
}
