"""Rules for every template."""

from __future__ import annotations

import re

from django.conf import settings

ADDRESS = re.compile(r'(?:href|action|src|hx-get|hx-post)="/[^"]*"')


def test_addresses_are_made_from_the_names_of_routes() -> None:
    folder = settings.BASE_DIR / "templates"
    templates = list(folder.rglob("*.html"))
    assert len(templates) > 50
    typed = {
        str(template.relative_to(folder)): found
        for template in templates
        if (found := ADDRESS.findall(template.read_text(encoding="utf-8")))
    }
    assert typed == {}
