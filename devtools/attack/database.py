"""A database for the attacks, with the same tables as production.

dj-stripe's migrations take most of a minute. So its tables are created as in development, and its
migrations are faked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from devtools import migrated
from devtools.postgres import embedded_url


@contextmanager
def own_database(local: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Yield the URL of a migrated database, and drop it at the end."""

    def migrate(url: str) -> None:
        production = {**environment, "DATABASE_URL": url}
        migrated.manage("migrate", environment={**production, "DEBUG": "1", "SANDBOX": "0"})
        migrated.manage("migrate", "djstripe", "--fake", environment=production)

    local.mkdir(parents=True, exist_ok=True)
    server = embedded_url(local)
    with migrated.own_database(server, "production", migrate, purpose="attack") as url:
        yield url
