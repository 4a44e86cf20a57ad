"""Values that a database, a calendar, a stack or a spreadsheet cannot take."""

from __future__ import annotations

from collections.abc import Iterator

# In JSON, as sent.
IN_JSON: dict[str, bytes] = {
    "NUL": b'"a\\u0000b"',
    "a lone surrogate": b'"\\ud800"',
    "control characters": b'"\\u0001\\u0008\\u000b\\u001b[2J\\u007f\\u0085"',
    "line separators": b'"a\\u2028b\\u2029c\\r\\nd"',
    "the last day": b'"9999-12-31"',
    "the last moment": b'"9999-12-31T23:59:59.999999+00:00"',
    "the first day": b'"0001-01-01T00:00:00+14:00"',
    "letters that grow": '"a@\ua7cb.com"'.encode(),
    "letters that change": '"a@\u1c89.com"'.encode(),
    "a long text": b'"' + b"x" * 100_000 + b'"',
    "a deep list": b"[" * 800 + b"]" * 800,
    "a deep object": b'{"a":' * 800 + b"1" + b"}" * 800,
    "a big number": b"1" + b"0" * 400,
    "2^63": b"9223372036854775808",
    "a float": b"1e308",
    "true": b"true",
    "an empty list": b"[]",
    "an object": b'{"$ne":1,"__proto__":{}}',
    "a formula": "\"\uff1dcmd|' /c calc'!A1\"".encode(),
    "a template": b'"{{7*7}}{% debug %}${7*7}%n%s"',
    "markup": b'"\\"><script>alert(1)</script>"',
    "SQL": b'"\' OR 1=1; --"',
    "right to left": '"\u202egnp.exe\u2066"'.encode(),
    "null": b"null",
}
# As text in a form, a query string or a webhook's header.
AS_TEXT: dict[str, str] = {
    "NUL": "a\0b",
    "only NUL": "\0",
    "control characters": "\x01\x08\x0b\x1b[2J\x7f\x85",
    "line breaks": "a\r\nb\nc\u2028d\x0c",
    "the last day": "9999-12-31",
    "the last moment": "9999-12-31T23:59:59.999999Z",
    "the first day": "0001-01-01",
    "no day": "2026-02-30",
    "a year too many": "10000-01-01",
    "letters that grow": "a@\ua7cb.com",
    "letters that change": "a@\u1c89.com",
    "a long text": "x" * 20_000,
    "a deep list": "[" * 3000,
    "a big number": "1" + "0" * 400,
    "2^63": "9223372036854775808",
    "less than nothing": "-1",
    "not a number": "NaN",
    "infinite": "Infinity",
    "a formula": "\uff1d1+1",
    "full-width digits": "\uff11\uff12\u0661",
    "a template": "{{7*7}}{% debug %}%n%s%00",
    "markup": '"><script>alert(1)</script>',
    "SQL": "' OR 1=1; --",
    "right to left": "\u202egnp.exe",
}


def in_json(*, few: bool) -> Iterator[tuple[str, bytes]]:
    yield from list(IN_JSON.items())[:: 8 if few else 1]


def as_text(*, few: bool) -> Iterator[tuple[str, str]]:
    yield from list(AS_TEXT.items())[:: 8 if few else 1]
