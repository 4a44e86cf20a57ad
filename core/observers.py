"""Tells observers what has happened. Metrics and traces learn of calls this way.

Code that knows a fact calls ``tell`` with an instance of a dataclass; it knows no observer. An
observer subscribes to a class, once, when its process starts::

    observe(CallEnded, lambda ended: CALLS_ENDED.labels(ended.call.direction).inc())

The classes for calls are in ``telephony.facts``, and others are beside the code that tells them:
``JobEnded`` in ``core.queue.worker``, ``RequestAnswered`` in ``core.middleware``.

Observers run in the thread that tells, engines' event loops included. They must be quick, never
wait and never query. An error of theirs is logged, and changes nothing else. Without an observer, a
fact costs the creation of an object. Nothing is told for each audio frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import structlog

log = structlog.get_logger(__name__)

Fact = TypeVar("Fact")

_observers: dict[type[Any], tuple[Callable[[Any], None], ...]] = {}


def observe(kind: type[Fact], observer: Callable[[Fact], None]) -> Callable[[], None]:
    """Call the observer with each fact of a kind; return the function that ends this."""
    _observers[kind] = (*_observers.get(kind, ()), observer)

    def end() -> None:
        _observers[kind] = tuple(each for each in _observers[kind] if each is not observer)

    return end


def observe_all(observers: Mapping[type[Any], Callable[[Any], None]]) -> Callable[[], None]:
    """Call each observer with each fact of its kind; return the function that ends this."""
    ends = [observe(kind, observer) for kind, observer in observers.items()]

    def end() -> None:
        for each in ends:
            each()

    return end


def tell(fact: object) -> None:
    """Tell the observers of the fact's class, in the order in which they subscribed."""
    for observer in _observers.get(type(fact), ()):
        try:
            observer(fact)
        except Exception as error:
            log.exception("observer_failed", fact=type(fact).__name__, exc_info=error)
