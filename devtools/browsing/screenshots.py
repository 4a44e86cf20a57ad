"""``bin/screenshots``: every page at two widths, light and dark."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from devtools.browsing.chromium import (
    DESKTOP,
    EXECUTABLE,
    IS_MISSING,
    PHONE,
    Watch,
    is_too_wide,
    launched,
)
from devtools.browsing.failures import FAILURES
from devtools.browsing.people import contexts, make_operator, make_people
from devtools.browsing.places import PLACES, Place
from devtools.development import LOCAL_DIR
from devtools.isolated import run_isolated
from devtools.processes import Processes

FOLDER = LOCAL_DIR / "screenshots"

# Each failure's call, the list of them, and the emails about them.
_FAILURES = [
    *(Place(each.slug, f"/dashboard/calls/{{{each.slug}}}", "customer") for each in FAILURES),
    Place("failures", "/dashboard/calls?outcome=failed", "customer"),
    Place("failures-all", "/dashboard/calls", "customer"),
    Place("failures-callbacks", "/dashboard/callbacks", "customer"),
    Place("failures-mails", "/sandbox/mail/", "visitor"),
]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="bin/screenshots", description=__doc__)
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="only pages with TEXT in their name"
    )
    parser.add_argument(
        "--to", type=Path, default=FOLDER, help="the folder to write to (%(default)s)"
    )
    parser.add_argument("--of", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if EXECUTABLE is None:
        sys.exit(f"bin/screenshots: {IS_MISSING}")
    if options.of:
        sys.exit(_take(options.only, options.to))
    own = [*(sys.executable, "-m", "devtools.browsing.screenshots"), "--of=isolated"]
    own += [f"--only={options.only}", f"--to={options.to}"]

    async def work(processes: Processes) -> None:
        await make_operator(processes)
        await processes.run("screenshots", *own, own_output=True)

    run_isolated("screenshots", work)


def _take(only: str, folder: Path) -> int:
    """Take all screenshots; return 1 if a page has a problem."""
    url = os.environ["ISOLATED_URL"]
    folder.mkdir(parents=True, exist_ok=True)
    places = [place for place in (*PLACES, *_FAILURES) if only in place.name]
    ids = make_people(
        url,
        os.environ["ISOLATED_SANDBOX_URL"],
        with_failures=any(place in _FAILURES for place in places),
    )
    wrong = 0
    with launched() as browser:
        for size in (DESKTOP, PHONE):
            for dark in (False, True):
                people = contexts(browser, url, size, dark=dark)
                for place in places:
                    page = people[place.who].new_page()
                    watch = Watch(page, allowed=place.allowed)
                    page.goto(url + place.path.format(**ids), wait_until="networkidle")
                    name = f"{place.name}-{size[0]}-{'dark' if dark else 'light'}.png"
                    page.screenshot(path=folder / name, full_page=True)
                    problems = [*watch.problems, *(["too wide"] if is_too_wide(page) else [])]
                    sys.stdout.write(f"{name}{''.join(f'  {each}' for each in problems)}\n")
                    wrong += bool(problems)
                    page.close()
    return int(wrong > 0)


if __name__ == "__main__":
    main()
