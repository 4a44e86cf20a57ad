"""``.env.example``: the variables of the guide, in the format that Compose and systemd read.

Required variables are empty, for whoever fills them in; the others are comments with their
defaults. ``bin/new-env`` makes an environment of it.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

ENV_EXAMPLE = Path(__file__).resolve().parent.parent / ".env.example"
SOURCE = "environment-variables.md"

_HEAD = """\
# Every setting of Switchhook. `bin/new-env calls.company.com` makes .env of this, with fresh
# secrets. `manage.py write_docs` makes this of docs/environment-variables.md.
"""
# Those of development are no part of an environment for production.
_LEFT_OUT = "Development"
_WIDTH = 98


def env_example(guide: str) -> str:
    """Return the file for the guide's Markdown."""
    parts = [_HEAD]
    for section in re.split(r"^## ", guide, flags=re.MULTILINE)[1:]:
        title, _, text = section.partition("\n")
        rows = list(_rows(text))
        if rows and title != _LEFT_OUT:
            parts += [f"\n# --- {title}\n", *(_entry(*row) for row in rows)]
    return "".join(parts)


def _rows(section: str) -> Iterator[tuple[list[str], str, str]]:
    """Yield the variables of each row, with the default and what they are."""
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 3 and cells[0].startswith("`"):
            yield re.findall(r"`(\w+)`", cells[0]), _plain(cells[1]), _plain(cells[2])


def _entry(names: list[str], default: str, meaning: str) -> str:
    is_required = default.startswith("required")
    about = "Required." if is_required else f"Default: {default}."
    comment = textwrap.wrap(f"{meaning} {about}", _WIDTH, break_on_hyphens=False)
    prefix = "" if is_required else "#"
    lines = [*(f"# {line}" for line in comment), *(f"{prefix}{name}=" for name in names)]
    return "\n" + "\n".join(lines) + "\n"


def _plain(markdown: str) -> str:
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", markdown).replace("`", "")
