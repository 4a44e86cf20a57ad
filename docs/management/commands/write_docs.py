"""``manage.py write_docs``: writes what of the docs follows from the code."""

from __future__ import annotations

from typing import Any

from django.core.management import BaseCommand, call_command

from core.schema import DOCUMENT
from docs.env_example import ENV_EXAMPLE, SOURCE, env_example
from docs.guides import FOLDER
from docs.tables import with_tables


class Command(BaseCommand):
    help = (
        "Write docs/openapi.yaml, .env.example, and the parts of guides that follow from the code."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("spectacular", file=str(DOCUMENT))
        variables = (FOLDER / SOURCE).read_text(encoding="utf-8")
        ENV_EXAMPLE.write_text(env_example(variables), encoding="utf-8")
        for path in sorted(FOLDER.glob("*.md")):
            text = path.read_text(encoding="utf-8")
            if (written := with_tables(text)) != text:
                path.write_text(written, encoding="utf-8")
                self.stdout.write(f"Wrote {path.name}.")
