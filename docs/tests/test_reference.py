"""The API reference contains all that the OpenAPI document says."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import yaml
from django.contrib.staticfiles import finders
from django.test import Client
from pytest_django import Settings

from core.schema import document

OPERATIONS = {
    operation["operationId"]: (method.upper(), path, operation)
    for path, methods in document()["paths"].items()
    for method, operation in methods.items()
}
CALLBACKS = {name: webhook["post"] for name, webhook in document()["webhooks"].items()}
EVERYTHING = {**{id: each for id, (*_, each) in OPERATIONS.items()}, **CALLBACKS}
# A page with all that it loads may have this many bytes, without compression.
LARGEST = 400_000

pytestmark = pytest.mark.django_db


def get() -> str:
    response = Client().get("/docs/api")
    assert response.status_code == 200
    return response.content.decode()


@cache
def sections() -> dict[str, str]:
    """Return the HTML of each operation, callback, error and object, by its id."""
    parts = re.split(r'<section (?=[^>]*class="operation"|[^>]*class="group")', get())
    found = {}
    for part in parts[1:]:
        opening, _, content = part.partition(">")
        if identified := re.search(r'\bid="([^"]+)"', opening):
            found[identified[1]] = content
    return found


def with_objects(text: str) -> str:
    """Return a section with those of the objects to which it links, directly or not."""
    seen: set[str] = set()
    todo = [text]
    while todo:
        names = set(re.findall(r'href="#(object-\w+)"', todo.pop())) - seen
        seen |= names
        todo += [sections()[name] for name in names]
    return text + "".join(sections()[name] for name in sorted(seen))


def resolved(node: Any) -> Any:
    while isinstance(node, dict) and "$ref" in node:
        target: Any = document()
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target | {key: node[key] for key in node if key != "$ref"}
    return node


def schemas_in(node: Any) -> Iterator[dict[str, Any]]:
    """Yield a schema and all that it contains."""
    schema = resolved(node)
    yield schema
    for key in ("anyOf", "oneOf", "allOf"):
        for each in schema.get(key, []):
            yield from schemas_in(each)
    for each in schema.get("properties", {}).values():
        yield from schemas_in(each)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from schemas_in(schema[key])


def bodies(operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the contents of the request and of the responses that are not errors."""
    holders = [operation.get("requestBody", {})]
    holders += [
        resolved(response)
        for status, response in operation["responses"].items()
        if status < "400" or operation["operationId"] in CALLBACKS
    ]
    for holder in holders:
        yield from holder.get("content", {}).values()


def shows(text: str, value: object) -> bool:
    shown = value if isinstance(value, str) else json.dumps(value)
    return f"<code>{html.escape(shown)}</code>" in text


@pytest.mark.parametrize("id", OPERATIONS)
def test_each_operation_has_a_section(id: str) -> None:
    method, path, operation = OPERATIONS[id]
    text = sections()[id]
    assert f">{method}</b> <code>{path}</code>" in text
    assert html.escape(operation["summary"], quote=False) in html.unescape(text)
    assert f'href="#{id}"' in get()


@pytest.mark.parametrize("id", EVERYTHING)
def test_each_parameter_is_there(id: str) -> None:
    for each in EVERYTHING[id].get("parameters", []):
        parameter = resolved(each)
        assert shows(sections()[id], parameter["name"])
        for value in parameter["schema"].get("enum", []):
            assert shows(sections()[id], value)


@pytest.mark.parametrize("id", EVERYTHING)
def test_each_property_and_value_is_there(id: str) -> None:
    text = with_objects(sections()[id])
    for media in bodies(EVERYTHING[id]):
        for schema in schemas_in(media["schema"]):
            for name in schema.get("properties", {}):
                assert shows(text, name), name
            for value in schema.get("enum", []):
                assert shows(text, value), value
            for key in ("pattern", "default", "const"):
                if schema.get(key) is not None:
                    assert shows(text, schema[key]), schema[key]


