"""``manage.py sandbox``: run the stand-ins in the foreground."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from core.engine_urls import engine_voice_url
from sandbox.server import create_app


class Command(BaseCommand):
    help = "Run the sandbox: a carrier, a realtime model and a customer's backend, on SANDBOX_PORT."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=settings.SANDBOX_PORT)

    def handle(self, *_args: Any, host: str, port: int, **_options: Any) -> None:
        self.stdout.write(f"The sandbox listens on http://{host}:{port}. Ctrl-C stops it.")
        self.stdout.flush()
        try:
            web.run_app(
                create_app(voice_url=engine_voice_url()),
                host=host,
                port=port,
                print=None,
                access_log=None,
                shutdown_timeout=2,
            )
        except OSError as error:
            raise CommandError(f"The sandbox cannot listen on port {port}: {error}") from None
