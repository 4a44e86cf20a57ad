"""What happens to a call, as :class:`~telephony.engine.session.CallSession` is told it.

Frames of audio are not among them: they pass by the session (see ``relay``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from telephony.engine.costs import TokenUsage

# From the caller's side


@dataclass(frozen=True, slots=True)
class DigitPressed:
    digit: str


@dataclass(frozen=True, slots=True)
class CallerTyped:
    """The caller wrote what others say; only in a test call."""

    text: str


@dataclass(frozen=True, slots=True)
class MarkPlayed:
    """All audio that was sent before the mark has been played, or was cleared."""

    name: str


@dataclass(frozen=True, slots=True)
class CallerHungUp:
    """The media stream has ended, for whatever reason on the caller's side."""


# From the model's side


@dataclass(frozen=True, slots=True)
class ModelReady:
    """The model's session exists and waits for its configuration."""


@dataclass(frozen=True, slots=True)
class ModelConfigured:
    pass


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The caller began to speak; ``item_id`` is the item that the speech will become."""

    item_id: str


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    item_id: str


@dataclass(frozen=True, slots=True)
class SpeechCommitted:
    """The caller's turn has become an item, so it is over; this comes after ``SpeechStopped``."""

    item_id: str


@dataclass(frozen=True, slots=True)
class ItemAdded:
    """An item joined the conversation behind ``previous_item_id`` (None: it is the first)."""

    item_id: str
    previous_item_id: str | None
    type: str
    role: str


@dataclass(frozen=True, slots=True)
class CallerTranscribed:
    """What the caller said, and how many seconds of audio the transcription is billed for."""

    item_id: str
    text: str
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class AgentTranscribed:
    """What the model said, whether or not the caller heard all of it."""

    item_id: str
    text: str


@dataclass(frozen=True, slots=True)
class AgentAudioStarted:
    """The first frame of the item is on its way to the caller."""

    item_id: str


@dataclass(frozen=True, slots=True)
class AgentAudioEnded:
    """All audio of the item has been generated."""

    item_id: str


@dataclass(frozen=True, slots=True)
class ResponseStarted:
    response_id: str


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """A tool call that the model completed.

    ``arguments`` is JSON text as the model wrote it; None if it wrote something else.
    """

    call_id: str
    name: str
    arguments: str | None


@dataclass(frozen=True, slots=True)
class ResponseDone:
    """``status`` is completed, cancelled, incomplete or failed; the error goes with failed.

    ``reason`` says why it is incomplete, ``spoke`` whether it holds a message that was not just
    ``written``, ``said`` what was spoken, and ``unread`` how many items in it could not be
    understood.
    """

    response_id: str
    status: str
    calls: tuple[FunctionCall, ...] = ()
    reason: str = ""
    spoke: bool = False
    written: str = ""
    unread: int = 0
    usage: TokenUsage = field(default_factory=TokenUsage)
    error_code: str = ""
    error_message: str = ""
    said: tuple[AgentTranscribed, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelErrored:
    """``event_id`` names the event of ours that the error is about, ``param`` a field of it."""

    code: str
    message: str
    event_id: str = ""
    param: str = ""


@dataclass(frozen=True, slots=True)
class NotUnderstood:
    """The model sent something that cannot be read; ``what`` is its type, or says what it is."""

    what: str


@dataclass(frozen=True, slots=True)
class ModelClosed:
    """The model's socket is gone."""

    code: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ModelUnreachable:
    """The model's socket could not be opened; ``status`` is HTTP's when there was an answer."""

    reason: str
    status: int | None = None


# From our own side


@dataclass(frozen=True, slots=True)
class ToolReturned:
    call_id: str
    result: Any


@dataclass(frozen=True, slots=True)
class ToolFailed:
    """``message`` is a sentence that the model is told."""

    call_id: str
    message: str


@dataclass(frozen=True, slots=True)
class HangupRequested:
    """The customer asked over the API that the call ends."""


@dataclass(frozen=True, slots=True)
class TimePassed:
    """Sent when ``CallSession.deadline`` is reached; too early does no harm."""


Event = (
    DigitPressed
    | CallerTyped
    | MarkPlayed
    | CallerHungUp
    | ModelReady
    | ModelConfigured
    | SpeechStarted
    | SpeechStopped
    | SpeechCommitted
    | ItemAdded
    | CallerTranscribed
    | AgentTranscribed
    | AgentAudioStarted
    | AgentAudioEnded
    | ResponseStarted
    | ResponseDone
    | ModelErrored
    | NotUnderstood
    | ModelClosed
    | ModelUnreachable
    | ToolReturned
    | ToolFailed
    | HangupRequested
    | TimePassed
)
