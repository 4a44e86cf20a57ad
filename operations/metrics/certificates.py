"""When the certificates of the public URLs expire. A worker connects every hour, as clients do."""

from __future__ import annotations

import math
import ssl
import threading
import time

import structlog
from django.conf import settings

from operations.doctor.network import Place, Unreachable, certificate_of
from operations.metrics.figures import gauge

log = structlog.get_logger(__name__)

EVERY_S = 3600.0

EXPIRES = gauge(
    "certificate_expires_timestamp_seconds",
    "When the certificate of `PUBLIC_URL`, `ENGINE_URL` or `MEDIA_URL` expires: 0 if it is not "
    "valid now, NaN if the worker cannot reach the address.",
    "address",
)
_URLS = {"public": "PUBLIC_URL", "engine": "ENGINE_URL", "media": "MEDIA_STREAM_URL"}


def watch() -> None:
    """Look at the certificates until this process ends, in a thread that nobody waits for."""
    threading.Thread(target=_look_on, name="certificates", daemon=True).start()


def _look_on() -> None:
    while True:
        try:
            look()
        except Exception as error:
            log.warning("certificates_not_read", error=type(error).__name__)
        time.sleep(EVERY_S)


def look() -> None:
    for address, setting in _URLS.items():
        place = Place.of(getattr(settings, setting))
        if place.is_encrypted:
            EXPIRES.labels(address).set(_expires_at(place))


def _expires_at(place: Place) -> float:
    try:
        return float(ssl.cert_time_to_seconds(certificate_of(place)["notAfter"]))
    except ssl.SSLError:
        return 0.0
    except Unreachable:
        return math.nan
