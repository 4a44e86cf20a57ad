"""Tests that only ``bin/test --all`` runs, because they take long."""

from __future__ import annotations

import pytest

from core.tests.poisons import IS_SHORT


def only_in_all(why: str) -> pytest.MarkDecorator:
    """Mark a test, or a module's. :param why: what takes so long."""
    return pytest.mark.skipif(IS_SHORT, reason=f"bin/test --all: {why}")
