"""A backup, made and restored as docs/backup.md says, and the product on it."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
import requests
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import override_settings
from django.utils import timezone

from accounts.audit import AuditEvent
from accounts.models import Account, ApiKey, AttemptCount, digest_of, new_api_key
from accounts.services import account_activate
from billing.metering.events import meter_events_write
from billing.models import MeterEvent
from core.queue.jobs import defer
from core.tests.databases import as_default_database, database_beside, url_of
from core.tests.long import only_in_all
from core.tests.web import database_url
from devtools.development import LOCAL_DIR
from devtools.postgres import Server, server_of
from devtools.tests.development import development
from devtools.tests.own_postgres import OwnPostgres, own_postgres
from telephony.models import Call, CallbackDelivery, PhoneNumber, Process
from telephony.services import call_accept, call_connect
from telephony.tests.test_calls_api import call_of, ended_call_of
from usage.models import UsageRecord

NUMBER = "+15551234567"
GUIDE = settings.BASE_DIR / "docs" / "backup.md"
EMAIL = "alice@example.org"
_LONG_AGO = timedelta(minutes=3)


def command_of_guide(program: str) -> str:
    """Return the first command in the guide that runs the program."""
    pattern = rf"^ *({program} (?:.*\\\n)*.*)$"
    found = re.search(pattern, GUIDE.read_text(encoding="utf-8"), re.M)
    assert found, program
    return found[1]


def run(command: str, folder: Path, url: str) -> subprocess.CompletedProcess[str]:
    programs = server_of(LOCAL_DIR).programs
    return subprocess.run(
        ["/bin/bash", "-euc", command],
        cwd=folder,
        env={"PATH": f"{programs}:{os.environ['PATH']}", "DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )


@dataclass(frozen=True, slots=True)
class Restored:
    """A restored database, with the key of the account in it."""

    name: str
    api_key: str
    dump: Path

    @property
    def url(self) -> str:
        return url_of(self.name)


def fill() -> str:
    """Store an account with everything that a backup must have; return its API key."""
    account = Account.objects.create_user(EMAIL, "a long walk", email_verified_at=timezone.now())
    account_activate(account=account)
    key = new_api_key()
    ApiKey.objects.create(account=account, label="Default", prefix=key[:7], digest=digest_of(key))
    urls = {
        f"on_call_{what}_url": f"https://your-backend.com/calls/{what}" for what in ("start", "end")
    }
    PhoneNumber.objects.create(
        account=account,
        phone_number=NUMBER,
        **urls,
        on_error_url="https://your-backend.com/calls/error",
    )
    ended_call_of(account)
    meter_events_write()
    engine = Process.objects.create(pk="e" * 25, kind=Process.Kind.ENGINE, host="gone", pid=7)
    Process.objects.update(last_seen_at=timezone.now() - _LONG_AGO)
    talking = call_of(account, 2)
    call_accept(talking)
    now = timezone.now()
    call_connect(talking, now=now - 2 * _LONG_AGO, engine_id=engine.pk)
    Call.objects.filter(pk=talking.pk).update(
        billed_from=now - 2 * _LONG_AGO, last_seen_at=now - _LONG_AGO
    )
    defer("accounts.tasks.send_mail", account_id=account.id, name="password_changed", context={})
    AttemptCount.objects.create(subject="s", count=1, ends_at=timezone.now() + timedelta(hours=1))
    return key


@pytest.fixture(scope="module")
def restored(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Restored]:
    """The tests' database, backed up and restored into an empty one by the guide's commands."""
    folder = tmp_path_factory.mktemp("backup")
    with django_db_blocker.unblock():
        source = database_url()
        call_command("flush", verbosity=0, interactive=False)
        key = fill()
        dumped = run(command_of_guide("pg_dump"), folder, source)
        call_command("flush", verbosity=0, interactive=False)
        assert dumped.returncode == 0, dumped.stderr
        with database_beside("restored") as name:
            loaded = run(command_of_guide("pg_restore"), folder, url_of(name))
            assert loaded.returncode == 0, loaded.stderr
            (dump,) = folder.iterdir()
            yield Restored(name, key, dump)


def after_restore(*options: str) -> str:
    said = io.StringIO()
    call_command("after_restore", *options, stdout=said)
    return said.getvalue()


def count_of_jobs(where: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM procrastinate_jobs WHERE {where}")  # noqa: S608
        return int(cursor.fetchone()[0])


@pytest.mark.django_db
def test_a_restored_database_is_prepared_once(restored: Restored) -> None:
    with as_default_database(restored.name):
        assert Account.objects.get().email == EMAIL
        assert UsageRecord.objects.count() == 1
        assert AuditEvent.objects.count() == 1
        assert not AttemptCount.objects.exists()  # it is unlogged
        assert count_of_jobs("queue_name = 'mail'") == 1
        wrong_key = override_settings(SECRET_KEY="y" * 50)
        with wrong_key, pytest.raises(CommandError, match="SECRET_KEY does not open"):
            after_restore()
        engines = Process.objects.filter(kind=Process.Kind.ENGINE)
        (last_seen_at,) = engines.values_list("last_seen_at", flat=True)
        engines.update(last_seen_at=timezone.now())
        with pytest.raises(CommandError, match="Stop every process"):
            after_restore()
        engines.update(last_seen_at=last_seen_at)
        said = after_restore()
        assert "Calls ended: 1\nEmails dropped: 1\n" in said
        call = Call.objects.get(call_sid=f"CA{2:032x}")
        assert (call.ended_reason, call.duration_seconds) == ("engine_lost", 180)
        assert UsageRecord.objects.count() == 2
        assert CallbackDelivery.objects.filter(call=call, state="pending").count() == 1
        assert count_of_jobs("queue_name = 'mail'") == 0
        # Stripe is asked before either is sent.
        a_day_ago = timezone.now() - timedelta(hours=23)
        events = MeterEvent.objects.unsent()
        assert events.count() == events.filter(first_attempt_at__lt=a_day_ago).count() == 2
        jobs = count_of_jobs("true")
        assert "Calls ended: 0\nEmails dropped: 0\n" in after_restore()
        assert count_of_jobs("true") == jobs
        with override_settings(SECRET_KEY="z" * 50):
            assert "Webhook secrets replaced: 1\n" in after_restore("--key-is-lost")
            secret = Account.objects.get().webhook_secret
            assert secret.secrets(timezone.now()) == [secret.secret]
            assert "Webhook secrets replaced: 0\n" in after_restore("--key-is-lost")


@pytest.mark.django_db
def test_a_second_restore_into_the_same_database_changes_nothing(restored: Restored) -> None:
    again = run(command_of_guide("pg_restore"), restored.dump.parent, restored.url)
    assert again.returncode != 0
    with as_default_database(restored.name):
        assert Account.objects.count() == 1


@only_in_all("a whole product")
@pytest.mark.django_db
def test_the_product_runs_on_a_restored_database(restored: Restored) -> None:
    with as_default_database(restored.name):
        after_restore("--key-is-lost")
        secret = Account.objects.get().webhook_secret.secret
    with development(
        DATABASE_URL=restored.url,
        SECRET_KEY=settings.SECRET_KEY,
        SANDBOX_WEBHOOK_SECRETS=secret,
    ) as running:
        headers = {"Authorization": f"Bearer {restored.api_key}"}
        api, backend = f"{running.url}/api", f"{running.sandbox_url}/backend/calls"
        (number,) = requests.get(f"{api}/phone-numbers", headers=headers, timeout=30).json()[
            "phoneNumbers"
        ]
        urls = {f"onCall{what.title()}Url": f"{backend}/{what}" for what in ("start", "end")}
        changed = requests.patch(
            f"{api}/phone-numbers/{number['id']}", json=urls, headers=headers, timeout=30
        )
        assert changed.status_code == 200, changed.text
        called = subprocess.run(
            [
                *(sys.executable, "manage.py", "simulate_call", "--number", NUMBER),
                *("--sandbox", running.sandbox_url, "--say", "Thank you, goodbye."),
            ],
            cwd=settings.BASE_DIR,
            env={"PATH": os.environ["PATH"], "DEBUG": "1", "DATABASE_URL": restored.url},
            capture_output=True,
            text=True,
            check=False,
        )
        assert called.returncode == 0, called.stdout + called.stderr
        calls = requests.get(f"{api}/calls", headers=headers, timeout=30).json()["calls"]
        assert len(calls) == 3
        assert calls[0]["status"] == "completed"


def settings_of_guide(name: str, folder: Path, **replaced: str) -> str:
    """Return the lines for ``postgresql.conf`` that begin with this setting."""
    text = GUIDE.read_text(encoding="utf-8")
    found = re.search(rf"```ini\n *({name} (?:.*\n)*?) *```", text)
    assert found, name
    lines = found[1].replace("/var/backups/switchhook", str(folder))
    for setting, value in replaced.items():
        lines = re.sub(rf"{setting} = .*", f"{setting} = {value}", lines)
    return lines


def archived(server: OwnPostgres) -> None:
    """Wait until everything that has been committed is in the archive."""
    with psycopg.connect(server.url, autocommit=True) as session:
        (last,) = session.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone() or ("",)
        query = "SELECT last_archived_wal >= %s FROM pg_stat_archiver"
        for _ in range(1000):
            if session.execute(query, [last]).fetchone() == (True,):
                return
            session.execute("SELECT pg_sleep(0.02)")
    raise AssertionError("Nothing was archived.")


def recovered(base: Path, configuration: str, folder: Path) -> Server:
    """Start a server on the base backup; it recovers from the archive."""
    server = server_of(folder)
    # The tests' server listens in its data folder. Its lock would name a process that may linger.
    shutil.copytree(base, server.data, ignore=shutil.ignore_patterns(".s.PGSQL.*"))
    (server.data / "recovery.signal").touch()
    with (server.data / "postgresql.conf").open("a") as file:
        file.write(configuration)
    server.data.chmod(0o700)
    if server.user:
        for path in (server.data, *server.data.rglob("*")):
            os.chown(path, server.user.pw_uid, server.user.pw_gid)
    try:
        server.start()
    except ImproperlyConfigured:
        raise AssertionError(server.log.read_text()) from None
    return server


@only_in_all("two servers")
@pytest.mark.django_db(transaction=True)
def test_recovery_to_a_point_in_time(alice: Account) -> None:
    ended_call_of(alice)
    AttemptCount.objects.create(subject="s", count=1, ends_at=timezone.now() + timedelta(hours=1))
    with tempfile.TemporaryDirectory(prefix="backup-") as parent, own_postgres() as source:
        folder = Path(parent)
        folder.chmod(0o755)
        (folder / "wal").mkdir()
        (folder / "wal").chmod(0o777)  # the server has another user if root runs this
        source.copy_tables(with_rows=True)
        source.configure(settings_of_guide("archive_mode", folder))
        base = command_of_guide("pg_basebackup").replace("/var/backups/switchhook", str(folder))
        copied = run(base, folder, source.url)
        assert copied.returncode == 0, copied.stderr
        with psycopg.connect(source.url, autocommit=True) as session:
            session.execute("UPDATE accounts_account SET company_name = 'after the backup'")
            (moment,) = session.execute("SELECT clock_timestamp()::text").fetchone() or ("",)
            session.execute("DELETE FROM telephony_callevent")  # the mistake
        archived(source)
        source.crash()
        configuration = settings_of_guide(
            "restore_command", folder, recovery_target_time=f"'{moment}'"
        )
        server = recovered(folder / "base", configuration, folder / "new")
        try:
            _expect_the_moment(f"postgresql://postgres@/postgres?host={server.socket_folder()}")
        finally:
            server.stop()


def _expect_the_moment(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as session:
        for _ in range(1000):
            if session.execute("SELECT pg_is_in_recovery()").fetchone() == (False,):
                break
            session.execute("SELECT pg_sleep(0.02)")

        def one(query: LiteralString) -> Any:
            return (session.execute(query).fetchone() or (None,))[0]

        assert one("SELECT company_name FROM accounts_account") == "after the backup"
        assert one("SELECT count(*) FROM telephony_callevent") > 0
        assert one("SELECT count(*) FROM accounts_attemptcount") == 0  # it is unlogged
    prepared = subprocess.run(
        [sys.executable, "manage.py", "after_restore"],
        cwd=settings.BASE_DIR,
        env={
            "PATH": os.environ["PATH"],
            "DEBUG": "1",
            "DATABASE_URL": url,
            "SECRET_KEY": settings.SECRET_KEY,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert prepared.returncode == 0, prepared.stderr
    assert "Calls ended: 0" in prepared.stdout
