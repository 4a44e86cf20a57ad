"""The OpenAPI document: up to date, valid, complete, and served."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiYamlRenderer
from openapi_spec_validator import OpenAPIV31SpecValidator
from pytest_django import Settings

from core.openapi import EXAMPLES
from core.schema import DOCUMENT, document, operations
from core.tests.described import JSON, answers_of, validator

ROOT = Path(__file__).resolve().parents[2]
APPS = ("accounts", "billing", "core", "telephony", "usage")
OPERATIONS = {operation["operationId"]: operation for operation in operations(document())}
ENDPOINTS = {
    operation["operationId"]: (method, path, operation)
    for path, methods in document()["paths"].items()
    for method, operation in methods.items()
}
# What any path can be answered, whatever is described for it: see docs/openapi/introduction.md.
OF_EVERY_PATH = {"bad_request", "method_not_allowed", "not_found"}


def generated() -> str:
    text: bytes = OpenApiYamlRenderer().render(SchemaGenerator().get_schema(public=True))
    return text.decode()


def test_the_document_is_up_to_date() -> None:
    assert generated() == DOCUMENT.read_text(encoding="utf-8"), (
        "Write it anew: manage.py write_docs"
    )
    assert not GENERATOR_STATS, "drf-spectacular has warned about a view."


def test_it_depends_on_no_setting(settings: Settings) -> None:
    settings.DEBUG = False
    settings.PUBLIC_URL = settings.ENGINE_URL = "https://elsewhere.example"
    settings.MONTHLY_BASE = settings.PER_MINUTE_RATE = Decimal("77.77")
    settings.ALLOWED_COUNTRIES = ["GB"]
    settings.CALLBACK_ALLOW_PRIVATE = False
    assert generated() == DOCUMENT.read_text(encoding="utf-8")


def test_it_is_valid_openapi() -> None:
    assert document()["openapi"].startswith("3.1")
    problems = [error.message for error in OpenAPIV31SpecValidator(document()).iter_errors()]
    assert not problems


def test_it_describes_every_endpoint_and_no_other() -> None:
    served = {
        re.sub(r"<(?:\w+:)?(\w+)>|\(\?P<(\w+)>[^)]*\)", "{id}", route)
        for route in _routes(get_resolver().url_patterns, "/")
        if route.startswith("/api/")
    }
    assert served == set(document()["paths"])


def _routes(patterns: list[Any], prefix: str) -> Iterator[str]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern).removeprefix("^").removesuffix("$")
        if isinstance(pattern, URLResolver):
            yield from _routes(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern) and hasattr(pattern.callback, "cls"):
            yield route


def test_operations_have_names_that_become_functions() -> None:
    assert all(re.fullmatch(r"[a-z][A-Za-z]+", name) for name in OPERATIONS)
    assert all(operation["summary"] for operation in OPERATIONS.values())


# Without an id, and not always there.
MAY_BE_MISSING = {"getSchema", "getUpcomingInvoice"}


@pytest.mark.parametrize("name", ENDPOINTS)
def test_what_holds_for_every_answer(name: str) -> None:
    _, path, operation = ENDPOINTS[name]
    answers = answers_of(name)
    assert all("X-Request-Id" in answer["headers"] for answer in answers.values())
    assert {"406", "500"} <= set(answers)
    assert ("401" in answers) or operation["security"] == [{}]
    assert ("404" in answers) == ("{" in path or name in MAY_BE_MISSING)
    assert "requestBody" not in operation or {"400", "411", "415"} <= set(answers)
    if "401" in answers:
        assert answers["401"]["headers"]["WWW-Authenticate"]
    for status, answer in answers.items():
        schema = answer["content"][JSON]["schema"]
        is_error = schema.get("$ref") == "#/components/schemas/Error"
        assert is_error == (status >= "400")
        assert not is_error or schema["properties"]["code"]["enum"]


@pytest.mark.parametrize("name", ["register", "logIn"])
def test_who_is_throttled_learns_for_how_long(name: str) -> None:
    assert "Retry-After" in answers_of(name)["429"]["headers"]


def test_a_call_may_be_placed_with_an_idempotency_key() -> None:
    parameters = {each["name"]: each["in"] for each in OPERATIONS["placeCall"]["parameters"]}
    assert parameters == {"Idempotency-Key": "header"}
    assert "Idempotent-Replayed" in answers_of("placeCall")["201"]["headers"]


def test_every_answer_has_all_its_fields() -> None:
    schemas = document()["components"]["schemas"]
    answers = {
        schema["$ref"].rpartition("/")[2]
        for name in ENDPOINTS
        for status, answer in answers_of(name).items()
        if status < "400" and "$ref" in (schema := answer["content"][JSON]["schema"])
    }
    for name in _with_all_within(answers, schemas):
        assert set(schemas[name]["required"]) == set(schemas[name]["properties"]), name


def _with_all_within(names: set[str], schemas: dict[str, Any]) -> set[str]:
    """Return the names of the objects, and of those that they refer to."""
    referred = re.findall(
        r'"#/components/schemas/(\w+)"', json.dumps([schemas[name] for name in names])
    )
    objects = {name for name in referred if "properties" in schemas[name]}
    return names if objects <= names else _with_all_within(names | objects, schemas)


def test_every_error_code_is_described() -> None:
    made = {code for tree in _sources() for code in _codes_in(tree)}
    of_pages = {"link_expired", "link_invalid", "wrong_password"}
    of_pages |= {"second_factor_exists", "too_many_passkeys"}
    of_pages |= {"no_second_factor", "last_second_factor"}
    undescribed = made - _described_codes() - OF_EVERY_PATH - of_pages
    assert undescribed == {"forbidden"}  # by no view of ours


def test_every_code_that_is_described_exists() -> None:
    texts = {
        node.value
        for tree in _sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
    }
    assert _described_codes() - texts == {"not_acceptable"}  # Django REST framework's own


def _described_codes() -> set[str]:
    return {
        code
        for name in ENDPOINTS
        for status, answer in answers_of(name).items()
        if status >= "400"
        for code in answer["content"][JSON]["schema"]["properties"]["code"]["enum"]
    }


def _sources() -> Iterator[ast.Module]:
    for app in APPS:
        for path in (ROOT / app).rglob("*.py"):
            if "tests" not in path.parts and path.name not in ("openapi.py", "schema.py"):
                yield ast.parse(path.read_text(encoding="utf-8"))


def _codes_in(tree: ast.Module) -> Iterator[str]:
    """Yield the codes that a module puts into the API's errors."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            position = _POSITION_OF_CODE.get(getattr(node.func, "id", ""), 99)
            if position < len(node.args) and isinstance(node.args[position], ast.Constant):
                yield str(node.args[position].value)
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "_BY_STATUS":
            yield from (code for code, _ in ast.literal_eval(node.value).values())


