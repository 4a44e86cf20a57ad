"""Responses of customers' backends without the credentials in them.

The response to onCallStart contains the customer's Twilio and OpenAI credentials, which are never
stored or shown. If it is JSON, the fields that the contract calls secret are masked, wherever they
are. What cannot be read as JSON (HTML, a text that was cut off) may hold the same fields in any
form: whatever follows the name of one is left out, unless it is plainly a quoted text.
"""

from __future__ import annotations

import html
import json
import re
import unicodedata
from base64 import b64decode
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import unquote

from core.logs import names_credential, without_credentials
from telephony.callbacks.configuration import CONFIGURATION, REFUSAL, SPOKEN_REFUSAL, TRANSFER
from telephony.callbacks.kinds import AccountSid
from telephony.engine.bounds import is_deeper_than
from telephony.engine.plan import sid_ending

MASK = "••••••••"
NOT_SHOWN = "(Not shown: it may contain credentials.)"
REST_NOT_SHOWN = f"{MASK} (The rest is not shown: it may contain credentials.)"

# Bytes of JSON that are read as JSON. Of anything longer, only the beginning is looked at, as text.
_MOST_JSON = 16 * 1024
_MOST_TEXT = 4 * 1024
# What is left out at the end of a text that was cut: it may be half of a credential, which has no
# shape to recognize it by.
_LONGEST_CUT = 512
# Characters.
_MOST_SHOWN = 1024
# Shorter ones are parts of words.
_SHORTEST_KNOWN = 6
# Each is looked for in each text of the response.
_MOST_KNOWN = 64
# How often an encoding may be wrapped in another.
_MOST_WRAPPINGS = 8

_FIELDS = {
    field.name: field
    for answer in (CONFIGURATION, REFUSAL, SPOKEN_REFUSAL, TRANSFER)
    for field in answer.fields
}


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


_SECRET = frozenset(_plain(field.name) for field in _FIELDS.values() if field.is_secret)
_SIDS = frozenset(_plain(field.name) for field in _FIELDS.values() if field.kind == AccountSid())
_SID = re.compile(r"(?<![0-9A-Za-z])AC[0-9a-fA-F]{32}(?![0-9A-Za-z])")
_TOKEN = re.compile(r"(?<![0-9A-Za-z])[0-9a-fA-F]{32}(?![0-9A-Za-z])")  # Twilio's auth token
_OPENAI_KEY = re.compile(r"(?<![0-9A-Za-z])sk-[\w-]+")


def _words(name: str) -> str:
    """Return a pattern for a camel-case name in any notation: openai_api_key, OPENAI-API-KEY."""
    return r"[\W_]{0,3}".join(re.findall("[A-Z]?[a-z]+", name))


# The name of a secret field and, if that is plainly delimited, its value.
_NAMED = re.compile(
    rf"""
    (?P<name>{"|".join(_words(field.name) for field in _FIELDS.values() if field.is_secret)})
    (?P<value>
        (?P<between>["']?\s*:\s*)
        (?P<quote>["'])
        (?P<content>[\w.~+/=:•-]*)
        (?P=quote)
        (?=\s*(?:[,}}\]]|["']\w+["']\s*:|$))
    )?
    """,
    re.VERBOSE | re.IGNORECASE,
)


def masked(body: bytes, *, known: Iterable[str] = ()) -> str:
    """Return the beginning of a response as text, without credentials.

    :param known: credentials that it must not contain, whatever its form.
    """
    secrets = _recognizable(known)
    text = _masked_json(body, secrets) if len(body) <= _MOST_JSON else None
    if text is None:
        text = _masked_text(body[:_MOST_TEXT].decode(errors="replace"), secrets)
        if len(body) > _MOST_TEXT:
            text = text[:-_LONGEST_CUT]
    return without_credentials(text[:_MOST_SHOWN], mask=MASK)


def _masked_json(body: bytes, known: set[str]) -> str | None:
    """Return JSON without credentials, as it was written if there are none; None if it is not JSON.

    A key that is there twice is looked at twice, so the standard library reads it.
    """
    try:
        text = body.removeprefix(BOM_UTF8).decode()
        found = _Found(known)
        value = json.loads(text, object_pairs_hook=found.object)
        if is_deeper_than(value):
            return None
        if len(found.known) > _MOST_KNOWN:
            return NOT_SHOWN
        shown = found.value(value)
        if shown == value and not found.is_any:
            return text
        return json.dumps(shown, ensure_ascii=False)
    except (ValueError, RecursionError):
        return None


class _Found:
    """The credentials in a JSON text; those in one place are masked in all others too."""

    def __init__(self, known: set[str]) -> None:
        self.known = set(known)
        self.is_any = False  # or may be

    def object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = {name: self._member(name, value) for name, value in pairs}
        self.is_any |= len(members) < len(pairs)  # one that is gone may have been a credential
        return members

    def value(self, value: Any) -> Any:
        """Return a value with its texts masked, once the members of all objects have been seen."""
        match value:
            case str():
                return _masked_text(value, self.known)
            case list():
                return [self.value(item) for item in value]
            case dict():
                return {self._name(name): self.value(item) for name, item in value.items()}
        return value

    def _name(self, name: str) -> str:
        return name if _plain(name) in _SECRET else _masked_text(name, self.known)

    def _member(self, name: str, value: Any) -> Any:
        plain = _plain(name)
        if value is None or value == "":
            return value
        if plain in _SIDS:
            return self._hidden(value, _short_sid)
        if plain in _SECRET or plain == "headers" or names_credential(name):
            return self._hidden(value, _size)
        return value

    def _hidden(self, value: Any, shown: Callable[[Any], str]) -> str:
        self.is_any = True
        self.known |= _recognizable(texts_in(value))
        return shown(value)


