"""The model's audio: what it says, what it keeps while the caller speaks, and fixtures."""

from __future__ import annotations

import base64

from sandbox import speech
from sandbox.model.base import Event
from sandbox.model.conversation import decode_audio
from sandbox.model.errors import ClientError
from sandbox.model.live.clocked import ClockedSession
from sandbox.model.live.transcripts import Transcripts
from sandbox.model.live.voice import STEP_BYTES, Voice

# What the model takes to fall silent when it is interrupted, and to find words.
YIELDING_MS = 200.0
UTTERING_MS = 600.0
LONGEST_FIXTURE_MS = 30_000
FIXTURE_BYTES_PER_MS = 48


class Speaker:
    def __init__(self, session: ClockedSession, transcripts: Transcripts) -> None:
        self._session = session
        self._transcripts = transcripts
        self._voice = Voice()
        self._kept: list[str] = []
        self._fixture: str | None = None
        self.has_spoken = False
        self.is_interrupted = False  # the caller speaks
        self.is_playing_fixture = False

    @property
    def remaining_ms(self) -> int:
        """How long it will go on speaking; 0 if it is silent."""
        return self._voice.remaining_ms

    def step(self) -> None:
        """Send the audio of the next step."""
        was_playing = self.is_playing_fixture
        audio = self._voice.step()
        # A chunk of audio has neither an id nor a time.
        delta = base64.b64encode(audio).decode()
        self._session.send({"type": "session.output_audio.delta", "delta": delta})
        self._transcripts.hear_model(b"\xff" * STEP_BYTES if was_playing else audio)
        if was_playing and not self._voice.remaining_ms:
            self.is_playing_fixture = False
            self._session.answer({"event_id": self._fixture}, "session.output_audio.fixture.played")

    # Words

    def say(self, text: str, at_most_ms: int | None = None) -> None:
        self.has_spoken = True
        self._voice.say(text, at_most_ms)

    def utter(self, text: str) -> None:
        """Find words for what the model has come to know, when the caller lets it."""
        self._session.after(UTTERING_MS, lambda: self._say_or_keep(text))

    def _say_or_keep(self, text: str) -> None:
        if self.is_interrupted:
            self._kept.append(text)
        else:
            self.say(text)

    def stop(self) -> None:
        self._voice.stop()

    def interrupt(self) -> None:
        """Fall silent, because the caller speaks."""
        self.is_interrupted = True
        self._session.after(YIELDING_MS, self._voice.stop)

    def resume(self) -> bool:
        """Utter what was kept while the caller spoke; return True if there was something."""
        self.is_interrupted = False
        kept, self._kept = self._kept, []
        for text in kept:
            self.utter(text)
        return bool(kept)

    # Fixtures

    def play_fixture(self, event: Event) -> None:
        self.expect_no_fixture()
        audio = decode_audio(event["audio"], "audio")
        if not audio or len(audio) % 2 or len(audio) > LONGEST_FIXTURE_MS * FIXTURE_BYTES_PER_MS:
            raise ClientError(
                "Invalid 'audio': expected 16-bit PCM at 24 kHz, at most 30 seconds.",
                code="invalid_audio",
                param="audio",
            )
        self._voice.stop()
        self._voice.play(speech.frames_of_pcm24(audio))
        self.is_playing_fixture = True
        self._fixture = event.get("event_id")
        self._session.answer(event, "session.output_audio.fixture.playing")

    def expect_no_fixture(self) -> None:
        if self.is_playing_fixture:
            raise ClientError("An audio fixture is active.", code="audio_fixture_active")
