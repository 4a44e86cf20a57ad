"""No credential is left in a response that is kept, whatever its form."""

from __future__ import annotations

import html
import json
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote, urlencode

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from telephony.callbacks.masking import MASK, NOT_SHOWN, REST_NOT_SHOWN, masked

TOKEN, KEY = "canary-of-the-twilio-token", "sk-canary-of-the-openai-key"
SID = "AC0123456789abcdef0123456789abcdef"
PLAN = {"twilioAccountSid": SID, "twilioAuthToken": TOKEN, "openaiApiKey": KEY}
# How much of a credential is told by a piece of it.
TELLING = 6


def shown(answer: Any, **options: Any) -> str:
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return masked(body, **options)


class TestJson:
    def test_without_credentials_it_is_shown_as_it_was_written(self) -> None:
        text = '{ "error":"down",\n"code": 1e2, "at": null }'
        assert shown(text.encode()) == text
        assert shown(b"\xef\xbb\xbf[]") == "[]"

    def test_secret_fields_are_masked(self) -> None:
        assert json.loads(shown(PLAN | {"voice": "bob", "more": [1, None]})) == {
            "twilioAccountSid": "AC…cdef",
            "twilioAuthToken": f"{MASK} ({len(TOKEN)} characters)",
            "openaiApiKey": f"{MASK} ({len(KEY)} characters)",
            "voice": "bob",
            "more": [1, None],
        }

    def test_what_is_missing_stays_visible(self) -> None:
        answer = {"openaiApiKey": None, "twilioAuthToken": ""}
        assert shown(answer) == json.dumps(answer)

    @pytest.mark.parametrize(
        "answer",
        [
            {"config": [{"openaiApiKey": KEY}]},
            {"openaiApiKey": [KEY]},
            {"openaiApiKey": {"value": KEY}},
            {"openai_api_key": KEY},
            {"OPENAI-API-KEY": KEY},
            {"apiKey": KEY, "authToken": TOKEN},
            {"tools": [{"name": "a", "headers": {"X-Mine": TOKEN}}]},
            {"tools": [{"name": "a", "headers": [["X-Mine", TOKEN]]}]},
            {"Authorization": f"Bearer {TOKEN}"},
            {"openaiApiKey": KEY, "message": f"Cannot use {KEY} here", KEY: 1},
            {"twilioAuthToken": TOKEN, "message": [f"<{TOKEN}>"]},
            {"error": json.dumps(PLAN)},
            {"error": json.dumps(json.dumps(PLAN))},
            {"error": repr(PLAN)},
            {"error": f"openaiApiKey={TOKEN}&twilioAuthToken={TOKEN}"},
            {"twilioAccountSid": TOKEN},
            {"voice": KEY},
        ],
        ids=str,
    )
    def test_they_are_masked_wherever_they_are(self, answer: Any) -> None:
        text = shown(answer)
        assert TOKEN not in text
        assert KEY not in text

    def test_a_key_that_is_there_twice(self) -> None:
        text = shown(f'{{"openaiApiKey": "{TOKEN}", "openaiApiKey": "", "a": 1}}'.encode())
        assert TOKEN not in text
        text = shown(f'{{"a": "{KEY}", "a": 1}}'.encode())
        assert KEY not in text

    def test_a_number_can_be_one(self) -> None:
        assert "12345678" not in shown({"twilioAuthToken": 12345678, "said": "12345678"})

    def test_tokens_are_known_by_their_shape(self) -> None:
        assert shown({"error": f"401 for {'0123456789abcdef' * 2}"}) == json.dumps(
            {"error": f"401 for {MASK}"}, ensure_ascii=False
        )

    def test_credentials_of_others_are_masked_too(self) -> None:
        assert shown({"error": "403", "sent": "Bearer abcdefgh"}) == json.dumps(
            {"error": "403", "sent": f"Bearer {MASK}"}, ensure_ascii=False
        )

    def test_what_only_sounds_like_one_is_shown(self) -> None:
        answer = {"error": "Ask about the risk-free task", "ticket": "A-1", "tokens": "ten"}
        assert shown(answer) == json.dumps(answer)


