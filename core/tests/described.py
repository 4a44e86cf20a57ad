"""Checks real bodies against ``docs/openapi.yaml``."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from core.schema import document

JSON = "application/json"


def assert_described(body: Any, operation_id: str, status: int) -> None:
    """The document lists the status for the operation, and the body has its shape: no field more,
    none less.
    """
    pointer = [*_operation(operation_id), "responses", str(status)]
    response = _at(pointer)
    if "$ref" in response:
        pointer = response["$ref"].removeprefix("#/").split("/")
    _validate(body, [*pointer, "content", JSON, "schema"])


def assert_is(body: Any, schema: str) -> None:
    """The body has the shape of a schema of the document's: no field more, none less."""
    _validate(body, ["components", "schemas", schema])


def answers_of(operation_id: str) -> dict[str, Any]:
    """Return an operation's responses by status, references resolved."""
    responses = _at([*_operation(operation_id), "responses"])
    return {
        status: _at(response["$ref"].removeprefix("#/").split("/"))
        if "$ref" in response
        else response
        for status, response in responses.items()
    }


def validator(pointer: list[str], *, strict: bool) -> Draft202012Validator:
    """Return the judge of a schema in the document; a strict one allows no unknown field."""
    reference = "#/" + "/".join(part.replace("~", "~0").replace("/", "~1") for part in pointer)
    root = _closed() if strict else document()
    return Draft202012Validator(
        {"$ref": reference, **root}, format_checker=Draft202012Validator.FORMAT_CHECKER
    )


def _validate(body: Any, pointer: list[str]) -> None:
    problems = [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message}"
        for error in validator(pointer, strict=True).iter_errors(body)
    ]
    assert not problems, problems


@cache
def _operation(operation_id: str) -> tuple[str, ...]:
    for part in ("paths", "webhooks"):
        for path, methods in document()[part].items():
            for method, operation in methods.items():
                if operation["operationId"] == operation_id:
                    return part, path, method
    raise LookupError(operation_id)


def _at(pointer: list[str]) -> Any:
    found: Any = document()
    for part in pointer:
        found = found[part]
    return found


@cache
def _closed() -> Mapping[str, Any]:
    """Return the document with every object closed that does not say it is open."""
    closed = copy.deepcopy(document())
    for schema in closed["components"]["schemas"].values():
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
    return closed