def texts_in(value: Any) -> list[str]:
    """Return the texts and numbers in decoded JSON, without the names of members."""
    match value:
        case list():
            return [text for item in value for text in texts_in(item)]
        case dict():
            return [text for item in value.values() for text in texts_in(item)]
        case None | bool():
            return []
    return [str(value)]


def _size(value: Any) -> str:
    return f"{MASK} ({len(value)} characters)" if isinstance(value, str) else MASK


def _short_sid(value: Any) -> str:
    return sid_ending(value) if isinstance(value, str) and _SID.fullmatch(value) else MASK


def _recognizable(texts: Iterable[str]) -> set[str]:
    return {text for text in texts if len(text) >= _SHORTEST_KNOWN and MASK not in text}


def _masked_text(text: str, known: set[str]) -> str:
    """Return a text without credentials. If an encoding hides some, nothing of it is shown."""
    known = known | _recognizable(found["content"] or "" for found in _NAMED.finditer(text))
    seen = _credentials(text, known)
    if _hides_some(text, known, seen):
        return NOT_SHOWN
    if not any(seen):
        return text
    for each in sorted(known, key=len, reverse=True):
        text = text.replace(each, MASK)
    text = _SID.sub(lambda found: sid_ending(found[0]), _without_named(text))
    return _TOKEN.sub(MASK, _OPENAI_KEY.sub(MASK, text))


def _without_named(text: str) -> str:
    """Mask the values of secret fields, or end the text where one begins that may end anywhere."""
    shown, at = "", 0
    for found in _NAMED.finditer(text):
        if found["value"] is None:
            return f"{shown}{text[at : found.end('name')]} {REST_NOT_SHOWN}"
        shown += f"{text[at : found.start('content')]}{MASK}"
        at = found.end("content")
    return shown + text[at:]


def _credentials(text: str, known: set[str]) -> tuple[int, ...]:
    """Return how many credentials of each kind a text has."""
    return (
        len(_NAMED.findall(text)),
        len(_SID.findall(text)),
        len(_OPENAI_KEY.findall(text)),
        len(_TOKEN.findall(text)),
        sum(text.count(each) for each in known),
    )


def _hides_some(text: str, known: set[str], seen: tuple[int, ...]) -> bool:
    """Return True if a text has more credentials without its encodings or its tags."""
    for _ in range(_MOST_WRAPPINGS):
        if _has_more(text, known, seen) or _has_more(_TAG.sub("", text), known, seen):
            return True
        if any(any(_credentials(inner, known)) for inner in _decoded(text)):
            return True
        inner = _unwrapped(text)
        if inner == text:
            return False
        text = inner
    return True


def _has_more(text: str, known: set[str], seen: tuple[int, ...]) -> bool:
    return any(few < many for few, many in zip(seen, _credentials(text, known), strict=True))


# A gateway may wrap a whole response in it: {"isBase64Encoded": true, "body": "eyJ0d…"}.
_BASE64 = re.compile(r"[0-9A-Za-z+/_-]{16,}")
_HEX = re.compile("(?:[0-9a-fA-F]{2}){16,}")


def _decoded(text: str) -> Iterator[str]:
    """Yield what the texts in Base64 and in hex within a text say."""
    for found in _BASE64.finditer(text):
        whole = found[0][: len(found[0]) // 4 * 4]
        yield b64decode(whole, altchars=b"-_" if {*"-_"} & {*whole} else None).decode(
            errors="replace"
        )
    for found in _HEX.finditer(text):
        yield bytes.fromhex(found[0]).decode(errors="replace")


_TAG = re.compile("<[^<>]*>")
# Of a run of backslashes, only the whole is tried: else a long one takes time by the square.
_ESCAPE = re.compile(
    r"(?<!\\)\\++(?:u([0-9a-fA-F]{4})|u\{([0-9a-fA-F]{1,6})\}|x([0-9a-fA-F]{2})|(?=[^\\\w]))"
)


def _unwrapped(text: str) -> str:
    """Return a text with one layer of encodings removed: HTML's, URLs', those of code."""
    text = _ESCAPE.sub(_unescaped, unquote(html.unescape(text)))
    if text.isascii() and text.isprintable():
        return text
    kept = (each for each in text if unicodedata.category(each) not in ("Cc", "Cf") or each == "\n")
    return unicodedata.normalize("NFKC", "".join(kept))


def _unescaped(found: re.Match[str]) -> str:
    code = int(found[found.lastindex], 16) if found.lastindex else 0
    return chr(code) if 0 < code <= 0x10FFFF else ""
