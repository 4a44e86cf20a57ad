"""The guides: Markdown files in ``docs/``, rendered for the site.

They use example addresses (``https://switchhook.example``), which read well in the repository. The
site replaces them with the addresses of the installation, so that commands can be copied.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

from django.conf import settings
from django.utils.html import escape
from django.utils.text import slugify
from markdown_it import MarkdownIt
from markdown_it.token import Token

from docs.highlighting import highlighted
from docs.tables import without_markers

FOLDER = settings.BASE_DIR / "docs"
# For whom, in the order of the index.
AUDIENCES: Mapping[str, tuple[str, ...]] = {
    "Build a backend": (
        "getting-started",
        "callbacks",
        "call-configuration",
        "models",
        "reasons-and-errors",
        "sandbox",
    ),
    "Run Switchhook": (
        "production",
        "environment-variables",
        "operations",
        "monitoring",
        "backup",
        "security",
        "performance",
        "capacity",
        "licences",
    ),
}
GUIDES = tuple(slug for slugs in AUDIENCES.values() for slug in slugs)
# For coding agents; not listed among the guides.
SKILL = "SKILL"
# About a Switchhook on the reader's machine: its ports are those of this one, if it is one.
_LOCAL = frozenset({"sandbox", SKILL})


Addresses = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Heading:
    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, and the text up to the next one: without markup, in one line."""

    heading: Heading
    text: str


@dataclass(frozen=True, slots=True)
class Guide:
    """A rendered guide; ``summary`` is its first paragraph."""

    slug: str
    title: str
    summary: str
    html: str
    headings: tuple[Heading, ...]
    sections: tuple[Section, ...]


def all_guides() -> list[Guide]:
    return [read_guide(slug) for slug in GUIDES]


def guides_by_audience() -> dict[str, list[Guide]]:
    return {who: [read_guide(slug) for slug in slugs] for who, slugs in AUDIENCES.items()}


def read_guide(slug: str) -> Guide:
    """Return a guide with the addresses of this installation."""
    path = FOLDER / f"{slug}.md"
    return _render(slug, path.stat().st_mtime_ns, _addresses(slug))


def guide_text(slug: str) -> str:
    """Return a guide's Markdown, with this installation's addresses and absolute links."""
    text = _with_addresses(_source(slug), _addresses(slug))
    text = re.sub(r"\]\(([a-z-]+\.md)", rf"]({settings.PUBLIC_URL}/docs/\1", text)
    return re.sub(r"\]\(/", rf"]({settings.PUBLIC_URL}/", text)


@lru_cache(maxsize=2 * len(GUIDES))
def _render(slug: str, modified_ns: int, addresses: Addresses) -> Guide:
    text = _with_addresses(_source(slug), addresses)
    tokens = _markdown.parse(text)
    _name_regions(tokens)
    title, *_ = _texts(tokens, "h1")
    summary, *_ = _texts(tokens, "p")
    headings = tuple(Heading(slugify(heading), heading) for heading in _texts(tokens, "h2"))
    html = _markdown.renderer.render(tokens, _markdown.options, {})
    return Guide(slug, title, summary, html, headings, tuple(_sections(tokens)))


def _source(slug: str) -> str:
    return without_markers((FOLDER / f"{slug}.md").read_text(encoding="utf-8"))


def _addresses(slug: str) -> Addresses:
    """Return what stands for an installation in this guide's Markdown, and what this one has."""
    own = (
        ("https://engine.switchhook.example", settings.ENGINE_URL),
        ("https://switchhook.example", settings.PUBLIC_URL),
    )
    if slug not in _LOCAL or not settings.SANDBOX:
        return own
    return (
        *own,
        ("http://127.0.0.1:8000", settings.PUBLIC_URL),
        ("http://127.0.0.1:8002", f"http://127.0.0.1:{settings.SANDBOX_PORT}"),
        ("http://localhost:8000", f"http://localhost:{settings.PORT}"),
        ("port 8000", f"port {settings.PORT}"),
    )


def _with_addresses(text: str, addresses: Addresses) -> str:
    for example, own in addresses:
        text = text.replace(example, own)
    return text