class TestText:
    def test_html_is_shown_as_it_is(self) -> None:
        page = b"<!doctype html><h1>Bad gateway &amp; more</h1>\n100% down"
        assert shown(page) == page.decode()

    def test_broken_json_is_shown_but_for_the_credentials(self) -> None:
        text = f'{{"openaiApiKey": "{KEY}",\n"twilioAuthToken" : "{TOKEN}"\n"voice": }}'
        assert shown(text.encode()) == text.replace(KEY, MASK).replace(TOKEN, MASK)

    @pytest.mark.parametrize(
        "text",
        [
            f'{{"voice": "bob", "openaiApiKey": "{KEY}',
            f"voice: bob\nopenai_api_key: {KEY}\n",
            f"voice=bob&openaiApiKey={KEY}&more=1",
            f"{{'voice': 'bob', 'openaiApiKey': `{KEY}`,}}",
            f'<p>voice="bob"</p><openaiApiKey>{KEY}</openaiApiKey>',
        ],
    )
    def test_the_rest_is_left_out_if_a_credential_may_end_anywhere(self, text: str) -> None:
        kept = shown(text.encode())
        assert kept.endswith(REST_NOT_SHOWN)
        assert "bob" in kept

    @pytest.mark.parametrize(
        "text",
        [
            f'{{"openaiApi\\u004bey": "{TOKEN}",',
            f'{{"\\u{{6f}}penaiApiKey": "{TOKEN}",',
            f"<p>openai&#65;piKey: {TOKEN}",
            f"<p>openai&amp;#65;piKey: {TOKEN}",
            f"%6fpenaiApiKey={TOKEN}",
            f"open<b>ai</b>ApiKey: {TOKEN}",
            f"o\0p\0e\0n\0a\0i\0A\0p\0i\0K\0e\0y: {TOKEN}",
            f"open\u200baiApiKey: {TOKEN}",
            "&#115;k-canary-of-the-openai-key",
        ],
    )
    def test_nothing_is_shown_if_an_encoding_hides_some(self, text: str) -> None:
        assert shown(text.encode()) == NOT_SHOWN

    @pytest.mark.parametrize(
        "encoded",
        [
            b64encode(json.dumps(PLAN).encode()),
            urlsafe_b64encode(f"ÿ?>{json.dumps(PLAN)}".encode()).rstrip(b"="),
            json.dumps(PLAN).encode().hex().encode(),
        ],
    )
    def test_nothing_is_shown_of_a_response_in_base64_or_hex(self, encoded: bytes) -> None:
        assert shown(encoded) == NOT_SHOWN
        assert shown(b"data:application/json;base64," + encoded[:140]) == NOT_SHOWN
        gateway = {"statusCode": 200, "isBase64Encoded": True, "body": encoded.decode()}
        assert shown(gateway) == json.dumps({**gateway, "body": NOT_SHOWN}, ensure_ascii=False)

    def test_other_base64_is_shown(self) -> None:
        trace = b64encode(bytes(range(256))).decode()
        assert shown({"trace": trace}) == json.dumps({"trace": trace})

    def test_encodings_without_end(self) -> None:
        assert shown(b"&" + b"amp;" * 50 + b"x") == NOT_SHOWN

    def test_known_credentials_are_masked_in_any_text(self) -> None:
        known = ["pass & word", "abc"]
        assert shown(b"no: pass & word abc", known=known) == f"no: {MASK} abc"
        assert shown(b"no: pass &amp; word", known=known) == NOT_SHOWN
        assert shown({"error": "pass & word"}, known=known) == json.dumps(
            {"error": MASK}, ensure_ascii=False
        )

    def test_half_of_a_credential_is_not_shown(self) -> None:
        """Masking shortens a text, and what was cut would come into sight."""
        body = f"sk-{'x' * 4_070} {'0123456789abcdef' * 2}".encode()
        assert "0123" not in shown(body)


# Everything that a field may hold: see their definitions.
keys = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=60)
tokens = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_categories=["Cs", "Cc"]),
    min_size=8,
    max_size=60,
)
usual = st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz0123456789-_"), min_size=8, max_size=60)


def _escaped(text: str) -> str:
    """JSON whose texts consist of escapes."""
    return "".join(f"\\u{ord(each):04x}" if each.isalpha() else each for each in text)


