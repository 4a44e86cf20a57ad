"""The parts of the guides that follow from the code. ``manage.py write_docs`` writes them.

In the Markdown, a table lies between ``<!-- table: NAME -->`` and ``<!-- end of table -->``, and
sections between ``<!-- sections: NAME -->`` and ``<!-- end of sections -->``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from operations.conditions import CONDITIONS
from operations.doctor.checks import CHECKS
from telephony.callbacks.configuration import CONFIGURATION, REFUSAL, Answer, Field
from telephony.engine.codes import EndedReason, ErrorCode, EventKind
from telephony.engine.models import (
    BACKEND_MODEL,
    MODELS,
    SEEN,
    TRANSCRIPTION_MODEL,
    TRANSCRIPTION_PER_MINUTE,
    UNLISTED,
    Model,
    Price,
    Prices,
)
from telephony.explanations import OTHER_MODEL_CODES, SECTIONS, Section

_WRITTEN = re.compile(
    r"<!-- (?P<what>table|sections): (?P<name>\S+) -->\n.*?<!-- end of (?P=what) -->\n", re.DOTALL
)
_MARKER = re.compile(r"<!-- (?:(?:table|sections): \S+|end of (?:table|sections)) -->\n\n?")

Row = tuple[str, ...]


def with_tables(text: str) -> str:
    """Return a guide's Markdown with each table and section as the code has it now."""
    return _WRITTEN.sub(_between_markers, text)


def without_markers(text: str) -> str:
    """Return a guide's Markdown as its readers have it."""
    return _MARKER.sub("", text)


def _between_markers(found: re.Match[str]) -> str:
    what, name = found["what"], found["name"]
    lines = _table(TABLES[name]()) if what == "table" else PARTS[name]()
    return "\n".join([f"<!-- {what}: {name} -->", "", *lines, "", f"<!-- end of {what} -->", ""])


def _table(rows: Iterable[Row]) -> list[str]:
    header, *rest = rows
    return [_line(header), "|---" * len(header) + "|", *map(_line, rest)]


def _line(row: Row) -> str:
    return f"| {' | '.join(row)} |"


def _fields(answer: Answer) -> Iterable[Row]:
    yield "field", "type", "default", "what it is"
    for field in answer.fields:
        yield f"`{field.name}`", field.kind.type, _default(field), field.in_words()


def _default(field: Field) -> str:
    if field.is_required:
        return "required"
    return f"`{field.default}`" if field.default else "none"


def _ended_reasons() -> Iterable[Row]:
    yield "value", "why the call ended"
    for reason in EndedReason:
        yield _linked(SECTIONS[reason]), reason.meaning


def _error_codes() -> Iterable[Row]:
    yield "code", "what happened"
    for each in (*(SECTIONS[code] for code in ErrorCode), OTHER_MODEL_CODES):
        yield _linked(each), each.meaning


def _linked(each: Section) -> str:
    return f"[`{each.code}`](#{each.anchor})"


def _event_kinds() -> Iterable[Row]:
    yield "`kind`", "what happened", "`detail`"
    for kind in EventKind:
        yield f"`{kind}`", f"{kind.meaning}.", kind.detail


def _checks() -> Iterable[Row]:
    yield "`--only`", "check", "what it looks for"
    for check in CHECKS:
        yield f"`{check.key}`", check.title, check.finds


def _codes() -> Iterable[str]:
    """Each code has a heading of its own, which also gives links an anchor."""
    for at, each in enumerate(SECTIONS.values()):
        yield from ("",) * bool(at)
        yield f"### {each.heading}"
        for paragraph in _paragraphs(each):
            yield from ("", paragraph)


def _paragraphs(each: Section) -> Iterable[str]:
    yield each.meaning
    if each.cause:
        yield f"**Cause:** {each.cause}"
    if each.remedy:
        yield f"**What to do:** {each.remedy}"


def _metrics(*, from_database: bool) -> Iterable[Row]:
    # Not before: a process decides how to keep its values when it imports prometheus_client.
    from operations.metrics import certificates, figures, meters

    named = (*vars(figures).values(), certificates.EXPIRES)
    gauges = {each._name for each in named if isinstance(each, figures.Gauge)}
    yield "metric", "labels", "what it is"
    for metric in meters.REGISTRY.collect():
        if (metric.name in gauges) is from_database:
            yield _metric(metric, labels=meters.labels_of(metric.name))


def _metric(metric: Any, *, labels: tuple[str, ...]) -> Row:
    name = f"{metric.name}_total" if metric.type == "counter" else metric.name
    return f"`{name}`", " ".join(f"`{label}`" for label in labels), metric.documentation


def _conditions() -> Iterable[Row]:
    yield "message", "severity", "figure", "what it means, and what to do"
    for each in CONDITIONS:
        see = f"See [{each.section.replace('-', ' ')}](#{each.section})."
        yield each.title, str(each.severity), each.label, f"{each.meaning} {each.remedy} {see}"


def _models() -> Iterable[Row]:
    text, audio = "text: input / cached / output", "audio: input / cached / output"
    yield "model", text, audio, "a minute", "`reasoningEffort`", "retires"
    for model in MODELS.values():
        reasons = "yes" if "reasoning" in model.features else "no"
        yield f"`{model.name}`", *_model_prices(model.prices), reasons, _retires(model)


def _model_prices(prices: Prices | None) -> tuple[str, str, str]:
    if prices is None:
        return ("not listed",) * 3
    per_minute = f"${prices.per_minute}" if prices.per_minute else "none"
    return _price(prices.text), _price(prices.audio), per_minute


def _price(price: Price) -> str:
    return f"${price.input} / ${price.cached} / ${price.output}" if price.output else "none"


def _retires(model: Model) -> str:
    if model.ends is None:
        return "no date announced"
    return f"{model.ends.isoformat()}: use `{model.instead}`"


def _about_prices() -> Iterable[str]:
    live = UNLISTED["live"]
    yield (
        f"Prices are in USD for a million tokens, as OpenAI published them in {SEEN:%B %Y}. With a "
        f"Realtime model, `{TRANSCRIPTION_MODEL}` transcribes what the caller says, for "
        f"${TRANSCRIPTION_PER_MINUTE} a minute of speech. The text of a Live model is that of "
        f"`{BACKEND_MODEL}`, which runs its tools. A model without prices here is estimated with "
        f"those of `{UNLISTED['realtime']}`, or of `{live}` if its name begins with `gpt-live`."
    )


# By name, rows of Markdown: the header first.
TABLES: Mapping[str, Callable[[], Iterable[Row]]] = {
    "call-configuration": partial(_fields, CONFIGURATION),
    "conditions": _conditions,
    "call-rejection": partial(_fields, REFUSAL),
    "checks": _checks,
    "ended-reasons": _ended_reasons,
    "error-codes": _error_codes,
    "event-kinds": _event_kinds,
    "figures": partial(_metrics, from_database=True),
    "models": _models,
    "metrics": partial(_metrics, from_database=False),
}

# By name, lines of Markdown.
PARTS: Mapping[str, Callable[[], Iterable[str]]] = {"codes": _codes, "model-prices": _about_prices}
