"""The standing cast of every test.

Alice and Bob are active companies (Bob has no access to Alice's stuff), Carol has not paid yet,
Dave is suspended, Olga is an operator; all have confirmed their email addresses. ``alice_api`` and
so on are clients that send the person's API key; ``anonymous_api`` sends none. A person exists only
in the tests that ask for them.

Django is imported inside the fixtures: the call engine's tests load this file and run without it.
"""

from __future__ import annotations

import gc
import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import compress
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from django.http import HttpRequest
    from playwright.sync_api import Browser
    from rest_framework.test import APIClient

    from accounts.models import Account
    from devtools.tests.development import Development

PASSWORD = "a long walk in the rain"  # noqa: S105 (everybody's, in tests)


# They come first, so that the processes that share the modules end at about the same time.
LONGEST = (
    "dashboard/tests/test_every_page.py",
    "core/tests/test_poisons.py",
    "devtools/tests/test_development.py",
    "telephony/tests/wire/test_forgeries.py",
    "telephony/tests/wire/test_conversation.py",
    "core/tests/test_contract.py",
    "telephony/tests/callbacks/test_outbox.py",
    "dashboard/tests/test_closing_minutes.py",
    "dashboard/tests/test_whole_way.py",
    "billing/tests/test_metering_month.py",
    "telephony/tests/wire/test_lost_engine.py",
    "core/tests/test_outages.py",
    "operations/tests/test_metrics_port.py",
    "devtools/bench/tests/test_measure.py",
    "docs/tests/test_quickstart.py",
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if gone := [name for name in LONGEST if not (config.rootpath / name).is_file()]:
        raise pytest.UsageError(f"LONGEST in conftest.py names what is not there: {gone}")
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(places)))


def pytest_collection_finish() -> None:
    """Leave all that is loaded now out of each search for garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def fresh_log_context() -> None:
    """A request's id stays in the log context until the next request: not until the next test."""
    if structlog := sys.modules.get("structlog"):
        structlog.contextvars.clear_contextvars()


@pytest.fixture
def logged() -> Iterator[Callable[[], str]]:
    """A function that returns what the process would have written to its log so far."""
    from structlog.stdlib import ProcessorFormatter

    ours = (handler.formatter for handler in logging.getLogger().handlers)
    with _log_with(next(each for each in ours if isinstance(each, ProcessorFormatter))) as text:
        yield text.getvalue


@pytest.fixture
def log_lines() -> Iterator[Callable[..., list[dict[str, Any]]]]:
    """A function that returns the log lines so far, as production writes them.

    Given the name of an event, it returns only the lines of that event.
    """
    from core.logs import formatter

    with _log_with(formatter(json=True)) as text:

        def lines(event: str = "") -> list[dict[str, Any]]:
            found = [json.loads(line) for line in text.getvalue().splitlines()]
            return [line for line in found if line["event"] == event or not event]

        yield lines