# By the function that makes an error.
_POSITION_OF_CODE = {"ApiError": 1, "NotPlaced": 2, "invalid": 1, "unauthorized": 0}


def test_every_body_has_an_example() -> None:
    for name, operation in OPERATIONS.items():
        bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
        for body in bodies:
            content = body.get("content", {}).get(JSON)
            if content and name != "getSchema":
                assert "example" in content or "examples" in content, name


def test_every_example_fits() -> None:
    for part in ("paths", "webhooks"):
        for path, methods in document()[part].items():
            for method, operation in methods.items():
                _check_body(operation.get("requestBody"), [part, path, method, "requestBody"])
                for status, answer in operation["responses"].items():
                    _check_body(answer, [part, path, method, "responses", status])
    assert set(yaml.safe_load(EXAMPLES.read_bytes())) == set(OPERATIONS) - {"getSchema"}


def _check_body(body: dict[str, Any] | None, pointer: list[str]) -> None:
    content = (body or {}).get("content", {}).get(JSON, {})
    examples = [each["value"] for each in content.get("examples", {}).values()]
    examples += [content["example"]] if "example" in content else []
    for example in examples:
        strict = validator([*pointer, "content", JSON, "schema"], strict=True)
        assert list(strict.iter_errors(example)) == [], pointer


class TestServed:
    def test_it_works(self) -> None:
        response = Client().get("/api/schema")
        assert response.status_code == 200
        assert response["Content-Type"] == "application/json"
        assert response.json() == document()

    @pytest.mark.parametrize(
        ("accepted", "media_type"),
        [
            ("application/yaml", "application/yaml"),
            ("application/vnd.oai.openapi", "application/vnd.oai.openapi"),
            ("application/vnd.oai.openapi+json", "application/vnd.oai.openapi+json"),
            ("*/*", "application/json"),
        ],
    )
    def test_the_format_that_is_accepted(self, accepted: str, media_type: str) -> None:
        response = Client().get("/api/schema", headers={"accept": accepted})
        assert response["Content-Type"].partition(";")[0] == media_type
        assert yaml.safe_load(response.content) == document()

    def test_as_yaml_it_is_the_file(self) -> None:
        response = Client().get("/api/schema?format=yaml")
        assert response.content == DOCUMENT.read_bytes()

    def test_another_format(self) -> None:
        response = Client().get("/api/schema?format=xml")
        assert (response.status_code, response.json()["code"]) == (404, "not_found")

    def test_nothing_that_is_accepted(self) -> None:
        response = Client().get("/api/schema", headers={"accept": "image/png"})
        assert (response.status_code, response.json()["code"]) == (406, "not_acceptable")

    def test_wrong_credentials_do_not_matter(self) -> None:
        response = Client().get("/api/schema", headers={"authorization": "Bearer rtk_wrong"})
        assert response.status_code == 200
