"""Parses TwiML as Twilio does: an invalid document is an error, an unknown verb a warning."""

from __future__ import annotations

import xml.etree.ElementTree as ET  # nosec B405 # reads what the developer's own server answers
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urljoin

_SAYING = frozenset({"voice", "loop", "language"})
_ASKING = frozenset({"action", "method"})
_STREAM = frozenset(
    {"url", "name", "track", "connectorName", "statusCallback", "statusCallbackMethod"}
)

# Supported verbs and nouns, with their attributes.
_KNOWN: dict[str, frozenset[str]] = {
    "Play": frozenset({"loop", "digits"}),
    "Say": _SAYING,
    "Pause": frozenset({"length"}),
    "Gather": _ASKING
    | {"input", "timeout", "numDigits", "finishOnKey", "actionOnEmptyResult", "speechTimeout"},
    "Reject": frozenset({"reason"}),
    "Hangup": frozenset(),
    "Redirect": frozenset({"method"}),
    "Connect": _ASKING,
    "Stream": _STREAM,
    "Parameter": frozenset({"name", "value"}),
    "Dial": _ASKING | {"timeout", "timeLimit", "callerId", "answerOnBridge", "hangupOnStar"},
    "Number": frozenset(),
}
# Twilio's verbs and nouns that are not supported here.
_NOT_HERE = frozenset(
    {"Client", "Conference", "ConversationRelay", "Echo", "Enqueue", "Leave", "Pay", "Prompt"}
    | {"Queue", "Record", "Refer", "Sim", "Sip", "Siprec", "Sms", "Start", "Stop", "Task"}
    | {"Transcription", "VirtualAgent"}
)


class TwimlError(Exception):
    """Twilio gives up on the document: the caller hears that an application error has occurred."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(f"{code}: {message}")


@dataclass(frozen=True, slots=True)
class Verb:
    name: str
    attributes: dict[str, str]
    text: str
    children: tuple[Verb, ...]

    def get(self, name: str, default: str = "") -> str:
        return self.attributes.get(name, default)

    def number(self, name: str, default: float) -> float:
        """Return the attribute as a number; an invalid one counts as absent."""
        try:
            return float(self.attributes[name])
        except (KeyError, ValueError):
            return default

    def child(self, name: str) -> Verb | None:
        return next((child for child in self.children if child.name == name), None)


@dataclass(frozen=True, slots=True)
class Document:
    """A document; ``url`` is its own address, to which the addresses in it are relative."""

    verbs: tuple[Verb, ...]
    url: str = ""
    warnings: tuple[str, ...] = field(default=())

    def address(self, reference: str) -> str:
        return urljoin(self.url, reference)


def parse(text: str, url: str = "") -> Document:
    """Parse a document; raise :class:`TwimlError` if it is not TwiML."""
    try:
        root = ET.fromstring(text)  # noqa: S314 # nosec B314 # as above
    except ET.ParseError as error:
        raise TwimlError(12100, f"Document parse failure: {error}") from None
    if root.tag != "Response":
        raise TwimlError(12100, f"Document parse failure: the root is {root.tag}, not Response")
    verbs = tuple(map(_verb, root))
    return Document(verbs, url, tuple(_warnings(verbs)))


def _verb(element: ET.Element) -> Verb:
    children = tuple(map(_verb, element)) if element.tag != "Say" else ()
    text = " ".join("".join(element.itertext()).split()) if not children else ""
    return Verb(element.tag, dict(element.attrib), text, children)


def _warnings(verbs: tuple[Verb, ...]) -> Iterator[str]:
    for verb in verbs:
        if verb.name in _NOT_HERE:
            yield f"<{verb.name}> is not simulated"
        elif verb.name not in _KNOWN:
            yield f"Schema validation warning: <{verb.name}> is unknown"
        else:
            for name in sorted(verb.attributes.keys() - _KNOWN[verb.name]):
                yield f"Schema validation warning: {name} is no attribute of <{verb.name}>"
            yield from _warnings(verb.children)
