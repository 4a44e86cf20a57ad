"""The packages that ``bin/lock`` locked, and the licences of those that are shipped.

``python -m devtools.dependencies`` writes ``docs/licences.md``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LICENCES = ROOT / "docs" / "licences.md"

# The licences that may be shipped, and the names that packages use for them. Each is compatible
# with the GPL 3. Only psycopg has the LGPL, and it is used as a library.
KNOWN = {
    "0BSD": "0BSD",
    "Apache-2.0": r"apache[ -]?(software license|license 2\.0|2\.0)",
    "BSD-2-Clause": r"bsd[ -]2[ -]clause",
    "BSD-3-Clause": r"bsd([ -]3[ -]clause| license)?|3-clause bsd license",
    "ISC": "isc( license)?",
    "LGPL-3.0-only": r"lgpl-3\.0-only",
    "MIT": "(the )?mit( license)?( \\(mit\\))?",
    "MIT-0": "mit-0",
    "MPL-2.0": r"mpl-2\.0|mozilla public license 2\.0( \(mpl 2\.0\))?",
    "PSF-2.0": r"psf-2\.0|python software foundation license",
}

_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)", re.MULTILINE)
_HEAD = """\
# Licences

The packages that ship with Switchhook, and their licences. `bin/lock` writes this list.

| package | version | licence |
|---|---|---|
"""


def locked(name: str) -> dict[str, str]:
    """Return the version of each package in ``<name>.lock``; with names as pip normalizes them."""
    return dict(_PINNED.findall((ROOT / f"{name}.lock").read_text()))


def pinned(name: str) -> dict[str, str]:
    """Return the version of each package in ``<name>.txt``."""
    text = re.sub(r"\[.*?\]", "", (ROOT / f"{name}.txt").read_text())
    return {
        re.sub(r"[-_.]+", "-", package).lower(): version
        for package, version in _PINNED.findall(text)
    }


def shipped() -> dict[str, str]:
    """Return the packages locked for this operating system: some are for others."""
    packages = locked("requirements") | locked("requirements-embedded")
    return {name: version for name, version in packages.items() if _is_here(name)}


def licence_of(package: str) -> str:
    """Return a package's licence as an SPDX expression, or else in the package's own words."""
    found = distribution(package)
    said = next(_what_it_says(found), "not given")
    parts = re.split(r"( AND | OR |\(|\))", said.replace("(MPL 2.0)", ""))  # it is no group
    return "".join(part if index % 2 else _spdx(part) for index, part in enumerate(parts))


def is_known(licence: str) -> bool:
    parts = [part for part in re.split(r" AND | OR |[()]", licence) if part.strip()]
    return all(part.strip() in KNOWN for part in parts)


def licences() -> str:
    """Return the list of packages and of the scripts in ``static/vendor``."""
    packages = [(package, version, licence_of(package)) for package, version in shipped().items()]
    scripts = [
        (text.parent.name, "in `static/vendor`", _spdx(text.read_text().split("\n")[0]))
        for text in (ROOT / "static" / "vendor").glob("*/LICENSE")
    ]
    return _HEAD + "".join(f"| {' | '.join(row)} |\n" for row in sorted(packages + scripts))


def _what_it_says(found: Distribution) -> Iterator[str]:
    """Yield the licences that a package declares, the most precise first."""
    metadata = found.metadata
    yield from metadata.get_all("License-Expression", [])
    yield from (text for text in metadata.get_all("License", []) if text and "\n" not in text)
    classifiers = metadata.get_all("Classifier", [])
    names = [entry.split(" :: ")[-1] for entry in classifiers if entry.startswith("License :: ")]
    if names:
        yield " OR ".join(names)
    for file in found.files or []:
        if file.name.upper().startswith("LICEN"):
            yield file.read_text().lstrip().split("\n")[0]


def _spdx(text: str) -> str:
    plain = text.strip()
    for name, pattern in KNOWN.items():
        if re.fullmatch(pattern, plain, re.IGNORECASE):
            return name
    return plain


def _is_here(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    LICENCES.write_text(licences())
