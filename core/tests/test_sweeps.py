from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import structlog
from django.db import connection
from structlog.contextvars import bind_contextvars

from accounts.models import AttemptCount
from core.sweeps import each_alone

pytestmark = pytest.mark.django_db(transaction=True)


class Passing(Exception):
    pass


def _fails_at(bad: int, error: Exception, done: list[int]) -> Callable[[int], bool]:
    def do(number: int) -> bool:
        if number == bad:
            raise error
        done.append(number)
        return True

    return do


def test_one_that_fails_is_put_off_and_the_others_are_done() -> None:
    done: list[int] = []
    put_off: list[int] = []
    do = _fails_at(1, ValueError(), done)
    assert each_alone(range(3), do, what="test", back_off=put_off.append) == 2
    assert (done, put_off) == ([0, 2], [1])


def test_one_that_cannot_be_put_off(logged: Callable[[], str]) -> None:
    done: list[int] = []
    do = _fails_at(1, ValueError(), done)
    back_off = _fails_at(1, LookupError(), [])
    assert each_alone(range(3), do, what="test", back_off=back_off) == 2
    assert "sweep_item_not_put_off" in logged()


def test_log_lines_name_the_item_and_forget_it(
    log_lines: Callable[..., list[dict[str, Any]]],
) -> None:
    def do(number: int) -> bool:
        bind_contextvars(call_sid=f"CA{number}")
        if number == 1:
            raise ValueError
        structlog.get_logger("test").info("done")
        return True

    each_alone(range(3), do, what="test", logged_as="call_id", back_off=lambda _: None)
    structlog.get_logger("test").info("over")
    lines = [(line["event"], line.get("call_id"), line.get("call_sid")) for line in log_lines()]
    assert lines == [
        ("done", 0, "CA0"),
        ("sweep_item_failed", 1, "CA1"),
        ("done", 2, "CA2"),
        ("over", None, None),
    ]


def test_what_is_to_pass_passes() -> None:
    do = _fails_at(1, Passing(), [])
    with pytest.raises(Passing):
        each_alone(range(3), do, what="test", back_off=lambda _: None, passes=(Passing,))


@pytest.mark.parametrize("in_transaction", [True, False])
def test_each_has_a_transaction_unless_it_waits_for_others(in_transaction: bool) -> None:
    seen: list[bool] = []
    each_alone(
        [1],
        lambda _: seen.append(connection.in_atomic_block),
        what="test",
        back_off=lambda _: None,
        in_transaction=in_transaction,
    )
    assert seen == [in_transaction]


def test_without_a_connection_an_error_is_the_items_own() -> None:
    """A sweep gives its connection back before it waits."""
    connection.close()
    put_off: list[Any] = []
    do = _fails_at(1, ValueError(), [])
    each_alone(range(3), do, what="test", back_off=put_off.append, in_transaction=False)
    assert put_off == [1]


def test_a_database_that_is_gone_is_no_items_fault() -> None:
    def do(_: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute("select pg_backend_pid()")
        connection.connection.close()
        AttemptCount.objects.count()

    with pytest.raises(Exception, match="closed"):
        each_alone(range(3), do, what="test", back_off=lambda _: None, in_transaction=False)
    connection.close()
