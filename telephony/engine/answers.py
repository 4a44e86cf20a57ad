"""Requests responses from the model, one at a time, and retries until each is heard or fails."""

from __future__ import annotations

import json

from telephony.engine.bounds import clipped
from telephony.engine.codes import EventKind, model_error_code
from telephony.engine.commands import AddText, AddToolResult, Respond
from telephony.engine.context import CallContext, ModelFailed
from telephony.engine.events import ModelErrored, ResponseDone, ResponseStarted
from telephony.engine.model_errors import FATAL_CODES, PASSING_CODES
from telephony.engine.plan import LONGEST_SPOKEN
from telephony.engine.playback import Playback
from telephony.engine.responses import OWED, PLAIN, Request, ResponseQueue
from telephony.engine.timers import Timer

ASKED_S = 10.0  # for a response that we requested to begin
ANSWER_S = 5.0  # for the model's own response to the caller's speech to begin
VOICE_S = 2.5  # for a voice to begin what its backend has written
ACTIVE_S = 30.0  # without audio, after which a response that began is lost
RETRY_S = 1.0  # before a retry, times the failures
MOST_FAILURES = 2  # in a row that are retried
MOST_UNSPOKEN = 2  # silent responses in a row, after which no other is requested

_EXACTLY = "saying exactly this, and nothing else: "
_FILTERED = Request(
    "Tell the caller in one short sentence that you cannot say that, and ask how else you can help."
)
_ALOUD = Request(aloud=True)


def greeting(text: str) -> Request:
    return Request(f"Greet the caller by {_EXACTLY}{_quoted(text)}")


def word_for_word(text: str) -> Request:
    return Request(f"Speak to the caller, {_EXACTLY}{_quoted(text)}")


def _quoted(text: str) -> str:
    return json.dumps(clipped(text, LONGEST_SPOKEN), ensure_ascii=False)


