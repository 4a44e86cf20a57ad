"""Each code has a section in the guide, which pages and emails can link to."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from docs.guides import read_guide
from telephony.callbacks.endpoints import HELD_BACK
from telephony.engine.codes import CallProblem, EndedReason, ErrorCode, model_error_code
from telephony.engine.model_errors import FATAL_CODES, PASSING_CODES
from telephony.explanations import (
    OTHER_MODEL_CODES,
    SECTIONS,
    Section,
    guide_section_url,
    section_of,
)

OF_MODEL = [model_error_code(code) for code in sorted(FATAL_CODES | PASSING_CODES)]
OTHERS = ["account_inactive", "number_inactive", HELD_BACK]
CODES = [*ErrorCode, *CallProblem, *OF_MODEL, *OTHERS]


def section(code: str) -> str:
    """Return the HTML of the section that a link to the code leads to."""
    path, _, anchor = guide_section_url(code).partition("#")
    assert path == "/docs/reasons-and-errors"
    html = read_guide("reasons-and-errors").html
    (found,) = re.findall(rf'<h3 id="{re.escape(anchor)}">(.*?)(?=<h[23] |$)', html, re.DOTALL)
    return str(found)


@pytest.mark.parametrize("code", [*EndedReason, *CODES])
def test_its_link_leads_to_a_section_of_its_own(code: str) -> None:
    assert guide_section_url(code) == f"/docs/reasons-and-errors#{code}"
    assert section(code).startswith(f"<code>{code}</code></h3>")


@pytest.mark.parametrize("code", CODES)
def test_a_section_says_what_happened_why_and_what_to_do(code: str) -> None:
    assert re.search(
        r"</h3>\s*<p>[^<].*<strong>Cause:</strong> \S.*<strong>What to do:</strong> \S",
        section(code),
        re.DOTALL,
    )


@pytest.mark.parametrize("each", SECTIONS.values(), ids=lambda each: each.code)
def test_its_words_are_sentences(each: Section) -> None:
    for text in (each.meaning, each.cause, each.remedy):
        assert not text or re.fullmatch(r"[^\n]+\.", text)


def test_a_code_of_openai_that_is_new_leads_to_the_section_on_those() -> None:
    found = section_of("model_brand_new")
    assert found
    assert found.meaning == "OpenAI reported `brand_new`."
    assert found.remedy == OTHER_MODEL_CODES.remedy
    assert guide_section_url("model_brand_new") == "/docs/reasons-and-errors#other-codes-of-openai"
    assert section("model_brand_new")


def test_what_is_no_code_leads_to_the_guide() -> None:
    assert section_of("nonsense") is None
    assert guide_section_url("nonsense") == "/docs/reasons-and-errors"


@pytest.mark.django_db
def test_programs_find_the_same_sections() -> None:
    text = Client().get("/docs/reasons-and-errors.md").content.decode()
    for each in SECTIONS.values():
        assert text.count(f"\n### {each.heading}\n") == 1
