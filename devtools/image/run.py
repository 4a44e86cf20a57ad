"""``bin/image``: build, look inside, and run."""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from devtools.attack import namespace, run
from devtools.development import LOCAL_DIR
from devtools.image import contents
from devtools.image.buildah import DEBIAN, Buildah
from devtools.processes import Failed

_PROGRAMS = ("buildah", "debootstrap", "caddy", "setpriv", "chroot")
# What runs inside the network.
_INSIDE = "devtools.image.topology"


def main() -> None:
    options = parse()
    if reason := _why_not(options.base):
        run.skip(reason)
    run.exit_with("image", lambda environment: _work(environment, options))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bin/image",
        description="Build the image, look inside, run compose.yaml's topology from it, and make "
        "a simulated call through Caddy's TLS.",
        epilog="The exit status is 1 if anything is wrong, and 77 if it cannot run: it needs "
        "Linux, root, buildah, debootstrap and caddy (Debian's packages have these names).",
    )
    parser.add_argument(
        "--base", help="the base image (default: Debian's Python, made with debootstrap)"
    )
    parser.add_argument("--only-build", action="store_true", help="run nothing")
    return parser.parse_args()


def _why_not(base: str | None) -> str:
    if os.geteuid() != 0:
        return "it needs root"
    needed = [name for name in _PROGRAMS if name != "debootstrap" or base is None]
    if missing := [name for name in needed if shutil.which(name) is None]:
        return f"{', '.join(missing)} is missing"
    if namespace.command() is None:
        return run.NEEDS_NETWORK
    return ""


def _work(environment: dict[str, str], options: argparse.Namespace) -> int:
    buildah = Buildah(LOCAL_DIR / "image")
    (LOCAL_DIR / "image").mkdir(parents=True, exist_ok=True)
    with (LOCAL_DIR / "image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one run at a time has this storage
        return _build_and_run(buildah, environment, options)


def _build_and_run(
    buildah: Buildah, environment: dict[str, str], options: argparse.Namespace
) -> int:
    if options.base is None:
        with _timed("the base, with debootstrap"):
            buildah.make_base()
    with _timed("the image"):
        buildah.build(options.base or DEBIAN)
    configuration = buildah.configuration()
    with buildah.mounted() as root:
        if found := contents.faults(root, configuration):
            raise Failed(f"The image is not as it must be. {' '.join(found)}")
        if options.only_build:
            return 0
        variables = dict(entry.split("=", 1) for entry in configuration["Env"])
        with _timed("the topology"):
            return run.run_apart(
                _INSIDE,
                {
                    **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
                    **environment,
                    **{f"IMAGE_ENV_{name}": value for name, value in variables.items()},
                    "IMAGE_ROOT": str(root),
                },
            )


@contextmanager
def _timed(what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    sys.stdout.write(f"{what}: {time.monotonic() - began:.0f} s\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