class Answers:
    """Raises :class:`ModelFailed` if a response fails unrecoverably or too often."""

    TIMERS = (Timer.ASKED, Timer.ANSWER, Timer.VOICE, Timer.ACTIVE, Timer.RESPONSE)

    def __init__(self, context: CallContext, playback: Playback) -> None:
        self._context = context
        self._playback = playback
        self._queue = ResponseQueue()
        self.is_caller_speaking = False
        self._failures = 0
        self._unspoken = 0  # silent responses in a row
        self._sent_before = 0  # bytes of audio, when the response began
        self._is_backstage = False  # the response in progress, so that no audio is of it
        self._sent_when_watched = 0

    @property
    def is_busy(self) -> bool:
        """Return True if a response is in progress, requested or queued."""
        return self._queue.is_busy

    @property
    def is_active(self) -> bool:
        """Return True if a response is in progress."""
        return self._queue.is_active

    @property
    def is_due(self) -> bool:
        """Return True if the model has yet to speak by itself.

        It has not answered the caller's speech, or a voice has not said what its backend wrote.
        """
        timers = self._context.timers
        return timers.is_set(Timer.ANSWER) or timers.is_set(Timer.VOICE)

    # Requests

    def ask(self, request: Request = PLAIN) -> None:
        """Request a response as soon as possible."""
        self._queue.want(request)
        self.send_due()

    def ask_later(self, seconds: float) -> None:
        """Request a response after so long, unless the model begins one by itself."""
        self._queue.hold_until(self._context.now + seconds)
        self.ask()

    def add_item(self, item: AddText | AddToolResult) -> None:
        """Send an item that the next response must consider."""
        if self._context.is_connected:  # else the history has it
            self._queue.item_sent(item.item_id)
        self._context.tell(item)

    def item_added(self, item_id: str) -> None:
        self._queue.item_added(item_id)

    def caller_speaks(self) -> None:
        """Request nothing until the caller has finished."""
        self.is_caller_speaking = True
        self._context.timers.clear(Timer.ANSWER)

    def caller_has_spoken(self) -> None:
        """Expect the model's own response; request one if it does not begin."""
        self.is_caller_speaking = False
        self._queue.speech_stopped(self._context.now)
        self._context.start_timer(Timer.ANSWER, ANSWER_S)
        self.send_due()

    def send_due(self) -> None:
        """Send the next request, if no response is in progress."""
        if not self._context.is_connected:
            return
        if asked := self._queue.take(self._context.now, speaking=self.is_caller_speaking):
            request = asked.request
            self._context.tell(Respond(asked.id, request.instructions, request.aloud))
            self._context.start_timer(Timer.ASKED, ASKED_S)
        if at := self._queue.held_until:
            self._context.timers.set(Timer.RESPONSE, at)
        else:
            self._context.timers.clear(Timer.RESPONSE)

    # Responses

    def started(self, response: ResponseStarted) -> None:
        if not self._queue.started(response.response_id, is_aside=response.is_aside):
            self._context.note(EventKind.REPEATED, what="the start of a response")
            return
        self._context.timers.clear(Timer.ANSWER)
        if not self.is_asked:
            self._context.timers.clear(Timer.ASKED)
        if not response.is_aside:
            self._sent_before, self._is_backstage = self._playback.total, response.is_backstage
            self._watch()
        elif not self._queue.active:
            self._is_backstage = False
            self._watch()
        self.send_due()

    def done(self, response: ResponseDone) -> bool:
        """Record the end of a response; return False if its end is already known.

        The end of one that began earlier ends no wait for a later one.
        """
        had_begun = self._queue.has_begun(response.response_id)
        if not self._queue.done(response.response_id):
            self._context.note(EventKind.REPEATED, what="the end of a response")
            return False
        if not had_begun:
            self._context.timers.clear(Timer.ANSWER)
        if not self.is_asked:
            self._context.timers.clear(Timer.ASKED)
        if not self.is_active:
            self._context.timers.clear(Timer.ACTIVE)
        return True

    def failed(self, response: ResponseDone) -> None:
        self._queue.failed()
        self._try_again(response.error_code or "failed", response.error_message)

    def has_ended(self, request: Request) -> bool:
        """Return True if the response that ended last is the one that we requested so."""
        return self._queue.ended == request

    def spoke(self, response: ResponseDone) -> bool:
        """Return True if the response has audio for the caller."""
        if response.is_backstage:  # the audio meanwhile is not of this response
            return False
        return response.spoke or self._playback.total > self._sent_before

    def look_at(self, response: ResponseDone, *, took: bool, is_last: bool) -> None:
        """Make sure that the caller hears a response, if the model has tried to give one.

        :param took: its tool calls lead to another response.
        :param is_last: the call ends once it is heard.
        """
        if self.spoke(response) or _is_left_to_voice(response):
            self._unspoken = 0
            if not response.is_aside:
                self._failures = 0
        elif response.written and (is_last or not took):
            self._failures = 0
            self._request_aloud(response.written, is_last=is_last)
        elif took:
            self._failures = 0
        elif response.status != "incomplete":
            self._failures = 0
            self._request_again(response)
        elif response.reason == "content_filter":
            self._request_apology()
        else:
            self._queue.failed()
            self._try_again("incomplete", "The model did not complete its response.")

    def await_voice(self) -> None:
        """Wait for the voice to say what its backend has written."""
        self._context.start_timer(Timer.VOICE, VOICE_S)

    def _request_aloud(self, written: str, *, is_last: bool) -> None:
        """Request what the model wrote as speech: first aloud, then word for word."""
        self._unspoken += 1
        self._context.note(EventKind.NOT_SPOKEN, why="text")
        if self._unspoken > MOST_UNSPOKEN:
            return
        is_exact = is_last or self._unspoken == MOST_UNSPOKEN
        self._queue.want(word_for_word(written) if is_exact else _ALOUD)

    def _request_again(self, response: ResponseDone) -> None:
        """Request an empty response again if we had requested it, or if it had tool calls.

        The model may have nothing to say to the caller's speech.
        """
        self._unspoken += 1
        self._context.note(EventKind.NOT_SPOKEN, why="nothing")
        is_owed = self._queue.ended is not None or response.calls or response.unread
        if is_owed and self._unspoken < MOST_UNSPOKEN:
            self._queue.failed()

    def _request_apology(self) -> None:
        self._failures += 1
        self._context.note(EventKind.NOT_SPOKEN, why="content_filter")
        if self._failures <= MOST_FAILURES:
            self._queue.want(_FILTERED)

    def collided(self) -> None:
        """Handle a request that met a response that the model had already begun."""
        self._queue.refused_as_active()
        self._context.timers.clear(Timer.ASKED)
        self._watch()

    def is_refused_by(self, error: ModelErrored) -> bool:
        """Return True if the error names our request, or is temporary and names nothing."""
        asked = self._queue.asked
        if asked is None:
            return False
        is_named = error.about == asked.id
        return is_named or (not error.about and error.code in PASSING_CODES)

    def refused(self, error: ModelErrored) -> None:
        self._context.timers.clear(Timer.ASKED)
        if error.about:
            self._queue.refused()
        else:  # it may still begin
            self._queue.overdue()
        self._try_again(error.code, error.message)

    @property
    def is_asked(self) -> bool:
        """Return True if we requested a response that has not begun."""
        return self._queue.asked is not None

    def _try_again(self, code: str, message: str) -> None:
        """Retry the queued request a moment later; raise after too many failures."""
        self._failures += 1
        if code in FATAL_CODES or self._failures > MOST_FAILURES:
            raise ModelFailed(model_error_code(code), message or "The model failed.")
        self._context.note(EventKind.RESPONSE_FAILED, code=code)
        self._queue.hold_until(self._context.now + RETRY_S * self._failures)
        self.send_due()

    # Missing responses

    def not_begun(self) -> None:
        """Retry a request that the model did not react to."""
        self._queue.overdue()
        self._try_again("no_response", "The model did not begin its response.")

    def not_answered(self) -> None:
        """Request a response to the caller's speech: the model gave none, and no reason."""
        if not self.is_busy:
            self._context.note(EventKind.RESPONSE_LOST)
            self.ask(OWED)

    def is_lost(self) -> bool:
        """Give up the active response if no audio came since the last check; return True then."""
        if self._playback.total > self._sent_when_watched and not self._is_backstage:
            self._watch()
            return False
        self._context.note(EventKind.RESPONSE_LOST)
        is_owed = self._is_backstage or self._playback.total == self._sent_before
        self._queue.lost()
        if is_owed:
            self._queue.failed()
            self._try_again("no_response", "The model did not continue its response.")
        return True

    def _watch(self) -> None:
        self._sent_when_watched = self._playback.total
        self._context.start_timer(Timer.ACTIVE, ACTIVE_S)


def _is_left_to_voice(response: ResponseDone) -> bool:
    """Return True if a voice says what there is to say of the response."""
    return response.is_backstage and bool(response.written or response.status != "incomplete")
