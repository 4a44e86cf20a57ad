"""What the model is asked to say: one response at a time, and each until something comes of it."""

from __future__ import annotations

import json
from typing import Any

from telephony.engine import model_writer
from telephony.engine.bounds import clipped
from telephony.engine.codes import EventKind, model_error_code
from telephony.engine.desk import Desk, ModelFailed
from telephony.engine.events import ModelErrored, ResponseDone
from telephony.engine.plan import LONGEST_SPOKEN
from telephony.engine.playback import Playback
from telephony.engine.responses import OWED, PLAIN, Request, ResponseQueue
from telephony.engine.timers import Timer

ASKED_S = 10.0  # for a response that we asked for to begin
ANSWER_S = 5.0  # for the answer to the caller's speech to begin, which the model gives by itself
ACTIVE_S = 30.0  # without audio, after which a response that began is not waited for
RETRY_S = 1.0  # before what failed is asked for again, times the failures
MOST_FAILURES = 2  # in a row that are tried again
MOST_UNSPOKEN = 2  # answers in a row without a sound, after which no other is asked for

# After these OpenAI serves nothing more on this socket, whatever we send.
FATAL_CODES = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "project_spend_limit_exceeded",
        "invalid_api_key",
        "account_deactivated",
        "billing_hard_limit_reached",
        "model_not_found",
        "session_expired",
    }
)
# These pass: the same request may be served a moment later.
PASSING_CODES = frozenset({"server_error", "rate_limit_exceeded", "slow_down"})

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
    """Raises :class:`ModelFailed` when what is asked for fails for good, or again and again."""

    def __init__(self, desk: Desk, playback: Playback) -> None:
        self._desk = desk
        self._playback = playback
        self._queue = ResponseQueue()
        self.is_caller_speaking = False
        self._failures = 0
        self._unspoken = 0  # answers in a row that were written instead
        self._sent_before = 0  # bytes of audio, when the response began
        self._sent_when_watched = 0

    @property
    def is_busy(self) -> bool:
        """Whether a response is under way, asked for or wanted."""
        return self._queue.is_busy

    @property
    def is_active(self) -> bool:
        """Whether a response is under way."""
        return bool(self._queue.active)

    # What we ask for

    def ask(self, request: Request = PLAIN) -> None:
        """Have the model say something, as soon as it may."""
        self._queue.want(request)
        self.send_due()

    def add_item(self, event: dict[str, Any]) -> None:
        """Send an item that the next response is to know of."""
        self._queue.item_sent(event["item"]["id"])
        self._desk.tell(event)

    def item_added(self, item_id: str) -> None:
        self._queue.item_added(item_id)

    def caller_speaks(self) -> None:
        """Nothing is asked for until the caller has finished."""
        self.is_caller_speaking = True
        self._desk.timers.clear(Timer.ANSWER)

    def caller_has_spoken(self) -> None:
        """The model answers by itself; if it does not, we ask."""
        self.is_caller_speaking = False
        self._queue.speech_stopped(self._desk.now)
        self._desk.alarm(Timer.ANSWER, ANSWER_S)
        self.send_due()

    def send_due(self) -> None:
        """Send the response.create that is wanted, if none is under way."""
        if not self._desk.is_connected:
            return
        if asked := self._queue.take(self._desk.now, speaking=self.is_caller_speaking):
            self._desk.tell(model_writer.response_create(asked))
            self._desk.alarm(Timer.ASKED, ASKED_S)
        if at := self._queue.held_until:
            self._desk.timers.set(Timer.RESPONSE, at)
        else:
            self._desk.timers.clear(Timer.RESPONSE)

    # What comes of it

    def started(self, response_id: str) -> None:
        if not self._queue.started(response_id):
            self._desk.note(EventKind.REPEATED, what="response.created")
            return
        self._sent_before = self._playback.total
        self._desk.timers.clear(Timer.ANSWER)
        self._desk.timers.clear(Timer.ASKED)
        self._watch()
        self.send_due()

    def done(self, response: ResponseDone) -> bool:
        """A response has ended; False if we have been told of its end before."""
        if not self._queue.done(response.response_id):
            self._desk.note(EventKind.REPEATED, what="response.done")
            return False
        self._desk.timers.clear(Timer.ANSWER)
        self._desk.timers.clear(Timer.ASKED)
        if not self.is_active:
            self._desk.timers.clear(Timer.ACTIVE)
        return True

    def failed(self, response: ResponseDone) -> None:
        self._queue.failed()
        self._try_again(response.error_code or "failed", response.error_message)

    def spoke(self, response: ResponseDone) -> bool:
        """Whether the caller has something of it to hear."""
        return response.spoke or self._playback.total > self._sent_before

    def look_at(self, response: ResponseDone, *, took: bool, is_last: bool) -> None:
        """See to it that the caller hears an answer, if the model has tried to give one.

        :param took: something more comes of what the model called.
        :param is_last: the call ends once it is heard.
        """
        if self.spoke(response):
            self._unspoken = self._failures = 0
        elif response.written and (is_last or not took):
            self._failures = 0
            self._have_spoken(response.written, is_last=is_last)
        elif took:
            self._failures = 0
        elif response.status != "incomplete":
            self._failures = 0
            self._have_it_again(response)
        elif response.reason == "content_filter":
            self._have_said_why()
        else:
            self._queue.failed()
            self._try_again("incomplete", "The model did not complete its answer.")

    def _have_spoken(self, written: str, *, is_last: bool) -> None:
        """The model wrote what the caller should hear: ask for it aloud, then word for word."""
        self._unspoken += 1
        self._desk.note(EventKind.NOT_SPOKEN, why="text")
        if self._unspoken > MOST_UNSPOKEN:
            return
        is_exact = is_last or self._unspoken == MOST_UNSPOKEN
        self._queue.want(word_for_word(written) if is_exact else _ALOUD)

    def _have_it_again(self, response: ResponseDone) -> None:
        """The model said and did nothing: ask once more, if we had asked, or it had called.

        To what the caller says it may have no answer.
        """
        self._unspoken += 1
        self._desk.note(EventKind.NOT_SPOKEN, why="nothing")
        is_owed = self._queue.ended is not None or response.calls or response.unread
        if is_owed and self._unspoken < MOST_UNSPOKEN:
            self._queue.failed()

    def _have_said_why(self) -> None:
        self._failures += 1
        self._desk.note(EventKind.NOT_SPOKEN, why="content_filter")
        if self._failures <= MOST_FAILURES:
            self._queue.want(_FILTERED)

    def collided(self) -> None:
        """What we asked for met a response that the model had begun."""
        self._queue.refused_as_active()
        self._desk.timers.clear(Timer.ASKED)
        self._watch()

    def is_refused_by(self, error: ModelErrored) -> bool:
        """Whether the error is about what we asked for; one that names nothing may be, or pass."""
        asked = self._queue.asked
        if asked is None:
            return False
        is_named = error.event_id == asked.event_id
        return is_named or (not error.event_id and error.code in PASSING_CODES)

    def refused(self, error: ModelErrored) -> None:
        self._desk.timers.clear(Timer.ASKED)
        if error.event_id:
            self._queue.refused()
        else:  # it may begin all the same
            self._queue.overdue()
        self._try_again(error.code, error.message)

    @property
    def is_asked(self) -> bool:
        """Whether something was asked for that has not begun."""
        return self._queue.asked is not None

    def _try_again(self, code: str, message: str) -> None:
        """What came to nothing is wanted again: a moment later, and not for ever."""
        self._failures += 1
        if code in FATAL_CODES or self._failures > MOST_FAILURES:
            raise ModelFailed(model_error_code(code), message or "The model failed.")
        self._desk.note(EventKind.RESPONSE_FAILED, code=code)
        self._queue.hold_until(self._desk.now + RETRY_S * self._failures)
        self.send_due()

    # What does not come

    def not_begun(self) -> None:
        """Nothing was heard of what we asked for."""
        self._queue.overdue()
        self._try_again("no_response", "The model did not begin its answer.")

    def not_answered(self) -> None:
        """The model has not begun to answer the caller's speech, and told nobody why."""
        if not self.is_busy:
            self._desk.note(EventKind.RESPONSE_LOST)
            self.ask(OWED)

    def is_lost(self) -> bool:
        """Whether nothing more has come of the response that is under way; it is over then."""
        if self._playback.total > self._sent_when_watched:
            self._watch()
            return False
        self._desk.note(EventKind.RESPONSE_LOST)
        self._queue.lost()
        if self._playback.total == self._sent_before:
            self._queue.failed()
            self._try_again("no_response", "The model did not go on with its answer.")
        return True

    def _watch(self) -> None:
        self._sent_when_watched = self._playback.total
        self._desk.alarm(Timer.ACTIVE, ACTIVE_S)
