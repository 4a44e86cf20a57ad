from __future__ import annotations

import pytest
from django.db import connection


@pytest.fixture
def no_jobs(db: None) -> None:
    """The tables of the queue are not Django's, so they are not emptied between tests."""
    with connection.cursor() as cursor:
        cursor.execute("delete from procrastinate_jobs")
