"""A session's configuration: the real server's defaults, and how an update changes it."""

from __future__ import annotations

import copy
from typing import Any

from sandbox.model.errors import ClientError

INSTRUCTIONS = (
    "You are a helpful, witty, and friendly AI. Your voice and personality should be warm and "
    "engaging, with a lively and playful tone."
)
_VAD = {"create_response": True, "interrupt_response": True}
# The defaults of each type of turn detection.
_TURN_DETECTION: dict[str, dict[str, Any]] = {
    "server_vad": {
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 200,
        "idle_timeout_ms": None,
        **_VAD,
    },
    "semantic_vad": {"eagerness": "auto", **_VAD},
}
# Fields that null disables. Elsewhere null changes nothing.
_OFF_WITH_NULL = {"turn_detection", "noise_reduction", "transcription", "tracing", "include"}


def default_session(session_id: str, model: str, expires_at: int) -> dict[str, Any]:
    """Return the configuration that ``session.created`` shows."""
    return {
        "type": "realtime",
        "object": "realtime.session",
        "id": session_id,
        "model": model,
        "output_modalities": ["audio"],
        "instructions": INSTRUCTIONS,
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "tracing": None,
        "truncation": "auto",
        "prompt": None,
        "expires_at": expires_at,
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24_000},
                "transcription": None,
                "noise_reduction": None,
                "turn_detection": {"type": "server_vad", **_TURN_DETECTION["server_vad"]},
            },
            "output": {
                "format": {"type": "audio/pcm", "rate": 24_000},
                "voice": "alloy",
                "speed": 1.0,
            },
        },
        "include": None,
    }


def updated_session(
    session: dict[str, Any], changes: dict[str, Any], *, voice_is_fixed: bool
) -> dict[str, Any]:
    """Return the configuration after a valid ``session.update``, without changing the given one."""
    if changes.get("model") not in (None, session["model"]):
        raise ClientError("The model of a session cannot be changed.", param="session.model")
    merged: dict[str, Any] = _merge(session, changes)
    if voice_is_fixed and voice_of(merged) != voice_of(session):
        raise ClientError(
            "Cannot update a conversation's voice if assistant audio is present.",
            code="cannot_update_voice",
        )
    detection = merged["audio"]["input"]["turn_detection"]
    if detection:
        merged["audio"]["input"]["turn_detection"] = {
            "type": detection["type"],
            **_TURN_DETECTION[detection["type"]],
            **{name: value for name, value in detection.items() if value is not None},
        }
    return merged


def voice_of(settings: dict[str, Any]) -> Any:
    return settings["audio"]["output"]["voice"]


def expect_mulaw(settings: dict[str, Any], direction: str) -> None:
    """Refuse any audio format but mu-law: the sandbox does not convert."""
    kind = settings["audio"][direction]["format"]["type"]
    if kind != "audio/pcmu":
        raise ClientError(
            f"The sandbox's model speaks audio/pcmu only, and the {direction} format is {kind}.",
            code="unsupported_audio_format",
            param=f"session.audio.{direction}.format",
        )


def _merge(old: Any, new: Any) -> Any:
    """Merge objects field by field; one of another type replaces the old one."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return copy.deepcopy(new)
    if old.get("type") != new.get("type", old.get("type")):
        return copy.deepcopy(new)
    merged = dict(old)
    for name, value in new.items():
        if value is not None or name in _OFF_WITH_NULL:
            merged[name] = _merge(old.get(name), value)
    return merged
