"""PostgreSQL's plan for a query, so that a test can limit its work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection

_ROWS_REMOVED = ("Rows Removed by Filter", "Rows Removed by Join Filter")


class Plans:
    """The plans of the queries that ran, as they were carried out."""

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith(("SELECT", "UPDATE")):
            with context["cursor"].db.connection.cursor() as cursor:
                cursor.execute("SAVEPOINT before_the_plan")
                cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + sql, params)
                [(found,)] = cursor.fetchall()
                cursor.execute("ROLLBACK TO SAVEPOINT before_the_plan")
            plans = json.loads(found) if isinstance(found, str) else found
            self.nodes += _nodes(plans[0]["Plan"])
        return execute(sql, params, many, context)

    @property
    def tables_read_whole(self) -> set[str]:
        return {n["Relation Name"] for n in self.nodes if n["Node Type"] == "Seq Scan"}

    @property
    def indexes(self) -> set[str]:
        return {node["Index Name"] for node in self.nodes if "Index Name" in node}

    @property
    def rows_looked_at(self) -> int:
        """The most rows that a step of a plan took in."""
        return int(max(_rows(node) for node in self.nodes))


@contextmanager
def planned() -> Iterator[Plans]:
    plans = Plans()
    with connection.execute_wrapper(plans):
        yield plans


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", []):
        yield from _nodes(below)


def _rows(node: dict[str, Any]) -> float:
    removed = sum(node.get(name, 0) for name in _ROWS_REMOVED)
    return float((node["Actual Rows"] + removed) * node["Actual Loops"])
