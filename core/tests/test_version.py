"""The version is the same wherever it is said."""

from __future__ import annotations

import re

from django.conf import settings

from core.schema import document
from core.version import VERSION


def test_the_changelog_begins_with_this_version():
    text = (settings.BASE_DIR / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (?:\d{4}-\d\d-\d\d|unreleased)$", text, re.M)
    assert versions[0] == VERSION
    assert versions == sorted(versions, key=lambda one: [*map(int, one.split("."))], reverse=True)


def test_the_openapi_document_has_it():
    assert document()["info"]["version"] == VERSION
