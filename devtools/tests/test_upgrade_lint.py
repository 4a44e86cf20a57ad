"""What the linter says of migrations."""

from __future__ import annotations

import pytest

from devtools.upgrade.lint import Analyser

TABLE = 'CREATE TABLE "t" ("a" integer NOT NULL PRIMARY KEY)'
CHECK = 'ALTER TABLE "t" ADD CONSTRAINT "c" CHECK ("a" > 0)'
KEY = 'ALTER TABLE "t" ADD CONSTRAINT "c" FOREIGN KEY ("a") REFERENCES "u" ("b")'


@pytest.mark.parametrize(
    ("statements", "codes"),
    [
        ([CHECK], ["ADD_CHECKED"]),
        ([KEY], ["ADD_CHECKED"]),
        ([f"{CHECK} NOT VALID"], []),
        ([TABLE, CHECK, KEY], []),
        (['ALTER TABLE "t" DROP COLUMN "a"'], ["DROP_COLUMN"]),
        (['ALTER TABLE "t" ADD COLUMN "a" integer DEFAULT 0 NOT NULL'], []),
    ],
)
def test_statements(statements: list[str], codes: list[str]) -> None:
    analyser = Analyser([])
    analyser.analyse(statements)
    assert [issue.code for issue in analyser.errors] == codes