FORMS: dict[str, Callable[[dict[str, Any]], str]] = {
    "json": json.dumps,
    "utf-8": lambda body: json.dumps(body, ensure_ascii=False),
    "indented": lambda body: json.dumps(body, indent=2),
    "json in json": lambda body: json.dumps({"error": json.dumps(body)}),
    "json in json in json": lambda body: json.dumps({"e": json.dumps({"e": json.dumps(body)})}),
    "escaped": lambda body: _escaped(json.dumps(body)),
    "twice": lambda body: f"{json.dumps(body)[:-1]}, {json.dumps(body)[1:]}",
    "repr": repr,
    "repr in json": lambda body: json.dumps({"error": repr(body)}),
    "html": lambda body: f"<pre>{html.escape(json.dumps(body))}</pre>",
    "html of repr": lambda body: f"<pre>{html.escape(repr(body))}</pre>",
    "html twice": lambda body: html.escape(html.escape(json.dumps(body))),
    "numeric html": lambda body: "".join(f"&#{ord(each)};" for each in json.dumps(body)),
    "form": urlencode,
    "quoted": lambda body: quote(json.dumps(body)),
    "xml": lambda body: "".join(f"<{name}>{html.escape(body[name])}</{name}>" for name in body),
    "table": lambda body: "".join(
        f"<td>{name}</td><td>{html.escape(body[name])}</td>" for name in body
    ),
    "lines": lambda body: "\n".join(f"{name}: {body[name]}" for name in body),
    "environment": lambda body: "\n".join(f"export {name}='{body[name]}'" for name in body),
    "spaced": lambda body: json.dumps(body, separators=(" , ", " : ")),
}


@given(
    form=st.sampled_from(sorted(FORMS)),
    key=keys | usual,
    token=tokens | usual,
    before=st.text(max_size=20),
    cut=st.floats(0, 1),
    rest=st.sampled_from(["", "}", "\n<html>", " // the end", '"', "'", "\\"]),
)
def test_no_secret_is_left_whatever_the_form_and_wherever_it_is_cut(
    form: str, key: str, token: str, before: str, cut: float, rest: str
) -> None:
    body = {"a": before, "openaiApiKey": key, "b": "x", "twilioAuthToken": token, "c": "y"}
    text = FORMS[form](body)
    skeleton = FORMS[form](body | {"openaiApiKey": "", "twilioAuthToken": ""})
    others = f"{_read(skeleton)}{before}{NOT_SHOWN}{REST_NOT_SHOWN} (8 characters)"
    whole = text[: round(len(text) * cut)] + rest
    kept = masked(whole.encode(errors="replace"))
    for secret in (key, token):
        pieces = {secret[at : at + TELLING] for at in range(len(secret) - TELLING + 1)}
        assume(not any(piece in others for piece in pieces))
        assert not any(piece in _read(kept) for piece in pieces), kept


def _read(text: str) -> str:
    """A text and what somebody reads in it."""
    unquoted = unquote(html.unescape(html.unescape(text)))
    return f"{text}\n{unquoted}\n{unquoted.replace(chr(92), '')}"


@given(st.binary(max_size=6_000))
def test_any_bytes_are_survived(body: bytes) -> None:
    assert isinstance(masked(body), str)


@pytest.mark.parametrize(
    "body",
    [
        b'{"openaiApiKey": "x", "a": [' + b'"sk-abcd",' * 1_600 + b"1]}",
        b"openaiApiKey" * 90_000,
        b"&amp;" * 3_000,
        b"<" * 16_000,
        b"\\" * 1_000_000,
        json.dumps("\\" * 8_000).encode(),
        b"a/" * 8_000,
        json.dumps("ab-" * 5_000).encode(),
        b"[" * 16_000,
        json.dumps({"headers": [f"{n:06}" for n in range(800)], "a": ["&amp;"] * 800}).encode(),
    ],
    ids=[
        "texts",
        "names",
        "entities",
        "tags",
        "bytes",
        "backslashes",
        "base64",
        "words",
        "deep",
        "secrets",
    ],
)
def test_hostile_ones_take_little_time(body: bytes) -> None:
    """An engine does this beside its calls, and regular expressions keep the GIL."""
    began = time.thread_time()
    masked(body)
    assert time.thread_time() - began < 0.2


def test_nothing_is_shown_of_a_response_with_very_many_secrets() -> None:
    secrets = [f"secret-{n:03}" for n in range(100)]
    assert shown({"headers": secrets, "copy": secrets[-1]}) == NOT_SHOWN
    few = secrets[:60]
    assert few[-1] not in shown({"headers": few, "copy": few[-1]})