@contextmanager
def _log_with(formatter: logging.Formatter) -> Iterator[io.StringIO]:
    """Write to a text as well what is logged until the end of the block."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(formatter)
    logging.getLogger().addHandler(handler)
    try:
        yield text
    finally:
        logging.getLogger().removeHandler(handler)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings: None) -> None:
    """Copy the tests' database from one that is migrated already."""
    from django.db import connection

    from devtools.development import LOCAL_DIR
    from devtools.isolated import migrate
    from devtools.migrated import migrated_database
    from devtools.postgres import embedded_url

    server = os.environ.get("DATABASE_URL") or embedded_url(LOCAL_DIR)
    template = migrated_database(server, "development", migrate)
    connection.settings_dict["TEST"]["TEMPLATE"] = template


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> None:
    """Clear the tables after a test with transactions by deleting rows.

    Django truncates all tables, and an empty one takes as long as a full one: with dj-stripe's half
    a second each time. Foreign keys are checked at the end of the transaction. Types and
    permissions, which come with the migrations, stay: to make them anew takes another quarter.

    The audit log refuses to be deleted. Who owns the table, as whoever has made the tests' database
    does, may take that away, in plain sight: there is no setting that a running server could use.
    """
    from django.contrib.auth.signals import user_logged_in
    from django.core.management.commands import flush
    from django.db.backends.postgresql.operations import DatabaseOperations

    def sql_flush(
        self: DatabaseOperations, style: Any, tables: list[str], **options: Any
    ) -> list[str]:
        kept = {"django_content_type", "auth_permission"}
        names = [self.quote_name(table) for table in tables if table not in kept]
        names.append("procrastinate_jobs")  # which no model of Django's manages
        has_rows = ", ".join(f"EXISTS (SELECT FROM {name})" for name in names)
        with self.connection.cursor() as cursor:
            cursor.execute(f"SELECT {has_rows}")
            found = cursor.fetchone()
        found_in = list(compress(names, found))
        deletes = [f"DELETE FROM {name}" for name in found_in]  # noqa: S608
        audit_log = self.quote_name("accounts_auditevent")
        if audit_log in found_in:
            deletes.insert(0, f"ALTER TABLE {audit_log} DISABLE TRIGGER USER")
            deletes.append(f"ALTER TABLE {audit_log} ENABLE TRIGGER USER")
        return deletes

    user_logged_in.connect(_has_shown_all, dispatch_uid="tests")
    DatabaseOperations.sql_flush = sql_flush  # type: ignore[assignment, method-assign]
    flush.emit_post_migrate_signal = lambda *args, **options: None  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def running(django_db_setup: None, django_db_blocker: Any) -> Iterator[Development]:
    """All of ``bin/dev``, on the tests' database, which is emptied before and afterwards.

    For a module: what a test's own transaction empties comes back at its end.
    """
    from django.core.management import call_command

    from core.tests.web import database_url
    from devtools.tests.development import development

    with django_db_blocker.unblock():
        database_url()  # refuses every database but the tests'
        call_command("flush", verbosity=0, interactive=False)
    with development() as running:
        yield running
    with django_db_blocker.unblock():
        call_command("flush", verbosity=0, interactive=False)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Chromium. People who look are made before it starts."""
    from django.db import connection

    from devtools.browsing.chromium import launched

    # Playwright keeps an event loop in this thread, in which Django refuses the database, and has
    # other connections.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    with launched() as browser:
        yield browser
        connection.close()
        connection.close_pool()  # type: ignore[attr-defined]  # PostgreSQL has one
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def password() -> str:
    """Everybody's password."""
    return PASSWORD


@pytest.fixture
def alice(db: None) -> Account:
    return _account("alice@example.org", company_name="Alice's Plumbing", status="ACTIVE")


@pytest.fixture
def bob(db: None) -> Account:
    return _account("bob@example.org", company_name="Bob's Bakery", status="ACTIVE")


@pytest.fixture
def carol(db: None) -> Account:
    return _account("carol@example.org", company_name="Carol's Cars", status="INACTIVE")


@pytest.fixture
def dave(db: None) -> Account:
    return _account("dave@example.org", company_name="Dave's Dentistry", status="SUSPENDED")


@pytest.fixture
def operator(db: None) -> Account:
    """Olga, who may do everything in the admin, and has a second factor: an app."""
    from devtools.browsing.authenticator import app_of

    account = _account("olga@example.org", is_staff=True, is_superuser=True)
    app_of(account)
    return account


@pytest.fixture
def alice_api(alice: Account) -> APIClient:
    return _client(alice)


@pytest.fixture
def bob_api(bob: Account) -> APIClient:
    return _client(bob)


@pytest.fixture
def carol_api(carol: Account) -> APIClient:
    return _client(carol)


@pytest.fixture
def dave_api(dave: Account) -> APIClient:
    return _client(dave)


@pytest.fixture
def anonymous_api() -> APIClient:
    from rest_framework.test import APIClient

    return APIClient()


def _has_shown_all(request: HttpRequest, user: Account, **_: Any) -> None:
    """Whom ``Client.force_login`` logs in, which sends no request, has proven all that a form asks.

    An operator has a second factor.
    """
    from accounts.proofs import session_mark
    from devtools.browsing.authenticator import app_of

    if not request.path:
        if user.is_staff:
            app_of(user)
        session_mark(request.session, user, second_factor=user.is_staff)


def _account(email: str, **fields: Any) -> Account:
    from django.utils import timezone

    from accounts.models import Account

    known = {"email_verified_at": timezone.now()}
    return Account.objects.create_user(email, PASSWORD, **known | fields)


def _client(account: Account) -> APIClient:
    """Make an API key, and a client that sends it."""
    from rest_framework.test import APIClient

    from accounts.models import ApiKey, digest_of, new_api_key

    key = new_api_key()
    ApiKey.objects.create(account=account, label="Default", prefix=key[:7], digest=digest_of(key))
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
    return client
