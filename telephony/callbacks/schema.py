"""The callbacks in the OpenAPI document: what a customer's backend is sent, and may answer.

The limits and the lists are the code's own; ``tests/callbacks/test_schema.py`` holds the rest
against what is sent and what is read.
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


def _answered(answer: Answer, description: str) -> Json:
    """Describe an answer to onCallStart."""
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
    """Require fields if another is there, and not empty."""
    return {
        "if": {"required": [name], "properties": {name: {least: 1}}},
        "then": {"required": required},
    }


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

_CALL_SID = {"callSid": _text("Twilio's name for the call.")}
_PARTIES = {
    "callerPhone": _text("Who calls."),
    "callerNumber": _text("The same as `callerPhone`."),
    "calledNumber": _text("Who is called."),
}
_DIRECTION = {"direction": _text(enum=list(Call.Direction.values))}
_TIMESTAMP = {"timestamp": _text("When it was sent.", format="date-time")}
_METADATA = {"metadata": {"description": "Of the configuration, or of the call that was placed."}}
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
        "A function of your backend, as OpenAI has it.",
        {"name": Tools.name.schema()},
        {
            "type": {"const": "function"},
            "description": Tools.description.schema()
            | {"description": "Tells the model when to use it."},
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
                    [f"- `{code}`: {code.meaning} {code.remedy}" for code in ErrorCode]
                    + [f"- `{MODEL_PREFIX}…`: {MODEL_CODES_MEANING} {MODEL_CODES_REMEDY}"]
                ),
                "anyOf": [
                    {"enum": [code.value for code in ErrorCode]},
                    {"pattern": f"^{MODEL_PREFIX}"},
                ],
            },
            "message": _text("A sentence for people."),
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
