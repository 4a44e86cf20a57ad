"""``manage.py doctor`` as a whole: what it prints, when it fails, and that it always ends."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterable
from typing import Any

import pytest
from django.core.management import CommandError, call_command, load_command_class

from config.tests.test_settings import PRODUCTION, ROOT
from core.version import VERSION
from operations.doctor import running
from operations.doctor.findings import Check, Finding, Options, Row, Status, failed, ok, warning
from operations.doctor.report import as_json, as_table, exit_status
from operations.doctor.running import run_checks

SECRETS = {
    "SECRET_KEY": PRODUCTION["SECRET_KEY"],
    "STRIPE_SECRET_KEY": "rk_live_abcdefghijklmnopqrstuvwxyz",
    "DATABASE_URL": "postgresql://switchhook:word-of-the-database@127.0.0.1:1/switchhook",
    "EMAIL_URL": "smtp+tls://switchhook:word-of-the-mail@127.0.0.1:1",
}


def doctor(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", "doctor", *arguments],
        env={"PATH": os.environ["PATH"], **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_settings_that_are_wrong_and_no_database() -> None:
    """It says so first, and goes on with what does not depend on them."""
    nowhere = {"TWILIO_API_URL": "https://127.0.0.1:1", "OPENAI_REALTIME_URL": "wss://127.0.0.1:1"}
    ended = doctor("--json", PORT="http", ENGIN_URL="https://x.example", **SECRETS, **nowhere)
    assert (ended.returncode, ended.stderr) == (1, "")
    report = json.loads(ended.stdout)
    assert report["status"] == "failed"
    found = report["findings"]
    assert [each["check"] for each in found[:5]] == ["settings"] * 5
    assert {each["message"].split()[0] for each in found[:5]} == {
        "PORT",
        "PUBLIC_URL",
        "ENGINE_URL",
        "MEDIA_URL",
        "STRIPE_SECRET_KEY",
    }
    by_check = {(each["check"], each["subject"]): each for each in found[5:]}
    assert by_check["names", ""]["status"] == "warning"
    assert by_check["database", ""]["status"] == "failed"
    assert by_check["migrations", ""]["message"] == "It needs the database: see above."
    assert by_check["voice", "ENGINE_URL"]["message"].startswith("It needs ENGINE_URL, which is")
    assert by_check["mail", ""]["status"] == "failed"
    assert by_check["services", "TWILIO_API_URL"]["status"] == "failed"
    assert all(each["action"] for each in found if each["status"] in ("failed", "warning"))
    said = ended.stdout + ended.stderr
    assert not [secret for secret in SECRETS.values() if secret in said]
    assert "word-of-the" not in said


def test_warnings_alone_are_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENGIN_URL", "https://engine.switchhook.example")
    call_command("doctor", "--only=names")  # it would raise SystemExit
    said = capsys.readouterr().out
    assert "ENGIN_URL is set" in said
    assert said.endswith(": 1 warning, 0 ok.\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--only", "databse"), "there is no check 'databse'"),
        (("--processes", "webs=2"), "must be like web=2,engine=2,worker=1"),
    ],
)
def test_an_argument_that_means_nothing(arguments: tuple[str, ...], said: str) -> None:
    command = load_command_class("operations", "doctor")
    with pytest.raises(CommandError, match=re.escape(said)):
        command.create_parser("manage.py", "doctor").parse_args(arguments)


def check(key: str, *found: Finding | Exception | threading.Event, **options: Any) -> Check:
    """Return a check that finds what is given, raises it, or waits for it."""

    def run(subject: str, _: Options) -> Iterable[Finding]:
        for each in found:
            if isinstance(each, Exception):
                raise each
            if isinstance(each, threading.Event):
                each.wait()
            else:
                yield each

    return Check(key, key.title(), "", run, **options)


def test_each_check_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that hangs or fails keeps what it found, and keeps no other from being done."""
    monkeypatch.setattr(running, "DEADLINE_S", 0.2)
    never = threading.Event()
    checks = [
        check("hangs", ok("Half of it."), never),
        check("fails", ok("Half of it."), ValueError("Bearer abcdefghijklmnop is wrong\nTrace")),
        check("works", ok("All of it.")),
    ]
    rows = run_checks(checks, Options())
    never.set()
    found = [(row.check.key, row.finding.status, row.finding.message) for row in rows]
    assert found == [
        ("hangs", Status.OK, "Half of it."),
        ("hangs", Status.FAILED, "No result within 0.2 seconds."),
        ("fails", Status.OK, "Half of it."),
        (
            "fails",
            Status.FAILED,
            "The check stopped with ValueError: Bearer [redacted] is wrong",
        ),
        ("works", Status.OK, "All of it."),
    ]


def test_the_table() -> None:
    one, other = check("one"), check("other", subjects=("A", "B"))
    rows = [
        Row(one, "", failed("It is broken, and that is a long story of words.", "Mend it.")),
        Row(other, "A", ok("Good.")),
        Row(other, "B", Finding(Status.SKIPPED, "It needs A.")),
    ]
    assert as_table(rows, width=50, has_colour=False).splitlines() == [
        "FAILED   One       It is broken, and that is a",
        "                   long story of words.",
        "                   → Mend it.",
        "ok       Other: A  Good.",
        "skipped  Other: B. It needs A.",
        "",
        f"Switchhook {VERSION}: 1 failed, 1 skipped, 1 ok.",
    ]
    assert exit_status(rows) == 1
    assert json.loads(as_json(rows))["findings"][2]["subject"] == "B"
    good = [Row(one, "", ok("Good.")), Row(one, "", warning("Hm.", "Look."))]
    assert exit_status(good) == 0


def test_the_summary_is_not_that_all_is_fine_if_something_was_skipped() -> None:
    good = Row(check("one"), "", ok("Good."))
    skipped = Row(check("other"), "", Finding(Status.SKIPPED, "It needs A."))
    last = [
        as_table(rows, width=50, has_colour=False).splitlines()[-1]
        for rows in ([good], [good, skipped])
    ]
    assert last == ["Everything is fine.", f"Switchhook {VERSION}: 1 skipped, 1 ok."]
