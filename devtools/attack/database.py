"""A database for the attacks, with the same tables as production.

dj-stripe's migrations take most of a minute. So its tables are created as in development, and its
migrations are faked.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from devtools import migrated
from devtools.postgres import embedded_url
from devtools.processes import ROOT


@contextmanager
def own_database(
    local: Path,
    environment: Mapping[str, str],
    *,
    root: Path = ROOT,
    python: str = sys.executable,
) -> Iterator[str]:
    """Yield the URL of a database that the checkout ``root`` migrated; drop it at the end."""
    manage = partial(migrated.manage, root=root, python=python)

    def migrate(url: str) -> None:
        production = {**environment, "DATABASE_URL": url}
        manage("migrate", environment={**production, "DEBUG": "1", "SANDBOX": "0"})
        manage("migrate", "djstripe", "--fake", environment=production)

    local.mkdir(parents=True, exist_ok=True)
    server = embedded_url(local)
    with migrated.own_database(
        server, "production" if root == ROOT else "previous", migrate, purpose="attack", root=root
    ) as url:
        yield url
