"""The guide lists every environment variable that the code reads, and no other."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from config.tests.test_settings import refusal
from docs.env_example import ENV_EXAMPLE, SOURCE, env_example
from docs.guides import FOLDER
from docs.tests.test_guides import codes, rows

ROOT = Path(__file__).resolve().parents[2]

_VARIABLE = re.compile(
    r"""(?:env\.\w+|environ\.get|_number|_flag|_link|_address|_own_address)\(\s*"([A-Z_]+)\"""",
    re.VERBOSE,
)
# Of no interest to operators.
_INTERNAL = {"DJANGO_SETTINGS_MODULE", "NO_COLOR", "ATTACK_INSTEAD"}
# gunicorn reads it.
_OF_LIBRARIES = {"WEB_CONCURRENCY"}


def sources(*folders: str) -> Iterator[str]:
    for path in chain.from_iterable((ROOT / folder).rglob("*.py") for folder in folders):
        if "tests" not in path.parts:
            yield path.read_text(encoding="utf-8")


def test_every_variable_is_listed() -> None:
    read = {
        name
        for source in sources("config", "core", "devtools", "sandbox")
        for name in _VARIABLE.findall(source)
    }
    listed = [name for cell in rows("environment-variables", "variable") for name in codes(cell)]
    assert len(listed) == len(set(listed))
    assert set(listed) == read - _INTERNAL | _OF_LIBRARIES | variables_of_compose()


def variables_of_compose() -> set[str]:
    return set(re.findall(r"\$\{(\w+)", (ROOT / "compose.yaml").read_text(encoding="utf-8")))


class TestExample:
    """``.env.example``."""

    def test_it_is_up_to_date(self) -> None:
        written = ENV_EXAMPLE.read_text(encoding="utf-8")
        assert written == env_example((FOLDER / SOURCE).read_text(encoding="utf-8")), (
            "Run: manage.py write_docs"
        )

    def test_it_explains_every_variable_of_production(self) -> None:
        text = ENV_EXAMPLE.read_text(encoding="utf-8")
        explained = re.findall(r"^#?([A-Z][A-Z0-9_]+)=$", text, re.MULTILINE)
        development = {"DEBUG", "SANDBOX", "SANDBOX_PORT", "SANDBOX_WEBHOOK_SECRETS"}
        development |= {"CALLBACK_ALLOW_PRIVATE"}
        listed = {
            name for cell in rows("environment-variables", "variable") for name in codes(cell)
        }
        assert sorted(explained) == sorted(listed - development)
        # A comment stands above each of them.
        assert not re.search(r"^\n#?[A-Z][A-Z0-9_]+=$", text, re.MULTILINE)


class TestNewEnvironment:
    """``bin/new-env``, with Python alone."""

    def make(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-I", "-S", ROOT / "bin" / "new-env", *arguments],
            env={},
            capture_output=True,
            text=True,
        )

    def test_it_needs_nothing_but_a_stripe_key(self, tmp_path: Path) -> None:
        made = self.make("calls.company.com", "--file", tmp_path / "env")
        assert made.returncode == 0, made.stderr
        assert "Set in it: STRIPE_SECRET_KEY, EMAIL_URL." in made.stdout
        assert (tmp_path / "env").stat().st_mode & 0o777 == 0o600
        values = variables(tmp_path / "env")
        assert values["PUBLIC_URL"] == "https://calls.company.com"
        assert refusal(values).startswith("STRIPE_SECRET_KEY must be a secret key from Stripe")

    def test_a_database_on_the_same_machine_needs_no_password(self, tmp_path: Path) -> None:
        path = tmp_path / "env"
        self.make("calls.company.com", "--database", "/run/postgresql", "--file", path)
        values = variables(path)
        assert values["DATABASE_URL"] == "postgresql://switchhook@/switchhook?host=/run/postgresql"
        assert refusal(values).startswith("STRIPE_SECRET_KEY must")

    def test_its_secrets_are_its_own(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            self.make("calls.company.com", "--file", tmp_path / name)
        one, other = variables(tmp_path / "a"), variables(tmp_path / "b")
        assert {name for name in one if one[name] != other[name]} == {
            "SECRET_KEY",
            "DATABASE_URL",
            "POSTGRES_PASSWORD",
            "GRAFANA_PASSWORD",
        }
        assert f":{one['POSTGRES_PASSWORD']}@postgres:5432/" in one["DATABASE_URL"]

    def test_it_overwrites_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "env"
        path.write_text("mine")
        refused = self.make("calls.company.com", "--file", path)
        assert refused.returncode == 1
        assert "File exists. Nothing was written." in refused.stderr
        assert path.read_text() == "mine"

    @pytest.mark.parametrize("domain", ["https://calls.company.com", "a b", "", "x\nDEBUG=1"])
    def test_it_takes_host_names_only(self, tmp_path: Path, domain: str) -> None:
        refused = self.make(domain, "--file", tmp_path / "env")
        assert refused.returncode == 2
        assert not (tmp_path / "env").exists()


def variables(path: Path) -> dict[str, str]:
    found = re.findall(r"^(\w+)=(.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return dict(found)
