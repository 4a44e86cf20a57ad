"""The registry of endpoints: a URL, the type of its parameters, and its function."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sandbox.payments.models import StripeObject
from sandbox.payments.wire.errors import Refusal, not_simulated

Answer = StripeObject | dict[str, Any]
Handler = Callable[..., Answer]
H = TypeVar("H", bound=Handler)

_PLACE = re.compile(r"\{\w+\}")


class Params(dict[str, Any]):
    """A request's parameters, which are consumed one by one.

    A parameter that is left at the end is known but not supported. The request is then refused,
    since the stand-in would not do what Stripe does.
    """

    def take(self, name: str, default: Any = None) -> Any:
        return self.pop(name, default)

    def take_given(self, *names: str) -> dict[str, Any]:
        """Return those of the parameters that were sent."""
        return {name: self.pop(name) for name in names if name in self}

    def require_empty(self) -> None:
        for name in self:
            raise not_simulated(f"the parameter {name}", param=name)


@dataclass(frozen=True, slots=True)
class Endpoint:
    method: str
    path: str
    params: type
    handler: Handler


@dataclass(frozen=True, slots=True)
class Request:
    """A request as received."""

    id: str
    method: str
    path: str
    given: Mapping[str, Any]
    headers: Mapping[str, str] = field(repr=False)

    @property
    def idempotency_key(self) -> str | None:
        return self.headers.get("Idempotency-Key") if self.method != "GET" else None


_endpoints: list[tuple[re.Pattern[str], Endpoint]] = []


def endpoint(address: str, params: type) -> Callable[[H], H]:
    """Register a function for an endpoint (``POST /v1/customers/{id}``).

    It is called with the checked parameters and the ids in the URL.
    """
    method, _, path = address.partition(" ")

    def register(handler: H) -> H:
        pattern = re.compile(_PLACE.sub("([^/]+)", path))
        _endpoints.append((pattern, Endpoint(method, path, params, handler)))
        # If two match, the more specific one is tried first.
        _endpoints.sort(key=lambda known: known[1].path.count("{"))
        return handler

    return register


def endpoints() -> list[Endpoint]:
    return [known for _, known in _endpoints]


def find_endpoint(method: str, path: str) -> tuple[Endpoint, tuple[str, ...]]:
    """Return the endpoint and the ids in the URL; raise Refusal."""
    for pattern, known in _endpoints:
        if known.method == method and (match := pattern.fullmatch(path)):
            return known, match.groups()
    raise Refusal(
        f"Unrecognized request URL ({method}: {path}). Please see https://stripe.com/docs or we "
        "can help at https://support.stripe.com/.",
        status=404,
    )
