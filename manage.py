#!/usr/bin/env python
"""Django's command line for Switchhook."""

import os
import sys
from pathlib import Path


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from config.environment import Environment

    command = sys.argv[1] if len(sys.argv) > 1 else ""
    # An image is built before anybody has configured it, and the doctor says what is wrong.
    Environment.is_tolerant = command in ("collectstatic", "doctor")
    if Environment(os.environ).flag("DEBUG", default=False):
        from devtools.running import adopt_addresses

        adopt_addresses(Path(__file__).resolve().parent / ".local", os.environ)
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    from accounts.actors import SYSTEM, acting, shell

    try:
        # Its worker runs jobs, which nobody has typed in.
        with acting(SYSTEM if command == "procrastinate" else shell(command)):
            execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
