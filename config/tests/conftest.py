from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator

import pytest
from structlog.stdlib import ProcessorFormatter


@pytest.fixture
def logged() -> Iterator[Callable[[], str]]:
    """A function that returns what the process would have written to its log so far."""
    root = logging.getLogger()
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(
        next(h.formatter for h in root.handlers if isinstance(h.formatter, ProcessorFormatter))
    )
    root.addHandler(handler)
    yield text.getvalue
    root.removeHandler(handler)
