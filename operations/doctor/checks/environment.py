"""Checks of the environment: variables, Django's own checks, where servers listen."""

from __future__ import annotations

import os
from collections.abc import Iterable
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path

from django.conf import settings
from django.core import checks as django_checks

from core.static_files import fault_of_static_files
from operations.doctor.findings import Check, Finding, Options, failed, ok, warning

# Nobody mistypes these few letters, and other programs have variables like them.
_SHORTEST_NAME = 5
_LIKE = 0.84
# The id of the check that has a finding of its own here.
_STATIC_FILES = "switchhook.W001"
_CONTAINER_FILES = ("/.dockerenv", "/run/.containerenv")


def _settings(subject: str, options: Options) -> Iterable[Finding]:
    environment = settings.ENVIRONMENT
    for problem in environment.problems:
        yield failed(
            str(problem),
            "Correct it for every process, and restart them: see docs/environment-variables.md.",
        )
    if environment.is_good("DEBUG") and settings.DEBUG:
        yield failed(
            "DEBUG is on, which is for development: errors show their causes to everybody, and "
            "stand-ins may replace Stripe, Twilio and OpenAI.",
            "Unset DEBUG and restart every process.",
        )
    elif not environment.problems:
        yield ok("Nothing is missing or wrong.")


SETTINGS = Check(
    "settings",
    "Settings",
    "Variables that are missing, wrong or unsafe, such as a weak `SECRET_KEY`; `DEBUG`.",
    _settings,
)


def _names(subject: str, options: Options) -> Iterable[Finding]:
    known = settings.ENVIRONMENT.names
    found = False
    for name in sorted(os.environ.keys() - known):
        like = get_close_matches(name.upper(), known, n=1, cutoff=_LIKE)
        if like and len(name) >= _SHORTEST_NAME:
            found = True
            yield warning(
                f"{name} is set, and means nothing to Switchhook. Did you mean {like[0]}?",
                f"Rename it to {like[0]} if it is meant for Switchhook. Otherwise ignore this.",
            )
    if not found:
        yield ok("No variable looks like a misspelled one.")


NAMES = Check("names", "Names of variables", "Variables that look like misspelled ones.", _names)


def _django(subject: str, options: Options) -> Iterable[Finding]:
    fault = "" if settings.DEBUG else fault_of_static_files()
    if fault:
        said, _, command = fault.partition(" Run: ")
        yield failed(
            f"{said} Web processes and engines do not start.",
            f"Run {command or 'python manage.py collectstatic --noinput'}",
        )
    messages = django_checks.run_checks(include_deployment_checks=not settings.DEBUG)
    shown = [each for each in messages if not each.is_silenced() and each.id != _STATIC_FILES]
    for message in shown:
        make = failed if message.is_serious() else warning
        yield make(
            f"{message.msg.rstrip('.')} ({message.id}).",
            message.hint or "Run manage.py check --deploy, and see Django's documentation.",
        )
    if not (shown or fault):
        yield ok("Django's checks for a deployment find nothing, and static files are collected.")


DJANGO = Check(
    "django",
    "Django",
    "What Django's own checks for a deployment say, such as static files that were not collected.",
    _django,
    needs=("SECRET_KEY",),
)


def _listening(subject: str, options: Options) -> Iterable[Finding]:
    address = ip_address(settings.HOST)
    if address.is_loopback:
        yield ok(f"Servers started with this environment listen on {address} only.")
    elif _is_container():
        yield ok(f"Servers listen on {address}, in a container, whose network keeps others out.")
    elif address.is_unspecified or address.is_global:
        yield warning(
            f"Servers started with this environment listen on {address}: who can connect to them "
            "without the proxy can forge X-Forwarded-For and X-Forwarded-Proto.",
            "Set HOST to 127.0.0.1 if the proxy is on this machine, or to the address at which it "
            "reaches this one. If you cannot, let a firewall keep others out.",
        )
    else:
        yield ok(f"Servers started with this environment listen on {address}, a private address.")


def _is_container() -> bool:
    return "KUBERNETES_SERVICE_HOST" in os.environ or any(
        Path(name).exists() for name in _CONTAINER_FILES
    )


LISTENING = Check(
    "listening",
    "Listening",
    "Whether servers listen on addresses at which others can bypass the proxy.",
    _listening,
    needs=("HOST",),
)
