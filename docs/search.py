"""The index that ``static/search.js`` searches: the sections of the guides, and the API."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from django.conf import settings
from django.urls import reverse

from docs.guides import GUIDES, Guide, read_guide
from docs.reference import Reference, reference


@dataclass(frozen=True, slots=True)
class Index:
    """JSON: a list of ``[URL, page, title, text]``. ``digest`` changes with it."""

    json: bytes
    digest: str


def search_index() -> Index:
    """Return the index with the addresses of this installation."""
    return _index(tuple(read_guide(slug) for slug in GUIDES), settings.PUBLIC_URL)


@lru_cache(maxsize=2)
def _index(guides: tuple[Guide, ...], public_url: str) -> Index:
    entries = [entry for guide in guides for entry in _of_guide(guide)]
    entries += _of_api(reference())
    written = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    return Index(written, hashlib.sha256(written).hexdigest()[:16])


def _of_guide(guide: Guide) -> Iterator[list[str]]:
    page = reverse("guide", args=[guide.slug])
    for section in guide.sections:
        yield [f"{page}#{section.heading.id}", guide.title, section.heading.text, section.text]


def _of_api(api: Reference) -> Iterator[list[str]]:
    page = reverse("api-reference")
    for group in api.groups:
        for each in group.operations:
            text = f"{each.method} {each.path} {each.id}"
            yield [f"{page}#{each.id}", f"API reference: {group.name}", each.summary, text]
