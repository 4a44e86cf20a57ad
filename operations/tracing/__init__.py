"""Traces for OpenTelemetry, if ``OTEL_EXPORTER_OTLP_ENDPOINT`` is set.

``tracing`` makes spans of facts (``core.observers``), and ``exporting`` sends them. Nothing of
OpenTelemetry is imported unless it is on.
"""

from __future__ import annotations

from django.conf import settings


def trace() -> None:
    """Export traces of what happens in this process from now on. Call it once, after all forks."""
    if settings.OTEL_EXPORTER_OTLP_ENDPOINT:
        from operations.tracing.exporting import Exporter
        from operations.tracing.tracing import Tracer

        Tracer(Exporter(settings.OTEL_EXPORTER_OTLP_ENDPOINT).add).subscribe()
