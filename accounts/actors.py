"""The current actor: set where a request or a command begins, and read by the audit log.

The default is the system, so jobs need not set it. This module imports no models, because
``manage.py`` needs it before Django is set up.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace

from django.db.models import TextChoices
from django.http import HttpRequest

from core.client_address import client_network

# Where operators act as operators. Elsewhere they are customers like others.
_OPERATORS_PAGES = ("/admin/", "/operators/")


class ActorKind(TextChoices):
    CUSTOMER = "customer", "The customer"
    API_KEY = "api_key", "An API key"
    OPERATOR = "operator", "An operator"
    SYSTEM = "system", "Switchhook"
    SHELL = "shell", "The command line"
    VISITOR = "visitor", "Someone who was not signed in"


@dataclass(frozen=True, slots=True)
class Origin:
    """The origin of a request: the client's network and the request ID."""

    network: str = ""
    request_id: str = ""

    @classmethod
    def of(cls, request: HttpRequest) -> Origin:
        return cls(client_network(request), getattr(request, "request_id", ""))


@dataclass(frozen=True, slots=True)
class Actor:
    """``id`` is an account's or an API key's; ``label`` is its name for people."""

    kind: ActorKind
    id: str = ""
    label: str = ""
    origin: Origin = field(default_factory=Origin)


SYSTEM = Actor(ActorKind.SYSTEM)

_acting: ContextVar[Actor | HttpRequest] = ContextVar("acting", default=SYSTEM)


@contextmanager
def acting(who: Actor | HttpRequest) -> Iterator[None]:
    """Set the actor inside, in this thread or task and those that it starts."""
    before = _acting.get()
    _acting.set(who)
    try:
        yield
    finally:
        _acting.set(before)  # no token: a request may end in a different context


def current_actor() -> Actor:
    who = _acting.get()
    return who if isinstance(who, Actor) else _of_request(who)


def shell(command: str) -> Actor:
    """Return the actor for a command of ``manage.py``."""
    return Actor(ActorKind.SHELL, label=f"manage.py {command}".strip()[:100])


def _of_request(request: HttpRequest) -> Actor:
    """Return the sender of a request as known so far; an anonymous one may still sign in."""
    return replace(_credentials_of(request), origin=Origin.of(request))


def _credentials_of(request: HttpRequest) -> Actor:
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return Actor(ActorKind.VISITOR)
    auth = getattr(request, "auth", None)  # set by Django REST framework
    if prefix := getattr(auth, "prefix", ""):
        return Actor(ActorKind.API_KEY, auth.id, prefix)  # type: ignore[union-attr]
    operator = getattr(request, "operator", None)  # an operator who views a customer's dashboard
    if operator is None and user.is_staff and request.path.startswith(_OPERATORS_PAGES):
        operator = user
    if operator is not None:
        return Actor(ActorKind.OPERATOR, operator.pk, operator.email)
    return Actor(ActorKind.CUSTOMER, user.pk, user.email)
