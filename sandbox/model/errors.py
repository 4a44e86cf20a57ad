"""OpenAI's errors, with the real server's wording where it is known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

INVALID_REQUEST = "invalid_request_error"

# Codes after which the real server closes the socket at once.
CLOSE_AUTHENTICATION = 3000
CLOSE_REQUEST_SHAPE = 4000
CLOSE_TRY_AGAIN_LATER = 1013
CLOSE_GOING_AWAY = 1001


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """The content of an ``error`` event; ``close`` is the code with which the socket closes."""

    code: str | None
    message: str
    type: str = INVALID_REQUEST
    param: str | None = None
    close: int | None = None
    close_reason: str = ""

    def event(self, event_id: str | None = None) -> dict[str, Any]:
        """Return the ``error`` event; ``event_id`` is the client event's that caused it."""
        return {"type": "error", "error": {**self.wire(), "event_id": event_id}}

    def wire(self) -> dict[str, Any]:
        return {
            "type": self.type,
            "code": self.code,
            "message": self.message,
            "param": self.param,
        }

    @property
    def reason(self) -> str:
        """The reason in the close frame: ``type.code`` unless another is known."""
        return self.close_reason or ".".join(part for part in (self.type, self.code) if part)


class ClientError(Exception):
    """An invalid client event; the session continues."""

    def __init__(
        self, message: str, *, code: str | None = "invalid_value", param: str | None = None
    ) -> None:
        super().__init__(message)
        self.body = ErrorBody(code, message, param=param)

    @classmethod
    def of(cls, body: ErrorBody) -> ClientError:
        return cls(body.message, code=body.code, param=body.param)


def error_body(code: str, message: str = "") -> ErrorBody:
    """Return the error with this code, as the real server sends it if we know that."""
    body = _KNOWN.get(code) or ErrorBody(code, f"The sandbox was told to fail with {code}.")
    return replace(body, message=message) if message else body


def invalid_api_key(key: str) -> ErrorBody:
    """Show the key's beginning and end, as the real server does."""
    masked = f"{key[:8]}***{key[-4:]}" if len(key) > 16 else "***"
    return ErrorBody(
        "invalid_api_key",
        f"Incorrect API key provided: {masked}. "
        "You can find your API key at https://platform.openai.com/account/api-keys.",
        close=CLOSE_AUTHENTICATION,
    )


def missing_api_key() -> ErrorBody:
    return ErrorBody(
        None, "Missing bearer or basic authentication in header", close=CLOSE_AUTHENTICATION
    )


def missing_model() -> ErrorBody:
    return ErrorBody(
        "missing_model",
        "You must provide a model parameter, for example "
        "wss://api.openai.com/v1/realtime?model=gpt-realtime-1.5",
        close=CLOSE_REQUEST_SHAPE,
    )


def invalid_model(model: str) -> ErrorBody:
    return ErrorBody(
        "invalid_model",
        f'Model "{model}" is not supported in realtime mode.',
        close=CLOSE_REQUEST_SHAPE,
    )


def invalid_live_model(model: str) -> ErrorBody:
    return ErrorBody(
        "invalid_model", f'Model "{model}" is not supported in live mode.', param="session.model"
    )


def model_not_found(model: str) -> ErrorBody:
    return ErrorBody(
        "model_not_found",
        f"The model `{model}` does not exist or you do not have access to it.",
        param="session.model",
    )


_EXPIRED = "Your session hit the maximum duration of 60 minutes."
_KNOWN = {
    body.code: body
    for body in (
        invalid_api_key(""),
        ErrorBody(
            "account_deactivated",
            "The OpenAI account associated with this API key has been deactivated.",
            close=CLOSE_AUTHENTICATION,
        ),
        ErrorBody(
            "insufficient_quota",
            "You exceeded your current quota, please check your plan and billing details.",
            "insufficient_quota",
            close=CLOSE_TRY_AGAIN_LATER,
        ),
        ErrorBody(
            "credit_balance_exhausted",
            "You have no credits remaining. Add credits to continue using the API.",
            "insufficient_quota",
            close=CLOSE_TRY_AGAIN_LATER,
        ),
        ErrorBody(
            "billing_hard_limit_reached",
            "Billing hard limit has been reached.",
            "insufficient_quota",
            close=CLOSE_TRY_AGAIN_LATER,
        ),
        ErrorBody("session_expired", _EXPIRED, close=CLOSE_GOING_AWAY, close_reason=_EXPIRED),
        ErrorBody(
            "rate_limit_exceeded",
            "Rate limit reached for this model on tokens per min. Please try again in 1s.",
            "rate_limit_error",
        ),
        ErrorBody(
            "server_error",
            "The server had an error while processing your request. Sorry about that!",
            "server_error",
        ),
    )
}
