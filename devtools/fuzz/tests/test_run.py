"""``bin/fuzz`` around Schemathesis: its options, and its exit status."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from devtools.fuzz import run
from devtools.fuzz.customers import CUSTOMER, STRANGER, write_credentials


def operation(schema: dict[str, Any]) -> dict[str, Any]:
    answer = {"description": "", "content": {"application/json": {"schema": schema}}}
    return {"get": {"responses": {"200": answer}, "security": [{"bearer": []}]}}


FAULTY = {
    "openapi": "3.1.0",
    "info": {"title": "A product that does not do as it says", "version": "1"},
    "paths": {
        "/api/fails": operation({}),
        "/api/has-another-status": operation({}),
        "/api/has-another-shape": operation({"type": "object"}),
        "/api/is-open-to-all": operation({}),
    },
    "components": {"securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
}


class Faulty(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        match self.path:
            case "/api/schema":
                self._answer(200, FAULTY)
            case "/api/is-open-to-all":
                self._answer(200, {})
            case _ if not self.headers.get("Authorization"):
                self._answer(401, {})
            case "/api/fails":
                self._answer(500, {})
            case "/api/has-another-status":
                self._answer(418, {})
            case "/api/has-another-shape":
                self._answer(200, [])
            case _:
                self._answer(404, {})

    def _answer(self, status: int, body: Any) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        with suppress(BrokenPipeError):
            self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def faulty() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Faulty) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_every_kind_of_fault_fails_the_run(faulty: str, tmp_path: Path) -> None:
    write_credentials(tmp_path / "credentials.json", {CUSTOMER: "one", STRANGER: "another"})
    ended = subprocess.run(
        run.schemathesis(faulty, tmp_path, examples=1, seed=1),
        cwd=Path(run.__file__).parents[2],
        env={
            "PATH": os.environ["PATH"],
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "FUZZ_CREDENTIALS": str(tmp_path / "credentials.json"),
        },
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    report = json.loads((tmp_path / run.REPORT).read_text())
    found = {failure["type"] for failure in report["failures"]}
    assert {"ServerError", "UndefinedStatusCode", "JsonSchemaError", "IgnoredAuth"} <= found
    assert run.requests_sent(tmp_path) > 4


@pytest.mark.parametrize(
    ("arguments", "requests", "seed", "others"),
    [
        ([], 5000, None, []),
        (["--short"], 700, 1, []),
        (["--short", "--seed", "2"], 700, 2, []),
        (["--requests", "9", "--workers=2"], 9, None, ["--workers=2"]),
    ],
)
def test_options(arguments: list[str], requests: int, seed: int | None, others: list[str]) -> None:
    options = run.parse(arguments)
    assert (options.requests, options.seed, options.others) == (requests, seed, others)


def test_at_least_one_request_is_required() -> None:
    with pytest.raises(SystemExit):
        run.parse(["--requests", "0"])


@pytest.mark.parametrize("requests", [700, 5000, 12_345])
def test_so_many_examples_are_enough(requests: int) -> None:
    examples = run.examples_for(requests, operations=23)
    assert run.SYSTEMATIC_REQUESTS + 0.9 * 23 * examples >= requests


def test_there_is_an_example_at_least() -> None:
    assert run.examples_for(1, operations=23) == 1
