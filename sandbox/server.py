"""The sandbox: stand-ins for everything outside the product, in one aiohttp application.

``/twilio`` is the carrier's REST API, ``/phone`` the API that places calls by hand, ``/openai`` the
models, ``/backend`` a customer's backend.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

from aiohttp import web

from sandbox.backend import Backend
from sandbox.constants import SANDBOX_ACCOUNT_SID, SANDBOX_AUTH_TOKEN
from sandbox.model import ModelServer
from sandbox.phone import control, rest
from sandbox.phone.exchange import Phone


def create_app(*, voice_url: str) -> web.Application:
    """Return the application; each part cleans up after itself when it stops.

    :param voice_url: the webhook for inbound calls.
    """
    app = web.Application()
    app.router.add_get("/livez", _livez)
    add_phone(app, voice_url=voice_url)
    ModelServer().add_routes(app)
    Backend(os.environ.get("SANDBOX_WEBHOOK_SECRETS", "").split()).add_routes(app)
    return app


def add_phone(app: web.Application, *, voice_url: str) -> Phone:
    """Run a telephone network for as long as the application runs."""
    phone = Phone(
        voice_url=voice_url, account_sid=SANDBOX_ACCOUNT_SID, auth_token=SANDBOX_AUTH_TOKEN
    )
    rest.add_routes(app, phone)
    control.add_routes(app, phone)

    async def run(_app: web.Application) -> AsyncIterator[None]:
        async with phone:
            yield

    app.cleanup_ctx.append(run)
    return phone


async def _livez(_request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})
