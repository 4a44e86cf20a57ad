"""The isolated product has nothing in common with the developer's own, or anything real."""

from __future__ import annotations

import psycopg
import pytest

from core.tests.web import database_url
from devtools.isolated import environment, own_database


def test_nothing_real_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIPE_SECRET_KEY", "sk_live_" + "x" * 24)
    monkeypatch.setenv("TWILIO_API_URL", "https://api.twilio.com")
    known = environment("postgresql://somewhere")
    assert not {"STRIPE_SECRET_KEY", "TWILIO_API_URL"} & set(known)
    assert len({known["PORT"], known["MEDIA_PORT"], known["SANDBOX_PORT"]}) == 3


@pytest.mark.django_db
def test_the_database_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url())
    with own_database("test") as url, psycopg.connect(url) as connection:
        name = connection.info.dbname
        assert name != psycopg.conninfo.conninfo_to_dict(database_url())["dbname"]
        assert connection.execute("SELECT count(*) FROM telephony_call").fetchone() == (0,)
    with pytest.raises(psycopg.OperationalError, match=f'"{name}" does not exist'):
        psycopg.connect(url)
