"""Settings that stop a deployment, and the result when nothing is wrong."""

from __future__ import annotations

import hashlib
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from django.test import Client

from config.environment import Misconfigured
from devtools.collected import collected_static_files

ROOT = Path(__file__).resolve().parents[2]

# Of fixed digits: what tests are named after must be the same in each of their processes.
KEY = hashlib.sha256(b"production").hexdigest()

REQUIRED = {
    "SECRET_KEY": KEY,
    "PUBLIC_URL": "https://switchhook.example",
    "ENGINE_URL": "https://engine.switchhook.example",
    "MEDIA_URL": "wss://media.switchhook.example/media",
    "DATABASE_URL": "postgresql://switchhook@127.0.0.1:1/nobody_connects",
    "STRIPE_SECRET_KEY": "sk_live_0123456789abcdefghijklmn",
}
PRODUCTION = {**REQUIRED, "STATIC_ROOT": str(collected_static_files(ROOT / ".local"))}
SETTINGS = "config.settings"
DEVELOPMENT = {"DEBUG": "1", "SECRET_KEY": "x", "DATABASE_URL": PRODUCTION["DATABASE_URL"]}


def run(*command: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        env={"PATH": os.environ["PATH"], **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


def ending(environment: dict[str, str], *command: str) -> list[str]:
    """Return the lines that a process ends with, which must be all that it says."""
    ended = run(*command, environment=environment)
    assert ended.returncode == 1
    assert ended.stdout == ""
    return ended.stderr.splitlines()


def refusal(environment: dict[str, str]) -> str:
    """Return what the settings say: whatever follows from a value is no second problem."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "environ", environment)
        with pytest.raises(Misconfigured) as raised:
            runpy.run_path(str(ROOT / "config/settings.py"))
    [problem] = raised.value.problems
    return str(problem)


def test_it_works() -> None:
    ended = run("manage.py", "check", "--deploy", "--fail-level=WARNING", environment=PRODUCTION)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    "name",
    [
        "SECRET_KEY",
        "DATABASE_URL",
        "PUBLIC_URL",
        "ENGINE_URL",
        "MEDIA_URL",
        "STRIPE_SECRET_KEY",
    ],
)
def test_production_names_what_is_missing(name: str) -> None:
    environment = {key: value for key, value in PRODUCTION.items() if key != name}
    assert refusal(environment).startswith(f"{name} ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PUBLIC_URL", "http://switchhook.example"),
        ("ENGINE_URL", "http://engine.switchhook.example"),
        ("MEDIA_URL", "ws://media.switchhook.example/media"),
        ("PUBLIC_URL", "switchhook.example"),
        ("PASSWORD_BREACH_CHECK_URL", "http://breaches.example/range"),
        ("CALLBACK_ALLOW_PRIVATE", "1"),
        ("SANDBOX", "1"),
        ("DATABASE_URL", "mysql://root@127.0.0.1/switchhook"),
        ("STRIPE_SECRET_KEY", "pk_live_0123456789abcdefghijklmn"),
        ("STRIPE_SECRET_KEY", "sk_live_short"),
        ("SECRET_KEY", "a"),
        ("SECRET_KEY", "changeme"),
        ("SECRET_KEY", "changeme" * 8),
        ("SECRET_KEY", f"django-insecure-{KEY}"),
        ("SECRET_KEY_FALLBACKS", "a"),
        ("SECRET_KEY_FALLBACKS", f"{KEY},changeme"),
        ("ALLOWED_HOSTS", "*"),
        ("ALLOWED_HOSTS", "switchhook.example,.com"),
        ("PUBLIC_URL", "https://user:password@switchhook.example"),
        ("PUBLIC_URL", "https://switchhook.example/app"),
        ("ENGINE_URL", "https://switchhook.example?x=1"),
        ("MEDIA_URL", "wss://user@switchhook.example/media"),
        ("TWILIO_API_URL", "http://api.twilio.com"),
        ("TWILIO_API_URL", "https://AC1:token@api.twilio.com"),
        ("OPENAI_REALTIME_URL", "ws://api.openai.com/v1/realtime"),
        ("OPENAI_REALTIME_URL", "https://api.openai.com/v1/realtime"),
        ("OPENAI_REALTIME_URL", "wss://sk-key@api.openai.com/v1/realtime"),
        ("OPENAI_HOSTS", "*"),
        ("OPENAI_HOSTS", ".com"),
        ("OPENAI_HOSTS", ".openai.azure.com,https://eu.api.openai.com"),
        ("STRIPE_WEBHOOK_SECRET", "whsec_test"),
        ("EMAIL_URL", "consolemail://"),
        ("EMAIL_URL", "smtp://user:password@mail.example"),
        ("TERMS_URL", "http://switchhook.example/terms"),
        ("PRIVACY_URL", "javascript:alert(1)"),
        ("SUPPORT_URL", "https://user:password@switchhook.example"),
        ("SUPPORT_EMAIL", "support"),
        ("STATUS_URL", "status.switchhook.example"),
        ("TRUSTED_PROXIES", "0"),
        ("HOST", "engine.example"),
        ("EMAIL_URL", "smtp+tls://user:pass/word@mail.example:587"),
        ("EMAIL_FROM", "Switchhook <no-reply>"),
        ("OPERATOR_EMAILS", "olga@switchhook.example,boss"),
        ("OPERATOR_EMAILS", "olga@switchhook.example"),  # without a mail server
        ("OPERATOR_WEBHOOK_URL", "http://hooks.slack.com/services/T0/B0/a1B2"),
        ("ALLOWED_COUNTRIES", "US,UK"),
        ("WEB_CONCURRENCY", "0"),
        ("DEBUG", "ture"),
        ("SANDBOX", "maybe"),
    ],
)
def test_production_refuses(name: str, value: str) -> None:
    assert refusal({**PRODUCTION, name: value}).split()[0] == name


@pytest.mark.parametrize(
    "command",
    [
        ("manage.py", "migrate"),
        ("manage.py", "worker"),
        ("-m", "gunicorn", "--config=config/gunicorn.conf.py", "--workers=2"),
    ],
)
def test_all_that_is_missing_or_wrong_is_named_at_once(command: tuple[str, ...]) -> None:
    wrong = {
        "SECRET_KEY_FALLBACKS": "a,b",
        "PROCESS": "wbe",
        "PORT": "http",
        "HOST": "engine.example",
        "ALLOWED_HOSTS": "*",
        "EMAIL_URL": "mail.example",
        "EMAIL_FROM": "Switchhook",
        "ALLOWED_COUNTRIES": "US, USA",
        "DATABASE_POOL_SIZE": "0",
    }
    headline, *lines = ending(wrong, *command)
    assert headline == f"{len(lines)} environment variables are missing or wrong:"
    assert sorted(line.split()[0] for line in lines) == sorted([*REQUIRED, *wrong])


@pytest.mark.parametrize(
    "url",
    [
        "switchhook",
        "postgresql://switchhook:pass/word@database.example/switchhook",
        "postgresql://switchhook:password@database.example:port/switchhook",
        "postgresql://switchhook:password@database.example",
    ],
)
def test_the_address_of_a_database(url: str) -> None:
    line = refusal({**PRODUCTION, "DATABASE_URL": url})
    assert line.startswith("DATABASE_URL ")
    assert "postgresql://user:password@host:5432/name" in line
    assert "pass/word" not in line


def test_an_empty_variable_is_not_set() -> None:
    empty = dict.fromkeys(("EMAIL_URL", "PORT", "ALLOWED_COUNTRIES", "SANDBOX", "HOST"), "")
    assert run("manage.py", "check", environment=PRODUCTION | empty).returncode == 0


def test_a_key_may_begin_with_a_dollar_sign() -> None:
    script = "from django.conf import settings; print(settings.SECRET_KEY)"
    environment = {**PRODUCTION, "SECRET_KEY": f"${KEY}", "DJANGO_SETTINGS_MODULE": SETTINGS}
    assert run("-c", script, environment=environment).stdout == f"${KEY}\n"


def test_nothing_is_demanded_while_nobody_knows_what_this_is() -> None:
    assert refusal({"DEBUG": "ture", "HOST": "10.0.0.7"}).startswith("DEBUG must be 1 or 0")


def test_production_takes_what_is_safe() -> None:
    environment = PRODUCTION | {
        "SECRET_KEY_FALLBACKS": f"{KEY[::-1]},{KEY[7:]}",
        "ALLOWED_HOSTS": "switchhook.example,.switchhook.example",
        "STRIPE_WEBHOOK_SECRET": f"whsec_{KEY}",
        "TWILIO_API_URL": "https://api.dublin.ie1.twilio.com",
        "EMAIL_URL": "smtp+tls://user:password@mail.example:587",
        "TERMS_URL": "https://switchhook.example/legal?lang=en#terms",
        "SUPPORT_EMAIL": "support@switchhook.example",
        "OPERATOR_EMAILS": "olga@switchhook.example, boss@switchhook.example",
        "OPERATOR_WEBHOOK_URL": "https://hooks.slack.com/services/T0/B0/a1B2",
        "DEBUG": "off",
        "HOST": "10.0.0.7",
    }
    ended = run("manage.py", "check", "--deploy", "--fail-level=WARNING", environment=environment)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    ("environment", "bind"),
    [
        ({}, "127.0.0.1:8000"),
        ({"HOST": "0.0.0.0"}, "0.0.0.0:8000"),  # noqa: S104
        ({"HOST": "::1", "PORT": "9000"}, "[::1]:9000"),
    ],
)
def test_where_a_server_listens(environment: dict[str, str], bind: str) -> None:
    command = ("-m", "gunicorn", "--config=config/gunicorn.conf.py", "--print-config")
    ended = run(*command, environment=PRODUCTION | environment)
    assert [line.split()[-1] for line in ended.stdout.splitlines() if line.startswith("bind ")] == [
        f"['{bind}']"
    ]


def test_development_is_for_this_machine_alone() -> None:
    assert refusal({**DEVELOPMENT, "HOST": "10.0.0.7"}).startswith("HOST must be 127.0.0.1")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "65536"),
        ("PER_MINUTE_RATE", "a nickel"),
        ("PER_MINUTE_RATE", "NaN"),
        ("PER_MINUTE_RATE", "0.0000001"),
        ("MONTHLY_BASE", "4.999"),
        ("MAX_CONCURRENT_CALLS", "-1"),
        ("LOGINS_PER_ADDRESS", "0"),
    ],
)
def test_numbers_are_numbers(name: str, value: str) -> None:
    line = refusal({**DEVELOPMENT, name: value})
    assert line.startswith(f"{name} must be a ")
    assert repr(value) in line


def test_a_key_is_not_repeated() -> None:
    key = "rk_live_0123456789abcdefghijklmn"
    assert key not in refusal({**PRODUCTION, "STRIPE_SECRET_KEY": key})


def test_one_problem_is_one_line() -> None:
    environment = {key: value for key, value in PRODUCTION.items() if key != "SECRET_KEY"}
    [line] = ending(environment, "manage.py", "check")
    assert line.startswith("SECRET_KEY is not set. Set it to 50 random characters or more")


def test_the_sandbox_never_runs_beside_a_live_key() -> None:
    live = {**DEVELOPMENT, "STRIPE_SECRET_KEY": PRODUCTION["STRIPE_SECRET_KEY"]}
    assert "SANDBOX" in refusal({**live, "SANDBOX": "1"})
    script = "from config import settings; print(settings.SANDBOX, settings.STRIPE_SANDBOX)"
    assert run("-c", script, environment=live).stdout == "False False\n"


def test_a_worker_is_none_of_gunicorns() -> None:
    command = ("-m", "gunicorn", "--config=config/gunicorn.conf.py")
    [line] = ending({**PRODUCTION, "PROCESS": "worker"}, *command)
    assert line.startswith("PROCESS must be web or engine")


def test_a_deployment_without_static_files_is_noticed() -> None:
    nowhere = {**PRODUCTION, "STATIC_ROOT": "/nowhere"}
    [line] = ending(nowhere, "-m", "gunicorn", "--config=config/gunicorn.conf.py")
    assert line.startswith("There are no static files in /nowhere.")
    ended = run("manage.py", "check", "--deploy", environment=nowhere)
    assert "(switchhook.W001) There are no static files in /nowhere." in ended.stderr


class TestEncryption:
    """In production plain HTTP is sent to HTTPS, but for the health checks."""

    @pytest.fixture(autouse=True)
    def as_in_production(self, settings: pytest.FixtureRequest) -> None:
        settings.SECURE_SSL_REDIRECT = True  # type: ignore[attr-defined]

    def test_it_works(self, client: Client) -> None:
        response = client.get("/admin/login/?next=/")
        assert response.status_code == 301
        assert response["Location"].startswith("https://")

    def test_the_proxy_says_that_it_was_encrypted(self, client: Client) -> None:
        response = client.get("/livez", headers={"X-Forwarded-Proto": "https"})
        assert response.status_code == 200

    def test_health_checks_come_unencrypted(self, client: Client) -> None:
        assert client.get("/livez").status_code == 200
