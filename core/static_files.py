"""Static files in production: with a hash in their names, compressed, and cached for a year.

``manage.py collectstatic`` makes them, from the sources of one version. A server in production does
not start without them, or with those of another version: its pages would have no style.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Warning, register
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.storage import CompressedManifestStaticFilesStorage

_ROOT = Path(__file__).resolve().parent.parent
#: In ``STATIC_ROOT``: which sources it was collected from.
_DIGEST = "sources.sha256"


class HashedFiles(CompressedManifestStaticFilesStorage):
    """WhiteNoise's storage, which also notes the sources it was made from."""

    def post_process(self, paths: dict[str, Any], **options: Any) -> Iterator[Any]:
        yield from super().post_process(paths, **options)
        if not options.get("dry_run"):
            Path(self.path(_DIGEST)).write_text(digest_of_sources())


class StaticFilesMiddleware(WhiteNoiseMiddleware):
    """Serve static files, to pages of another version too.

    During a deploy, old pages ask new processes and new pages old ones. A name with the hash of
    another version gets this version's file, to be cached for a minute.
    """

    def __call__(self, request: Any) -> Any:
        asked = request.path_info
        if asked.startswith(self.static_prefix) and asked not in self.files:
            current = self.get_name_without_hash(asked)
            if current in self.files:
                request.path_info = current
        return super().__call__(request)


def fault_of_static_files() -> str:
    """Return what is wrong with the collected files and what to do, or "" if nothing is."""
    if settings.DEBUG:
        return ""
    root = Path(settings.STATIC_ROOT)
    to_do = "Run: python manage.py collectstatic --noinput"
    try:
        collected_from = (root / _DIGEST).read_text()
    except OSError:
        return f"There are no static files in {root}. {to_do}"
    if collected_from != digest_of_sources():
        return f"The static files in {root} are from another version. {to_do}"
    return ""


def digest_of_sources() -> str:
    """Return a hash of our own static files, and of the versions of packages that have others."""
    digest = hashlib.sha256((_ROOT / "requirements.lock").read_bytes())
    folder = _ROOT / "static"
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = hashlib.sha256(path.read_bytes()).digest()
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + content)
    return digest.hexdigest()


@register(deploy=True)
def check_static_files(**_: Any) -> list[CheckMessage]:
    fault = fault_of_static_files()
    return [Warning(fault, id="switchhook.W001")] if fault else []
