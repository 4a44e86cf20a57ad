"""Events that :class:`~telephony.engine.session.CallSession` receives.

Audio frames are not among them: they bypass the session (see ``codecs.relay``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from telephony.engine.costs import TokenUsage
from telephony.engine.spoken import SpokenGreeting

# From the caller


@dataclass(frozen=True, slots=True)
class DigitPressed:
    digit: str


@dataclass(frozen=True, slots=True)
class CallerTyped:
    """The caller typed a message instead of speaking; only in test calls."""

    text: str


@dataclass(frozen=True, slots=True)
class MarkPlayed:
    """All audio that was sent before the mark has been played, or was cleared."""

    name: str


@dataclass(frozen=True, slots=True)
class CallerHungUp:
    """The media stream ended on the caller's side, for any reason."""


@dataclass(frozen=True, slots=True)
class StreamBroke:
    """The media stream was lost, not ended: the caller may still be there."""


# From the model


@dataclass(frozen=True, slots=True)
class ModelReady:
    """The model's socket is open: nothing that the model sends first needs to be awaited."""


@dataclass(frozen=True, slots=True)
class ModelConfigured:
    """The model accepted its configuration.

    Its session expires at ``expires_at``, in Unix seconds; None if the model does not say when.
    """

    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The caller started to speak, ``ago_s`` before the model reported it.

    The speech will become the item ``item_id``.
    """

    item_id: str
    ago_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """The caller stopped speaking, ``ago_s`` before the model reported it."""

    item_id: str
    ago_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SpeechCommitted:
    """The caller's turn has become an item, so it has ended; follows ``SpeechStopped``."""

    item_id: str


@dataclass(frozen=True, slots=True)
class ItemAdded:
    """An item was added to the conversation after ``previous_item_id`` (None: it is the first).

    ``role`` is user or assistant for their turns, and something else for other items.
    """

    item_id: str
    previous_item_id: str | None
    role: str


@dataclass(frozen=True, slots=True)
class CallerTranscribed:
    """The caller's words, and the seconds of audio that the transcription is billed for."""

    item_id: str
    text: str
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class AgentTranscribed:
    """The agent's words, whether or not the caller heard all of them."""

    item_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Transcribing:
    """The words of a turn so far; the whole of them follows, unless the session breaks.

    ``role`` is user or assistant.
    """

    item_id: str
    role: str
    text: str


@dataclass(frozen=True, slots=True)
class AgentAudioStarted:
    """The first frame of the item was sent to the caller."""

    item_id: str


@dataclass(frozen=True, slots=True)
class AgentAudioEnded:
    """All audio of the item has been generated."""

    item_id: str


@dataclass(frozen=True, slots=True)
class SessionFull:
    """The session takes little more of what it is given: another one should follow soon."""


@dataclass(frozen=True, slots=True)
class SessionUsed:
    """So many more seconds of the session are billed; only of models billed by the minute."""

    seconds: float


@dataclass(frozen=True, slots=True)
class ResponseStarted:
    """A response began.

    A voice and its backend respond at the same time. Of what the backend does, ``is_backstage`` is
    True: no audio is of it. What the voice says without a request ``is_aside``: the requests are
    for the backend.
    """

    response_id: str
    is_backstage: bool = False
    is_aside: bool = False


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
    """``status`` is completed, cancelled, incomplete or failed; only failed has an error.

    ``reason`` says why the response is incomplete. ``spoke`` is True if it has a message that is
    not only text; ``written`` holds the text, ``said`` the transcripts of speech. ``unread`` counts
    the items that could not be read. Of one that ``is_backstage``, a voice says some time later
    what is ``written``; what the voice has said meanwhile is unknown. How one that ``is_aside``
    ended says nothing about the requests, see ``ResponseStarted``.
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
    is_backstage: bool = False
    is_aside: bool = False


@dataclass(frozen=True, slots=True)
class ModelErrored:
    """``about`` is the id of the command that the error is about, or anything else that it names.

    It is "" if the error names nothing.
    """

    code: str
    message: str
    about: str = ""


@dataclass(frozen=True, slots=True)
class ResponseCollided:
    """The model refused a request: it had already begun another response."""


@dataclass(frozen=True, slots=True)
class NotUnderstood:
    """The model sent an event that cannot be read; ``what`` is its type or a description."""

    what: str


@dataclass(frozen=True, slots=True)
class ModelClosed:
    """The model's socket was closed."""

    code: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ModelUnreachable:
    """The model's socket could not be opened; ``status`` is HTTP's if there was a response."""

    reason: str
    status: int | None = None


# From Switchhook


@dataclass(frozen=True, slots=True)
class GreetingRecalled:
    """The cache has the greeting of this call; comes before the model's socket is open."""

    spoken: SpokenGreeting


@dataclass(frozen=True, slots=True)
class ToolReturned:
    call_id: str
    result: Any


@dataclass(frozen=True, slots=True)
class ToolFailed:
    """``message`` is a sentence for the model."""

    call_id: str
    message: str


@dataclass(frozen=True, slots=True)
class HangupRequested:
    """A request to hang up from outside the call, such as through the API."""


@dataclass(frozen=True, slots=True)
class MoveDue:
    """The call is about to move, whether or not this is a turn boundary."""


@dataclass(frozen=True, slots=True)
class TimePassed:
    """Sent when ``CallSession.deadline`` is reached; harmless if it is early."""


Event = (
    DigitPressed
    | CallerTyped
    | MarkPlayed
    | CallerHungUp
    | StreamBroke
    | ModelReady
    | ModelConfigured
    | SpeechStarted
    | SpeechStopped
    | SpeechCommitted
    | ItemAdded
    | CallerTranscribed
    | AgentTranscribed
    | Transcribing
    | AgentAudioStarted
    | AgentAudioEnded
    | SessionFull
    | SessionUsed
    | ResponseStarted
    | ResponseDone
    | ModelErrored
    | ResponseCollided
    | NotUnderstood
    | ModelClosed
    | ModelUnreachable
    | GreetingRecalled
    | ToolReturned
    | ToolFailed
    | HangupRequested
    | MoveDue
    | TimePassed
)
