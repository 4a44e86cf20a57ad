"""A Live session's configuration: what may be asked for at its start, and changed later."""

from __future__ import annotations

from typing import Any

from sandbox.model.errors import ClientError, invalid_live_model, model_not_found
from sandbox.model.usage import text_tokens

LIVE = "gpt-live"
LIVE_MODELS = ("gpt-live-1", "gpt-live-1.1")
MOST_INSTRUCTION_TOKENS = 16_384
MOST_INPUT_TOKENS = 8_192

Config = dict[str, Any]

_DEFAULT_FORMAT = {"type": "audio/pcm", "rate": 24_000}


def started_session(session_id: str, expires_at: int, config: Config) -> Config:
    """Return the session as ``session.started`` shows it, or raise :class:`ClientError`."""
    _expect_model(config["model"])
    _expect_mulaw(_audio(config, "format") or _DEFAULT_FORMAT)
    _expect_tokens(config.get("instructions") or "", "instructions", MOST_INSTRUCTION_TOKENS)
    history = config.get("input") or []
    texts = " ".join(message["content"][0]["text"] for message in history)
    _expect_tokens(texts, "input", MOST_INPUT_TOKENS)
    output = _audio(config, "output") or {}
    return {
        "id": session_id,
        "expires_at": expires_at,
        "model": config["model"],
        "status": "active",
        "instructions": config.get("instructions"),
        "audio": {
            "format": _audio(config, "format"),
            "output": {"voice": output.get("voice") or "marin"},
        },
        "delegation": config.get("delegation") or {"type": "client"},
        "input": history,
        "store": bool(config.get("store")),
        "safety_identifier": config.get("safety_identifier"),
    }


def expect_changeable(changes: Any) -> None:
    """Refuse an update of anything that is fixed when the session starts."""
    if isinstance(changes, dict):
        for name in changes:
            if name in _FIXED:
                raise _immutable(f"session.{name}")


def updated_session(session: Config, changes: Config) -> Config:
    """Return the session after a valid update: tools are replaced, other fields merged."""
    new = changes.get("delegation")
    if not new:
        return session
    old = session["delegation"]
    if new["type"] != old["type"]:
        raise _immutable("session.delegation.type")
    merged = {**old, **_given(new)}
    if old["type"] == "responses":
        merged["responses"] = {**old["responses"], **_given(new.get("responses") or {})}
    return {**session, "delegation": merged}


_FIXED = ("model", "instructions", "audio", "input", "store", "safety_identifier", "client")


def _given(fields: Config) -> Config:
    return {name: value for name, value in fields.items() if value is not None}


def _audio(config: Config, name: str) -> Any:
    return (config.get("audio") or {}).get(name)


def _immutable(param: str) -> ClientError:
    return ClientError(
        f"'{param}' cannot be changed after the session has started.",
        code="immutable_field_update",
        param=param,
    )


def _expect_model(model: str) -> None:
    if not model.startswith(LIVE):
        raise ClientError.of(invalid_live_model(model))
    if model not in LIVE_MODELS:
        raise ClientError.of(model_not_found(model))


def _expect_mulaw(audio_format: Config) -> None:
    if audio_format["type"] != "audio/pcmu":
        raise ClientError(
            f"The sandbox's model speaks audio/pcmu only, and the format is "
            f"{audio_format['type']}.",
            code="unsupported_audio_format",
            param="session.audio.format",
        )


def _expect_tokens(text: str, name: str, most: int) -> None:
    tokens = text_tokens(text)
    if tokens > most:
        raise ClientError(
            f"Invalid 'session.{name}': too long. Expected at most {most} tokens, "
            f"but got {tokens} instead.",
            code="string_above_max_length",
            param=f"session.{name}",
        )
