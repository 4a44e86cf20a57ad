"""The generated tables in the guides are up to date."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.test import Client

from docs.guides import FOLDER, read_guide
from docs.tables import PARTS, TABLES, with_tables

FILES = sorted(FOLDER.glob("*.md"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_they_are_up_to_date(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert with_tables(text) == text, "Run: manage.py write_docs"
    for what in ("table", "sections"):
        assert text.count(f"<!-- {what}: ") == text.count(f"<!-- end of {what} -->")


def test_a_table_that_is_not_is_written_anew() -> None:
    text = (FOLDER / "call-configuration.md").read_text(encoding="utf-8")
    assert with_tables(text.replace("| `voice` |", "| `sound` |")) == text


def test_each_is_in_one_guide() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in FILES)
    for name in TABLES:
        assert text.count(f"<!-- table: {name} -->") == 1, name
    for name in PARTS:
        assert text.count(f"<!-- sections: {name} -->") == 1, name


def test_readers_see_a_table_and_no_markers() -> None:
    page = read_guide("call-configuration").html
    markdown = Client().get("/docs/call-configuration.md").content.decode()
    assert "<td><code>maxDurationSeconds</code></td>" in page
    assert "| `maxDurationSeconds` | integer | `3300` |" in markdown
    for text in (page, markdown):
        assert "end of table" not in text
