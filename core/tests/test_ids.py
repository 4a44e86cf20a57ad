from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from core.ids import first_id_of, is_id, made_at, new_id


def test_the_shape_is_a_cuids():
    id = new_id()
    assert len(id) == 25
    assert id[0] == "c"
    assert id.isascii()
    assert id.isalnum()
    assert id == id.lower()


def test_they_sort_by_creation():
    ids = [new_id() for _ in range(5_000)]
    assert ids == sorted(ids)


def test_they_sort_across_processes(monkeypatch):
    before = new_id()
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now + 10_000_000)
    monkeypatch.setattr("core.ids._counter", iter([0]))
    assert new_id() > before


def test_they_are_unique():
    assert len({new_id() for _ in range(5_000)}) == 5_000


def test_the_end_cannot_be_guessed():
    assert len({new_id()[-12:] for _ in range(1_000)}) == 1_000


def test_it_is_an_id():
    assert is_id(new_id())


@pytest.mark.parametrize("text", ["", "c", "1", "C" + "0" * 24, "c" + "0" * 25, "c" + "ä" * 24])
def test_it_is_none(text):
    assert not is_id(text)


def test_nothing_may_follow():
    assert not is_id(new_id() + "\n")


def test_an_id_tells_when_it_was_made():
    before = datetime.now(UTC)
    made = made_at(new_id())
    assert before - timedelta(milliseconds=1) <= made <= datetime.now(UTC)


def test_ids_can_be_found_by_time():
    id = new_id()
    assert first_id_of(made_at(id)) < id
    assert first_id_of(made_at(id) + timedelta(milliseconds=1)) > id
