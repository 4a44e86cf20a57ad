"""Sends spans to a collector, over OTLP/HTTP, in the background.

A span that is added waits in a bounded queue for a thread. Nothing else waits for the collector:
while it is slow or down, the oldest spans are dropped.
"""

from __future__ import annotations

import atexit
import logging
from collections.abc import Mapping, Sequence
from threading import Event, Thread
from time import monotonic

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from core.logs import process_name
from core.version import VERSION
from operations.tracing.spans import Kind, Span

log = structlog.get_logger(__name__)

# Of the few dozen spans of a call. Small batches, because encoding one competes with the audio.
MOST_WAITING = 4096
BATCH = 128
EVERY_MS = 2000
TIMEOUT_S = 10
# What a process that exits waits for its last spans.
LAST_S = 2.0
_TELL_EVERY_S = 60.0

_KINDS = {
    Kind.INTERNAL: SpanKind.INTERNAL,
    Kind.SERVER: SpanKind.SERVER,
    Kind.CLIENT: SpanKind.CLIENT,
}
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class Exporter:
    def __init__(self, endpoint: str) -> None:
        # Its own lines would repeat what the collector responds, for each batch.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._resource = Resource.create(
            {
                "service.name": "switchhook",
                "service.version": VERSION,
                "switchhook.process": process_name(),
            }
        )
        exporter = OTLPSpanExporter(f"{endpoint}/v1/traces", timeout=TIMEOUT_S)
        self._sender = _Telling(exporter)
        self._queue = BatchSpanProcessor(
            self._sender,
            max_queue_size=MOST_WAITING,
            max_export_batch_size=BATCH,
            schedule_delay_millis=EVERY_MS,
        )
        self._is_stopping, self._has_stopped = Event(), Event()
        # Here, because a process that exits starts no thread.
        Thread(target=self._shut_down_when_told, name="traces", daemon=True).start()
        atexit.register(self.stop)

    def add(self, span: Span) -> None:
        """Queue a span."""
        self._queue.on_end(
            ReadableSpan(
                span.name,
                context=_context(span.trace, span.id),
                parent=_context(span.trace, span.parent) if span.parent else None,
                resource=self._resource,
                attributes=_known(span.attributes),
                kind=_KINDS[span.kind],
                status=Status(StatusCode.ERROR if span.is_error else StatusCode.UNSET),
                start_time=span.start_ns,
                end_time=max(span.end_ns, span.start_ns),
            )
        )

    def stop(self) -> None:
        """Send what waits, for a moment, and stop."""
        self._is_stopping.set()
        self._has_stopped.wait(LAST_S)
        self._sender.is_over = True

    def _shut_down_when_told(self) -> None:
        self._is_stopping.wait()
        self._queue.shutdown()
        self._has_stopped.set()


class _Telling(SpanExporter):
    """Logs, at most once a minute, that spans could not be exported."""

    def __init__(self, exporter: SpanExporter) -> None:
        #: True once nothing more may be sent.
        self.is_over = False
        self._exporter = exporter
        self._lost = 0
        self._told_at = -_TELL_EVERY_S

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE if self.is_over else self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS and not self.is_over:
            self._lost += len(spans)
            if monotonic() - self._told_at > _TELL_EVERY_S:
                log.warning("traces_not_exported", spans=self._lost)
                self._lost, self._told_at = 0, monotonic()
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


def _context(trace: str, span: str) -> SpanContext:
    return SpanContext(int(trace, 16), int(span, 16), is_remote=False, trace_flags=_SAMPLED)


def _known(attributes: Mapping[str, object]) -> dict[str, str | bool | int | float]:
    return {
        name: value
        for name, value in attributes.items()
        if isinstance(value, str | bool | int | float) and value != ""
    }
