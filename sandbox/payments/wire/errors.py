"""Refusals in Stripe's shape and wording."""

from __future__ import annotations

from typing import Any

_NAMES = {
    "billing.meter": "billing meter",
    "billing_portal.configuration": "configuration",
}


class Refusal(Exception):
    """An error response: an HTTP status, and Stripe's error object.

    Earlier changes stay if it ``keeps_changes``, as for a declined charge.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        type: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        keeps_changes: bool = False,
        **more: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.keeps_changes = keeps_changes
        self.error: dict[str, Any] = {"type": type, "message": message}
        if code:
            self.error["code"] = code
            self.error["doc_url"] = f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}"
        if param:
            self.error["param"] = param
        self.error |= more


def missing(kind: str, id: str, param: str = "id") -> Refusal:
    """There is no such object: 404 if the URL names it, 400 if a parameter does."""
    return Refusal(
        f"No such {_NAMES.get(kind, kind)}: '{id}'",
        status=404 if param == "id" else 400,
        code="resource_missing",
        param=param,
    )


def unknown_parameters(names: list[str]) -> Refusal:
    plural = "s" if len(names) > 1 else ""
    return Refusal(
        f"Received unknown parameter{plural}: {', '.join(names)}",
        code="parameter_unknown",
        param=names[0],
    )


def missing_parameter(name: str) -> Refusal:
    return Refusal(f"Missing required param: {name}.", code="parameter_missing", param=name)


def empty_parameter(name: str) -> Refusal:
    return Refusal(
        f"You passed an empty string for '{name}'. We assume empty values are an attempt to unset "
        f"a parameter; however '{name}' cannot be unset. You should remove '{name}' from your "
        "request or supply a non-empty value.",
        code="parameter_invalid_empty",
        param=name,
    )


def not_simulated(what: str, *, param: str | None = None) -> Refusal:
    """Stripe supports this, but the stand-in does not, and must not pretend to."""
    return Refusal(f"The payments sandbox does not simulate {what}.", param=param)
