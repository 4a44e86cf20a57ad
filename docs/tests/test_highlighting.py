"""Code has colours that can be read, and its text is unchanged."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from docs.guides import FOLDER, GUIDES, read_guide
from docs.highlighting import CLASSES, LANGUAGES, highlighted

STATIC = Path(__file__).resolve().parents[2] / "static"
# WCAG 2.2, AA, for text of any size.
LEAST_CONTRAST = 4.5


def plain(code: str) -> str:
    return html.unescape(re.sub(r"</?span[^>]*>", "", code))


def fences() -> list[tuple[str, str]]:
    tokens = [
        token
        for slug in GUIDES
        for token in MarkdownIt().parse((FOLDER / f"{slug}.md").read_text(encoding="utf-8"))
    ]
    return [
        (token.info.partition(" ")[0], token.content) for token in tokens if token.type == "fence"
    ]


def test_it_works() -> None:
    assert highlighted('return "a<b"  # c', "python") == (
        '<span class="hl-keyword">return</span> <span class="hl-string">&quot;a&lt;b&quot;</span>'
        '  <span class="hl-comment"># c</span>'
    )


@pytest.mark.parametrize("language", [*LANGUAGES, "of-no-lexer", ""])
@pytest.mark.parametrize("code", ["", "\n", "\n\n  a\n\n", "a", "<script>&amp;\x00…", "'\"'`${\\"])
def test_its_text_is_unchanged(code: str, language: str) -> None:
    shown = highlighted(code, language)
    assert plain(shown) == code
    assert "<script" not in shown


def test_the_text_of_every_example_is_unchanged() -> None:
    assert len(fences()) > 30
    for language, code in fences():
        assert plain(highlighted(code, language)) == code


def test_examples_in_every_language_have_colours() -> None:
    assert set(LANGUAGES) <= {language for language, _ in fences()}
    for language in LANGUAGES:
        codes = [code for each, code in fences() if each == language]
        assert any('class="hl-' in highlighted(code, language) for code in codes), language


def test_guides_have_them() -> None:
    text = read_guide("getting-started").html
    assert '<span class="hl-keyword">' in text
    assert set(re.findall(r'class="(hl-\w+)"', text)) <= CLASSES


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_each_colour_can_be_read(is_dark: bool) -> None:
    colors = variables("palette.css", is_dark=is_dark) | variables("docs.css", is_dark=is_dark)
    own = [name for name in colors if name.startswith("hl-")]
    assert {f"hl-{name.removeprefix('hl-')}" for name in own} == CLASSES
    for name in [*own, "good", "quiet", "ink", "accent"]:
        for background in ("code", "paper"):
            assert contrast(colors[name], colors[background]) >= LEAST_CONTRAST, (name, background)


def variables(file: str, *, is_dark: bool) -> dict[str, str]:
    """Return the variables of a stylesheet, in light or dark."""
    text = (STATIC / file).read_text(encoding="utf-8")
    dark = re.search(r"@media \(prefers-color-scheme: dark\) \{\s*:root \{(.*?)\}", text, re.DOTALL)
    light = re.search(r"^:root \{(.*?)\}", text, re.DOTALL | re.MULTILINE)
    assert light
    assert dark
    found = dict(re.findall(r"--([\w-]+): (#\w{6});", light[1]))
    return found | (dict(re.findall(r"--([\w-]+): (#\w{6});", dark[1])) if is_dark else {})


def contrast(one: str, other: str) -> float:
    """https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio"""
    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def luminance(color: str) -> float:
    channels = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
