"""Static files as production serves them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from django.contrib.staticfiles.storage import staticfiles_storage
from django.http import HttpResponseBase
from django.test import Client, override_settings

from core.static_files import fault_of_static_files
from devtools.collected import collected_static_files
from devtools.processes import ROOT

pytestmark = pytest.mark.django_db

YEAR = "max-age=315360000, public, immutable"


@pytest.fixture
def production() -> Iterator[Client]:
    with override_settings(
        DEBUG=False,
        STATIC_ROOT=str(collected_static_files(ROOT / ".local")),
        STORAGES={"staticfiles": {"BACKEND": "core.static_files.HashedFiles"}},
        WHITENOISE_AUTOREFRESH=False,
        WHITENOISE_USE_FINDERS=False,
    ):
        yield Client()


def body(response: HttpResponseBase) -> bytes:
    with closing(response):
        return b"".join(response)  # type: ignore[call-overload, no-any-return]


def test_every_file_of_a_page_is_kept_for_a_year(production: Client) -> None:
    page = production.get("/docs/api").content.decode()
    addresses = set(re.findall(r'(?:href|src)="(/static/[^"]+)"', page))
    assert len(addresses) >= 5
    for address in addresses:
        assert re.search(r"\.[0-9a-f]{12}\.\w+$", address)
        response = production.get(address)
        assert body(response)
        assert response["Cache-Control"] == YEAR


def test_compressed(production: Client) -> None:
    address = staticfiles_storage.url("dashboard.css")
    packed = production.get(address, headers={"Accept-Encoding": "br, gzip"})
    plain = production.get(address)
    assert packed["Content-Encoding"] == "gzip"
    assert len(body(packed)) < len(body(plain)) / 3
    assert packed["Vary"] == "Accept-Encoding"


@pytest.mark.parametrize("name", ["dashboard.0123456789ab.css", "dashboard.css"])
def test_a_page_of_another_version_gets_the_current_file_for_a_minute(
    production: Client, name: str
) -> None:
    response = production.get(f"/static/{name}")
    assert body(response) == body(production.get(staticfiles_storage.url("dashboard.css")))
    assert response["Cache-Control"] == "max-age=60, public"


@pytest.mark.parametrize("name", ["no.0123456789ab.css", "no.css", "sources/../no", "", "."])
def test_no_such_file(production: Client, name: str) -> None:
    assert production.get(f"/static/{name}").status_code == 404


def test_nothing_is_wrong(production: Client) -> None:
    assert fault_of_static_files() == ""


def test_none_were_collected(production: Client, tmp_path: Path) -> None:
    with override_settings(STATIC_ROOT=str(tmp_path)):
        fault = fault_of_static_files()
    assert fault == (
        f"There are no static files in {tmp_path}. Run: python manage.py collectstatic --noinput"
    )


def test_those_of_another_version(production: Client, tmp_path: Path) -> None:
    (tmp_path / "sources.sha256").write_text("0" * 64)
    with override_settings(STATIC_ROOT=str(tmp_path)):
        assert "are from another version." in fault_of_static_files()


def test_development_collects_nothing() -> None:
    with override_settings(DEBUG=True, STATIC_ROOT="/nowhere"):
        assert fault_of_static_files() == ""
