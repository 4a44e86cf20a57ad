"""Looks for migrations that the previous release would not survive (django-migration-linter).

It looks at those that the previous release lacks, or at all of them if the history does not have
that release. Its warnings count as errors. Exits with 1 if there are any.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator, Mapping, Sequence

import django
import sqlparse
from django.db import connection
from django.db.migrations import Migration
from django.db.migrations.loader import MigrationLoader
from django_migration_linter import MigrationLinter
from django_migration_linter.sql_analyser.base import Check, CheckMode, CheckType, Issue
from django_migration_linter.sql_analyser.postgresql import PostgresqlAnalyser

from devtools.upgrade import ROOT, files_of, previous_commit

_FIRST = "no earlier release has its table, or has calls"
_SMALL = "the table has few rows"
#: What the linter finds and does not matter, with the reason: by migration and code.
EXEMPT: Mapping[str, Mapping[str, str]] = {
    "accounts.0002_enabled_accounts": {"NOT_NULL": _FIRST},
    "accounts.0004_suspension_reason": {"NOT_NULL": _FIRST},
    "accounts.0009_queue_indexes": {"DROP_INDEX": "only when it is reversed"},
    "billing.0002_plan_and_checks": {
        "NOT_NULL": _FIRST,
        "CREATE_INDEX": _FIRST,
        "CREATE_INDEX_EXCLUSIVE": _FIRST,
    },
    "billing.0004_identifier_of_a_part": {"ALTER_COLUMN": "a longer text rewrites nothing"},
    "telephony.0003_callback_delivery_due_at": {
        "CREATE_INDEX": _FIRST,
        "CREATE_INDEX_EXCLUSIVE": _FIRST,
    },
    "telephony.0007_last_call_of_a_number": {"CREATE_INDEX": _FIRST},
    "telephony.0011_engines": {"DROP_INDEX": "CONCURRENTLY replaced it before"},
    "telephony.0025_incidents": {"CREATE_INDEX": _SMALL, "CREATE_INDEX_EXCLUSIVE": _SMALL},
    "usage.0002_billable": {"CREATE_INDEX": _FIRST},
    "usage.0004_parts_of_a_call": {
        "ADD_UNIQUE": "it takes an index that was built concurrently",
        "DROP_INDEX": "only when it is reversed",
    },
}
# How a migration names its variables is ruff's business.
_NOT_ASKED = ("RUNPYTHON_MODEL_VARIABLE_NAME",)


def _adds_what_is_checked(statements: Sequence[str], **_: object) -> bool:
    """Return True if a constraint is added to an existing table and checked under its lock."""
    made = {match[1] for each in statements if (match := re.match(r'CREATE TABLE ("\w+")', each))}
    added = (
        re.match(r'ALTER TABLE ("?\w+"?) ADD CONSTRAINT .*(?:CHECK|FOREIGN KEY)', each)
        for each in statements
        if "NOT VALID" not in each
    )
    return any(match is not None and match[1] not in made for match in added)


class Analyser(PostgresqlAnalyser):
    migration_checks = [
        *PostgresqlAnalyser.migration_checks,
        Check(
            code="ADD_CHECKED",
            fn=_adds_what_is_checked,
            message="CHECK or FOREIGN KEY reads the whole table under a lock: add it NOT VALID, "
            "and validate it in another migration",
            mode=CheckMode.TRANSACTION,
            type=CheckType.ERROR,
        ),
    ]


class Linter(MigrationLinter):
    def get_sql(self, app_label: str, migration_name: str) -> list[str]:
        """Return the statements, each in one line, as the checks expect them."""
        lines = super().get_sql(app_label, migration_name)
        script = "\n".join(line for line in lines if not line.startswith("--"))
        return [" ".join(each.split()) for each in sqlparse.split(script)]

    def print_errors(self, errors: list[Issue]) -> None:
        exempt = self.exclude_migration_tests
        super().print_errors([each for each in errors if each.code not in exempt])


def main() -> None:
    django.setup()
    logging.getLogger("django_migration_linter").setLevel(logging.WARNING)
    commit = previous_commit()
    known = files_of(commit) if commit else set()
    linter = Linter(
        str(ROOT),
        no_cache=True,
        all_warnings_as_errors=True,
        quiet=["ok", "ignore"],
        analyser_string="postgresql",
    )
    linter.sql_analyser_class = Analyser
    for migration in _own_migrations():
        if f"{migration.app_label}/migrations/{migration.name}.py" not in known:
            exempt = EXEMPT.get(f"{migration.app_label}.{migration.name}", {})
            linter.exclude_migration_tests = [*_NOT_ASKED, *exempt]
            linter.lint_migration(migration)
    sys.stdout.write(f"{linter.nb_total} migrations, {linter.nb_erroneous} of them with errors.\n")
    sys.exit(linter.has_errors)


def _own_migrations() -> Iterator[Migration]:
    loader = MigrationLoader(connection)
    for _, migration in sorted(loader.disk_migrations.items()):
        if (ROOT / migration.app_label / "migrations").is_dir():
            yield migration


if __name__ == "__main__":
    main()
