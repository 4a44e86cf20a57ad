"""Sentences of guides on pages."""

from __future__ import annotations

import pytest

from core.templatetags.inline_markdown import inline_markdown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Return `a`, then `b_c`.", "Return <code>a</code>, then <code>b_c</code>."),
        ("Look under **Billing**.", "Look under <b>Billing</b>."),
        ("See [`x`](#x) there.", "See <code>x</code> there."),
        ("`<script>` & **<b>**", "<code>&lt;script&gt;</code> &amp; <b>&lt;b&gt;</b>"),
        ("A ` and ** alone", "A ` and ** alone"),
        ("", ""),
    ],
)
def test_code_and_bold_are_marked_and_everything_else_is_escaped(text: str, shown: str) -> None:
    assert inline_markdown(text) == shown