def _texts(tokens: Sequence[Token], tag: str) -> list[str]:
    """Return the text of each element with this tag, without markup."""
    return [
        _text_of(tokens[index + 1])
        for index, token in enumerate(tokens)
        if token.tag == tag and token.nesting == 1
    ]


def _text_of(inline: Token) -> str:
    return "".join(
        " " if child.type == "softbreak" else child.content for child in inline.children or []
    )


def _sections(tokens: Sequence[Token]) -> Iterator[Section]:
    starts = [index for index, token in enumerate(tokens) if token.type == "heading_open"]
    for start, end in pairwise([*starts, len(tokens)]):
        title = _text_of(tokens[start + 1])
        texts = [
            _text_of(token) if token.type == "inline" else token.content
            for token in tokens[start + 2 : end]
        ]
        yield Section(Heading(slugify(title), title), " ".join(" ".join(texts).split()))


def _name_regions(tokens: Sequence[Token]) -> None:
    """Give each scrolling region a unique name: its heading, its type and a number."""
    heading = ""
    names: Counter[str] = Counter()
    for index, token in enumerate(tokens):
        if token.type == "heading_open":
            heading = _text_of(tokens[index + 1])
        elif token.type in _SCROLLING:
            name = f"{heading}: {_title(token) or _SCROLLING[token.type]}"
            names[name] += 1
            token.meta["name"] = f"{name} {names[name]}" if names[name] > 1 else name


def _title(token: Token) -> str:
    """Return the text after the language of a code block (```sh curl), or ""."""
    return token.info.partition(" ")[2].strip() if token.type == "fence" else ""


_SCROLLING = {"fence": "code", "table_open": "table"}


# What the site adds to Markdown.


def _heading(renderer: Any, tokens: Sequence[Token], index: int, *_: Any) -> str:
    """Give the heading an id, so that links can point to it."""
    return f'<{tokens[index].tag} id="{slugify(_text_of(tokens[index + 1]))}">'


def _link(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    """Turn links between files, which work in the repository, into links between pages."""
    href = str(tokens[index].attrGet("href") or "")
    tokens[index].attrSet("href", re.sub(r"^([a-z-]+)\.md(?=#|$)", r"/docs/\1", href))
    return str(renderer.renderToken(tokens, index, options, env))


def _code(renderer: Any, tokens: Sequence[Token], index: int, *_: Any) -> str:
    """Make code scrollable on narrow screens, also by keyboard; ``static/docs.js`` adds the rest.

    Adjacent blocks with titles are variants of the same example.
    """
    title = _title(tokens[index])
    language = tokens[index].info.partition(" ")[0]
    name = escape(tokens[index].meta["name"])
    code = highlighted(tokens[index].content, language)
    pre = f'<pre tabindex="0" role="region" aria-label="{name}"><code>{code}</code></pre>'
    if not title:
        return f'<div class="code">{pre}</div>\n'
    begin = "" if index and _title(tokens[index - 1]) else '<div class="variants">\n'
    end = "" if index + 1 < len(tokens) and _title(tokens[index + 1]) else "</div>\n"
    return (
        f'{begin}<div class="code" data-variant="{escape(title)}">'
        f'<p class="variant">{escape(title)}</p>{pre}</div>\n{end}'
    )


def _table(renderer: Any, tokens: Sequence[Token], index: int, *_: Any) -> str:
    """Make the table scrollable."""
    name = escape(tokens[index].meta["name"])
    scroll = f'<div class="scroll" tabindex="0" role="region" aria-label="{name}">'
    return f'{scroll}<table class="table">\n'


def _table_end(renderer: Any, tokens: Sequence[Token], index: int, *_: Any) -> str:
    return "</table></div>\n"


def to_html(text: str) -> str:
    """Return Markdown as HTML, with what the site adds."""
    tokens = _markdown.parse(text)
    _name_regions(tokens)
    return str(_markdown.renderer.render(tokens, _markdown.options, {}))


_markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
_markdown.add_render_rule("heading_open", _heading)
_markdown.add_render_rule("link_open", _link)
_markdown.add_render_rule("fence", _code)
_markdown.add_render_rule("table_open", _table)
_markdown.add_render_rule("table_close", _table_end)
