"""Parts of a page that tests read."""

from __future__ import annotations

from html.parser import HTMLParser


class Page(HTMLParser):
    """A page's links and ids, its controls without a label, and what the policy forbids in it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.forbidden: list[str] = []
        self._labeled: set[str] = set()
        self._controls: list[str] = []
        self.feed(html)

    @property
    def unlabeled(self) -> list[str]:
        return [each for each in self._controls if each not in self._labeled]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if "id" in values:
            self.ids.append(values["id"])
        if "href" in values:
            self.links.append(values["href"])
        inline = tag == "style" or (tag == "script" and not values.get("src"))
        if inline or "style" in values or any(name.startswith(("on", "hx-on")) for name in values):
            self.forbidden.append(tag)
        if tag == "label":
            self._labeled.add(values.get("for", ""))
        if tag in ("select", "textarea", "progress") or (
            tag == "input" and values.get("type") != "hidden"
        ):
            self._controls.append(values.get("id", f"{tag} without an id"))


def assert_well_made(html: str) -> None:
    """Every control has its label, no id comes twice, and nothing is inline."""
    page = Page(html)
    assert page.forbidden == []
    assert page.unlabeled == []
    assert len(page.ids) == len(set(page.ids))
