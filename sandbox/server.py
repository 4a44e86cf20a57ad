"""The sandbox: the stand-ins for what is outside the product, in one aiohttp application.

Each part adds its own routes: the phone below ``/twilio`` and ``/phone``.
"""

from __future__ import annotations

from aiohttp import web


def create_app() -> web.Application:
    """Return the application; every part cleans up after itself when it stops."""
    app = web.Application()
    app.router.add_get("/livez", _livez)
    return app


async def _livez(_request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})
