"""The figures depend on the machine; the counts must be right anyway."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from django.db import connection

from devtools.bench.calls_session import Table, Used, told
from devtools.bench.statements import CountingRelay, Counts, counting, without_values
from devtools.ports import free_ports


@pytest.fixture
def relay(db: None) -> Iterator[CountingRelay]:
    with connection.cursor() as cursor:
        cursor.execute("SHOW unix_socket_directories")
        socket = Path(cursor.fetchone()[0]) / ".s.PGSQL.5432"
    names = {"one": free_ports(1)[0]}
    with counting(names, socket, connection.settings_dict["NAME"]) as relay:
        yield relay


class TestCounts:
    def test_statements_transactions_and_writes_are_counted(self, relay: CountingRelay) -> None:
        with psycopg.connect(relay.urls["one"]) as client:
            client.execute("CREATE TEMPORARY TABLE counted (id int)")
            client.commit()
            start = relay.counts()["one"]
            for number in range(8):  # psycopg prepares a statement that it sends often
                client.execute("INSERT INTO counted VALUES (%s)", [number])
                client.commit()
            client.execute("SELECT id FROM counted WHERE id = 3 FOR UPDATE")
            client.commit()
            client.execute("SELECT id FROM counted WHERE id = 3")
            client.execute("UPDATE counted SET id = 4 WHERE id = 77")
            client.commit()
            used = relay.counts()["one"] - start
        assert used.texts == {
            "INSERT INTO counted VALUES (?)": 8,
            "SELECT id FROM counted WHERE id = ? FOR UPDATE": 1,
            "SELECT id FROM counted WHERE id = ?": 1,
            "UPDATE counted SET id = ? WHERE id = ?": 1,
        }
        assert used.statements == 11
        assert used.transactions == 10
        assert used.writes == 9
        assert used.round_trips == 11 + 2 * 10 + 1  # each BEGIN, each COMMIT, and the preparation

    def test_values_do_not_matter(self) -> None:
        text = "SELECT a1 FROM t WHERE b = 'it''s' AND c IN (1,\n 2.5, 'x'::text) AND d = $1"
        assert without_values(text) == "SELECT a1 FROM t WHERE b = ? AND c IN (?) AND d = ?"


def test_what_idle_processes_use_is_subtracted() -> None:
    def used(seconds: float, times: int) -> Used:
        counts = {"engine": Counts(Counter(SELECT=times), times, times, times)}
        return Used(seconds, {"engine": times / 100}, counts, times * 1000, times)

    bare = Used(1.0, {"client": 0.5}, {}, 500_000, 1000)
    added = {"telephony_call": Table(10, 5000), "telephony_watch": Table(0, 0)}
    # 10 calls in 20 s; 5 statements are made in 10 s without any calls.
    lines = told(10, used(20, 110), used(10, 5), added, bare)
    assert [line.split() for line in lines if line.startswith(("engine", "all"))] == [
        ["engine", "100.0", "ms", "10.0", "10.0", "10.0", "10.0"],
        ["all", "100.0", "ms", "10.0", "10.0", "10.0", "10.0"],
        ["all", "1.00", "500"],
    ]
    assert "WAL: 10.0 KB for each call, in 10.0 transactions and savepoints." in lines
    assert not any("telephony_watch" in line for line in lines)
