"""The greeting of a call whose plan has a ``greeting_cache``.

If an earlier call has left the greeting, the caller hears it at once and the model learns that it
said it. Otherwise the model is asked for it, and what it says is recorded for other calls.
"""

from __future__ import annotations

from base64 import b64encode

from telephony.engine.actions import KeepGreeting, PlayAudio
from telephony.engine.answers import greeting
from telephony.engine.events import GreetingRecalled, ResponseDone
from telephony.engine.playback import MARK_EVERY_BYTES
from telephony.engine.spoken import GreetingAudio, SpokenGreeting, has_same_words
from telephony.engine.startup import Startup
from telephony.engine.state import CallState


class Greeting:
    def __init__(self, state: CallState, startup: Startup) -> None:
        self._state = state
        self._startup = startup
        if state.plan.greeting_cache and state.plan.greeting:
            state.playback.greeting_audio = GreetingAudio()

    # From the cache

    def recalled(self, event: GreetingRecalled) -> None:
        """Play the greeting, and go on as if a session of the model had said it."""
        state, spoken = self._state, event.spoken
        has_begun = self._startup.is_again or state.context.is_connected
        if has_begun or not spoken.audio:
            return
        state.playback.greeting_audio = None
        item_id = state.context.own_item()
        state.transcript.write(item_id, "assistant", spoken.text, state.now)
        state.transcript.settle()  # the model has it under another id, in its history
        self._play(item_id, spoken.audio)
        state.recalled_bytes = state.playback.total
        state.reply_times.audio_came(item_id, is_cached=True)
        self._startup.again(is_greeted=True, owes=False)
        state.rest()

    def _play(self, item_id: str, audio: bytes) -> None:
        """Send all of it: Twilio plays it in its own time. Marks tell how much has been heard."""
        state = self._state
        for begin in range(0, len(audio), MARK_EVERY_BYTES):
            second = audio[begin : begin + MARK_EVERY_BYTES]
            mark = state.playback.sent(item_id, len(second), state.now)
            state.do(PlayAudio(b64encode(second)))
            state.send_mark(mark)
        state.send_mark(state.playback.end(item_id))

    # For the cache

    def response_done(self, event: ResponseDone) -> None:
        """Keep the audio if the response was the greeting, whole and word for word."""
        state, collected = self._state, self._state.playback.greeting_audio
        if collected is None or event.status == "failed":  # another one follows
            return
        state.playback.greeting_audio = None
        wanted = state.plan.greeting
        if event.status != "completed" or not state.answers.has_ended(greeting(wanted)):
            return
        if len(event.said) == 1 and has_same_words(event.said[0].text, wanted):
            said = event.said[0]
            is_whole = state.playback.takes(said.item_id)  # else the caller interrupted it
            if is_whole and (audio := collected.audio_of(said.item_id)):
                state.do(KeepGreeting(SpokenGreeting(audio, said.text)))
