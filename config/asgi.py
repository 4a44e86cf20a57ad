"""The ``engine`` process: ``/voice`` over HTTP, and the media listener beside it.

Gunicorn's ASGI worker sends lifespan events: the media listener starts and drains with them.
"""

from __future__ import annotations

import os
from typing import Any

from django.conf import settings
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

django = get_asgi_application()

from core.boundary import BoundedASGIRequest  # noqa: E402 (needs the apps loaded)
from core.health import stop_being_ready  # noqa: E402
from operations.metrics.exporting import is_exported  # noqa: E402
from telephony.voice.media import MediaListener  # noqa: E402

django.request_class = BoundedASGIRequest


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    else:
        await django(scope, receive, send)


async def _lifespan(receive: Any, send: Any) -> None:
    await receive()
    try:
        listener = await MediaListener.start(settings.HOST, settings.MEDIA_PORT)
    except OSError as error:
        await send({"type": "lifespan.startup.failed", "message": str(error)})
        return
    if is_exported():
        from operations.metrics.measuring import measure_loop

        measure_loop()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    stop_being_ready()
    await listener.drain()
    await send({"type": "lifespan.shutdown.complete"})
