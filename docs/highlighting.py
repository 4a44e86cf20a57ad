"""Code as HTML, with a class for each kind of token. ``static/docs.css`` has the colours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from itertools import groupby

from django.utils.html import escape
from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name
from pygments.token import (
    Comment,
    Keyword,
    Literal,
    Name,
    Number,
    String,
    _TokenType,
)

#: The languages of code blocks, by Pygments's name. Others are shown as they are.
LANGUAGES: Mapping[str, str] = {
    "sh": "bash",
    "js": "javascript",
    "json": "json",
    "python": "python",
}
# The first that contains a token decides; without a class, it has the colour of text.
_CLASSES: tuple[tuple[_TokenType, str], ...] = (
    (Comment, "hl-comment"),
    (String.Interpol, ""),
    (String.Escape, "hl-number"),
    (String, "hl-string"),
    (Number, "hl-number"),
    (Literal, "hl-string"),
    (Keyword, "hl-keyword"),
    (Name.Tag, "hl-key"),
    (Name.Builtin, "hl-name"),
    (Name.Function, "hl-name"),
    (Name.Class, "hl-name"),
    (Name.Decorator, "hl-name"),
    (Name.Variable, "hl-key"),
)
CLASSES = frozenset(name for _, name in _CLASSES if name)


def highlighted(code: str, language: str) -> str:
    """Return the code as HTML; its text is unchanged."""
    if language not in LANGUAGES:
        return escape(code)
    return "".join(_spans(code, _lexer(LANGUAGES[language])))


def _spans(code: str, lexer: Lexer) -> Iterator[str]:
    tokens = ((_class_of(kind), text) for kind, text in lexer.get_tokens(code))
    for name, same in groupby(tokens, key=lambda token: token[0]):
        text = escape("".join(text for _, text in same))
        yield f'<span class="{name}">{text}</span>' if name else text


def _class_of(kind: _TokenType) -> str:
    return next((name for whole, name in _CLASSES if kind in whole), "")


@cache
def _lexer(name: str) -> Lexer:
    return get_lexer_by_name(name, stripnl=False, ensurenl=False)
