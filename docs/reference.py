"""The API reference: what the OpenAPI document says, in the shape in which the page shows it.

Texts are HTML. The anchor of an operation or callback is its ``operationId``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.utils.html import escape
from django.utils.text import slugify

from core.schema import Json, document
from docs.guides import to_html
from docs.highlighting import highlighted

_KEY = "rtk_…"
_ID = "cmnp2a0c100037h3zv5j9e8ub"


@dataclass(frozen=True, slots=True)
class Field:
    """A parameter, header, property or alternative. ``facts`` are its limits and values."""

    name: str
    type: str
    is_required: bool = False
    description: str = ""
    facts: tuple[str, ...] = ()
    fields: tuple[Field, ...] = ()


@dataclass(frozen=True, slots=True)
class Example:
    """``name`` is unique on the page; ``title`` is empty if there is only one."""

    name: str
    title: str
    code: str


@dataclass(frozen=True, slots=True)
class Body:
    """What a request or a response contains: one ``Field`` without a name."""

    media: tuple[str, ...]
    content: Field
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Response:
    """``anchor`` is set if several operations have this response: it is described there."""

    status: str
    phrase: str
    description: str = ""
    headers: tuple[Field, ...] = ()
    body: Body | None = None
    anchor: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    id: str
    method: str
    path: str
    summary: str
    description: str
    is_signed_in: bool
    parameters: Mapping[str, Sequence[Field]]  # by where they are: path, query, header
    request: Body | None
    responses: tuple[Response, ...]
    errors: tuple[Response, ...]
    shared_errors: tuple[Response, ...]
    sample: Example | None


@dataclass(frozen=True, slots=True)
class Group:
    name: str
    description: str
    operations: tuple[Operation, ...]

    @property
    def anchor(self) -> str:
        return slugify(self.name)


@dataclass(frozen=True, slots=True)
class Reference:
    introduction: str
    groups: tuple[Group, ...]
    errors: tuple[Response, ...]
    error: Field
    objects: tuple[Field, ...]


def reference() -> Reference:
    """Return the reference with the addresses of this installation."""
    return _reference(settings.PUBLIC_URL)


@lru_cache(maxsize=2)
def _reference(public_url: str) -> Reference:
    return _Reader(document(), public_url).read()


class _Reader:
    """Reads a document."""

    def __init__(self, doc: Json, public_url: str) -> None:
        self._doc, self._public_url = doc, public_url
        self._schemas: Json = doc["components"]["schemas"]
        self._shared = frozenset(_shared_objects(doc))

    def read(self) -> Reference:
        shared = self._doc["components"]["responses"]
        return Reference(
            introduction=to_html(self._doc["info"]["description"]),
            groups=(*self._groups(), self._callbacks()),
            errors=tuple(
                sorted(
                    (
                        self._response(f"error-{name}", _status_of(name, self._doc), each)
                        for name, each in shared.items()
                    ),
                    key=lambda response: response.status,
                )
            ),
            error=self._field("Error", self._schemas["Error"]),
            objects=tuple(self._field(name, self._schemas[name]) for name in sorted(self._shared)),
        )

    def _groups(self) -> Iterator[Group]:
        for tag in self._doc["tags"]:
            found = tuple(
                self._operation(method, path, operation)
                for path, methods in self._doc["paths"].items()
                for method, operation in methods.items()
                if operation["tags"] == [tag["name"]]
            )
            yield Group(tag["name"], to_html(tag["description"]), found)

    def _callbacks(self) -> Group:
        found = tuple(
            self._operation("post", f"{name}Url", webhook["post"])
            for name, webhook in self._doc["webhooks"].items()
        )
        return Group("Callbacks", "<p>Requests that Switchhook sends to your backend.</p>", found)

    def _operation(self, method: str, path: str, operation: Json) -> Operation:
        id = operation["operationId"]
        responses = {
            status: self._response(f"{id}-{status}", status, response)
            for status, response in operation["responses"].items()
        }
        is_ours = path.startswith("/")
        errors = {status: each for status, each in responses.items() if is_ours and status >= "400"}
        request = self._body(f"{id}-request", operation.get("requestBody", {}))
        return Operation(
            id=id,
            method=method.upper(),
            path=path,
            summary=operation["summary"],
            description=to_html(operation.get("description", "")),
            is_signed_in=bool(operation.get("security", [{}])[0]),
            parameters=self._parameters(operation.get("parameters", [])),
            request=request,
            responses=tuple(each for status, each in responses.items() if status not in errors),
            errors=tuple(each for each in errors.values() if not each.anchor),
            shared_errors=tuple(each for each in errors.values() if each.anchor),
            sample=self._sample(method, path, operation) if is_ours else None,
        )

    def _parameters(self, parameters: Iterable[Json]) -> Mapping[str, Sequence[Field]]:
        found: dict[str, list[Field]] = {}
        for each in parameters:
            parameter = self._resolved(each)
            schema = parameter["schema"] | {"description": parameter.get("description", "")}
            is_required = parameter.get("required", False)
            shown = self._field(parameter["name"], schema, is_required=is_required)
            found.setdefault(parameter["in"], []).append(shown)
        return found

    def _response(self, name: str, status: str, response: Json) -> Response:
        phrase = HTTPStatus(int(status)).phrase if status.isdigit() else ""
        if "$ref" in response and not name.startswith("error-"):
            return Response(status, phrase, anchor=f"error-{status}")
        headers = tuple(
            self._field(header, resolved["schema"] | {"description": resolved["description"]})
            for header, resolved in (
                (header, self._resolved(each))
                for header, each in response.get("headers", {}).items()
            )
            if header != "X-Request-Id"  # every response has it: the introduction says so
        )
        description = to_html(response["description"])
        return Response(status, phrase, description, headers, self._body(name, response))

    def _body(self, name: str, holder: Json) -> Body | None:
        if not (content := holder.get("content")):
            return None
        media = next(iter(content.values()))
        return Body(
            media=tuple(content),
            content=self._field("", media["schema"]),
            examples=tuple(_examples(name, media)),
        )

    def _sample(self, method: str, path: str, operation: Json) -> Example:
        """Return the operation as a curl command."""
        url = f"{self._public_url}{path.replace('{id}', _ID)}"
        content = operation.get("requestBody", {}).get("content", {})
        lines = [f"curl {url}"]
        if method != "get" and not (method == "post" and content):
            lines = [f"curl -X {method.upper()} {url}"]
        if operation.get("security", [{}])[0]:
            lines.append(f'-H "Authorization: Bearer {_KEY}"')
        if content:
            example = json.dumps(
                content["application/json"]["example"], indent=2, ensure_ascii=False
            )
            quoted = example.replace("'", "'\\''")
            lines += ["-H 'Content-Type: application/json'", f"-d '{quoted}'"]
        code = " \\\n  ".join(lines)
        return Example(f"{operation['operationId']}: curl", "", highlighted(code, "sh"))

    # Schemas

    def _resolved(self, schema: Json) -> Json:
        """Return what a reference points to, with what is added to it, and an ``allOf`` as one."""
        if "$ref" in schema:
            target: Any = self._doc
            for part in schema["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            return self._resolved(target) | {key: schema[key] for key in schema if key != "$ref"}
        if "allOf" in schema:
            whole: Json = {}
            for part in schema["allOf"]:
                whole |= self._resolved(part)
            return whole | {key: schema[key] for key in schema if key != "allOf"}
        return schema

    def _field(self, name: str, schema: Json, *, is_required: bool = False) -> Field:
        resolved = self._resolved(schema)
        return Field(
            name=name,
            type=self._type(schema),
            is_required=is_required,
            description=to_html(resolved.get("description", "")),
            facts=tuple(_facts(resolved)) + tuple(self._facts_of_parts(resolved)),
            fields=tuple(self._fields(schema)),
        )

    def _type(self, schema: Json) -> str:
        """Return the type in words, with a link to an object that is described elsewhere."""
        if name := self._shared_name(schema):
            return f'<a href="#object-{name}">{name}</a>'
        resolved = self._resolved(schema)
        if options := resolved.get("anyOf") or resolved.get("oneOf"):
            return " or ".join(dict.fromkeys(self._type(option) for option in options))
        kind = resolved.get("type") or _type_of_values(resolved)
        words = [kind] if isinstance(kind, str) else kind
        if "items" in resolved:
            words = [
                f"array of {self._type(resolved['items'])}" if each == "array" else each
                for each in words
            ]
        return " or ".join(words)

    def _fields(self, schema: Json) -> Iterator[Field]:
        if self._shared_name(schema):
            return
        resolved = self._resolved(schema)
        required = resolved.get("required", [])
        for name, each in resolved.get("properties", {}).items():
            yield self._field(name, each, is_required=name in required)
        if "items" in resolved:
            yield from self._fields(resolved["items"])
        options = resolved.get("anyOf") or resolved.get("oneOf") or []
        with_fields = [option for option in options if any(True for _ in self._fields(option))]
        for option in with_fields:
            if len(with_fields) == 1:
                yield from self._fields(option)
            else:
                title = option.get("$ref", "").rpartition("/")[2]
                yield self._field(title, option)

    def _facts_of_parts(self, schema: Json) -> Iterator[str]:
        """Yield the limits of an array's items and of an object's values, which have no name."""
        if isinstance(values := schema.get("additionalProperties"), dict) and values:
            yield f"Values: {self._type(values)}"
        items = schema.get("items")
        if items and not self._shared_name(items):
            for fact in _facts(self._resolved(items)):
                yield f"Each: {fact}"
        for option in schema.get("anyOf", []) + schema.get("oneOf", []):
            if not self._shared_name(option):
                yield from _facts(self._resolved(option))

    def _shared_name(self, schema: Json) -> str:
        name: str = schema.get("$ref", "").rpartition("/")[2]
        return name if name in self._shared else ""


def _shared_objects(doc: Json) -> Iterator[str]:
    """Yield the names of objects that several others contain; "Error" has its own chapter."""
    uses = Counter(_references(doc))
    for name, schema in doc["components"]["schemas"].items():
        is_used = uses[f"#/components/schemas/{name}"] > 1
        if name != "Error" and is_used and len(schema.get("properties", {})) > 1:
            yield name


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(target := node.get("$ref"), str):
            yield target
        for each in node.values():
            yield from _references(each)
    elif isinstance(node, list):
        for each in node:
            yield from _references(each)


def _status_of(name: str, doc: Json) -> str:
    """Return the status with which operations use a shared response."""
    target = f"#/components/responses/{name}"
    return next(
        status
        for methods in doc["paths"].values()
        for operation in methods.values()
        for status, response in operation["responses"].items()
        if response.get("$ref") == target
    )


def _type_of_values(schema: Json) -> str:
    values = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
    if values:
        return {bool: "boolean", int: "integer"}.get(type(values[0]), "string")
    return "object" if "properties" in schema else "any JSON"


def _facts(schema: Json) -> Iterator[str]:
    """Yield a schema's limits and values, as HTML."""
    if "enum" in schema:
        yield f"One of {', '.join(_code(value) for value in schema['enum'])}"
    if "const" in schema:
        yield f"Always {_code(schema['const'])}"
    if schema.get("format"):
        yield f"Format: {escape(schema['format'])}"
    if schema.get("default") is not None:
        yield f"Default: {_code(schema['default'])}"
    yield from _range("", schema.get("minimum"), schema.get("maximum"))
    yield from _range(" characters", schema.get("minLength"), schema.get("maxLength"))
    yield from _range(" items", schema.get("minItems"), schema.get("maxItems"))
    if "pattern" in schema:
        yield f"Pattern: {_code(schema['pattern'])}"
    if "examples" in schema:
        yield f"Example: {', '.join(_code(value) for value in schema['examples'])}"
    if schema.get("not") == {}:
        yield "It cannot be changed: omit it."
    if "if" in schema:
        given = ", ".join(map(_code, schema["if"]["required"]))
        needed = " and ".join(map(_code, schema["then"]["required"]))
        yield f"With {given}, {needed} must be present."


def _range(what: str, least: Any, most: Any) -> Iterator[str]:
    if least is not None and most is not None:
        yield f"{least} to {most}{what}" if least != most else f"{least}{what}"
    elif least is not None:
        yield f"At least {least}{what}"
    elif most is not None:
        yield f"At most {most}{what}"


def _code(value: Any) -> str:
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"<code>{escape(shown) or '&quot;&quot;'}</code>"


def _examples(name: str, media: Json) -> Iterator[Example]:
    found = {title: each["value"] for title, each in media.get("examples", {}).items()}
    if "example" in media:
        found = {"": media["example"]}
    for title, value in found.items():
        code = json.dumps(value, indent=2, ensure_ascii=False)
        yield Example(f"{name}: {title or 'example'}", title, highlighted(code, "json"))
