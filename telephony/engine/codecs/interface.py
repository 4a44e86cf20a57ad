"""The interface between a call and a model: one codec for each protocol that models speak."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from telephony.engine.commands import Command
from telephony.engine.events import Event
from telephony.engine.playback import Playback
from telephony.engine.twilio_codec import Encoder

Send = Callable[[bytes], None]


class AgentAudio(Protocol):
    """The model's audio on its way to the caller: most of it passes without being parsed."""

    def take(self, text: bytes) -> bytes | None:
        """Convert a message from the model to one for Twilio; None if it must be parsed."""

    def play(self, item_id: str, payload: bytes) -> bool:
        """Send the caller a frame; return True if it is the first one of its item."""

    def settle(self) -> None:
        """Report the passed frames to the playback."""

    def resume(self) -> None:
        """Let frames pass again."""


class Codec(Protocol):
    """Translates between a call and one protocol. A call has a codec of its own.

    Nothing that a model sends makes a codec raise.
    """

    @property
    def hears_at_once(self) -> bool:
        """True if the model takes audio with its configuration, False if only after it."""

    def decode(self, message: object) -> Sequence[Event]:
        """Return the events of a parsed message, in order; none if it changes nothing."""

    def due(self) -> list[dict[str, Any]]:
        """Return the messages that waited for what has been decoded."""

    def closed(self) -> Sequence[Event]:
        """Return the events of what was still coming when the model's socket closed."""

    def audio(self, message: object) -> tuple[str, bytes] | None:
        """Return ``(item_id, base64)`` of a parsed message with audio; None for any other."""

    def encode(self, command: Command) -> list[dict[str, Any]]:
        """Return the messages for a command, as JSON types, in the order to send them in."""

    def append_audio(self, payload: bytes) -> bytes:
        """Return the message that sends the model a frame of the caller's audio."""

    def caller_frame(self, text: bytes) -> bytes | None:
        """Convert Twilio's media message to one for the model; None if it must be parsed."""

    def agent_audio(
        self, send: Send, encoder: Encoder, playback: Playback, clock: Callable[[], float]
    ) -> AgentAudio:
        """Return the way of the model's audio to the caller, for one call."""
