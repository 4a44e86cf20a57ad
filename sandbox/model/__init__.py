"""A stand-in for OpenAI's voice models. README.md describes it and how to script it."""

from sandbox.model.script import (
    Call,
    Close,
    Drop,
    Error,
    Expire,
    Fail,
    Hold,
    Incomplete,
    Say,
    Script,
    Stall,
    Wait,
    When,
)
from sandbox.model.server import ModelServer, SessionRecord, serve_model

__all__ = [
    "Call",
    "Close",
    "Drop",
    "Error",
    "Expire",
    "Fail",
    "Hold",
    "Incomplete",
    "ModelServer",
    "Say",
    "Script",
    "SessionRecord",
    "Stall",
    "Wait",
    "When",
    "serve_model",
]