@pytest.mark.parametrize("id", EVERYTHING)
def test_each_status_and_code_is_there(id: str) -> None:
    text = sections()[id]
    for status, response in EVERYTHING[id]["responses"].items():
        is_shared = "$ref" in response
        described = sections()[f"error-{status}"] if is_shared else text
        shown = f"<b>{status}</b>" if is_shared else rf">{status}\b"
        assert re.search(shown, text)
        for media in resolved(response).get("content", {}).values():
            if status >= "400" and id in OPERATIONS:
                for code in resolved(media["schema"])["properties"]["code"]["enum"]:
                    assert shows(described, code), code


@pytest.mark.parametrize("id", EVERYTHING)
def test_each_example_is_there(id: str) -> None:
    text = re.sub(r"</?span[^>]*>", "", sections()[id]).replace("'\\''", "'")
    for media in bodies(EVERYTHING[id]):
        values = [each["value"] for each in media.get("examples", {}).values()]
        for value in values + ([media["example"]] if "example" in media else []):
            shown = json.dumps(value, indent=2, ensure_ascii=False)
            assert shown in html.unescape(text)


def test_each_schema_is_used_somewhere() -> None:
    text = get()
    for name, schema in document()["components"]["schemas"].items():
        for each in schemas_in(schema):
            for property in each.get("properties", {}):
                assert shows(text, property), (name, property)


def test_ids_and_names_of_regions_are_unique() -> None:
    text = get()
    for pattern in (r'\bid="([^"]+)"', r'role="region" aria-label="([^"]+)"'):
        found = re.findall(pattern, text)
        assert len(found) == len(set(found))


def test_the_document_can_be_downloaded() -> None:
    for format, read in (("yaml", yaml.safe_load), ("json", json.loads)):
        assert f'href="/api/schema?format={format}" download=' in get()
        assert read(Client().get(f"/api/schema?format={format}").content) == document()


def test_it_is_small() -> None:
    text = get()
    size = len(text.encode())
    for address in re.findall(r'<(?:link|script|img)[^>]*(?:href|src)="/static/([^"]+)"', text):
        path = finders.find(address)
        assert isinstance(path, str)
        with open(path, "rb") as file:
            size += len(file.read())
    assert size < LARGEST


class TestSamples:
    @pytest.mark.parametrize("id", OPERATIONS)
    def test_its_curl_command_sends_what_it_should(self, id: str, settings: Settings) -> None:
        """Bash splits the command as a reader's shell does; curl is not run."""
        method, path, operation = OPERATIONS[id]
        words = in_bash(sample(id))
        assert words[0] == "curl"
        options = dict(pairwise(words))
        (url,) = [word for word in words if word.startswith(settings.PUBLIC_URL)]
        assert re.fullmatch(
            re.sub(r"\{\w+\}", r"\\w+", path), url.removeprefix(settings.PUBLIC_URL)
        )
        sent = options.get("-X") or ("POST" if "-d" in words else "GET")
        assert sent == method
        assert ("Authorization: Bearer rtk_…" in words) == bool(operation["security"][0])
        if "requestBody" in operation:
            example = operation["requestBody"]["content"]["application/json"]["example"]
            assert json.loads(options["-d"]) == example
            assert "Content-Type: application/json" in words
        else:
            assert "-d" not in words


def sample(id: str) -> str:
    (code,) = re.findall(rf'aria-label="{id}: curl"><code>(.*?)</code>', sections()[id], re.DOTALL)
    return html.unescape(re.sub(r"</?span[^>]*>", "", code))


def in_bash(command: str) -> list[str]:
    bash = shutil.which("bash")
    assert bash
    script = f"curl() {{ printf '%s\\0' curl \"$@\"; }}\n{command}"
    output = subprocess.check_output([bash, "-c", script], text=True)
    return output.rstrip("\0").split("\0")
