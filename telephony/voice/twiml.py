"""TwiML responses to Twilio."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpResponse
from twilio.twiml.voice_response import Connect, VoiceResponse

from telephony import links

TICKET = "ticket"


def connect(call_id: str, ticket: str, key: str, greeting_url: str = "") -> HttpResponse:
    """Play the greeting, then stream the call's audio to and from the media socket.

    :param key: opens the call's conversation, which may go on when the stream has ended.
    """
    response = VoiceResponse()
    if greeting_url:
        response.play(greeting_url)
    verb = Connect(action=links.after_stream_url(call_id, key))
    stream = verb.stream(
        url=settings.MEDIA_STREAM_URL, status_callback=links.stream_status_url(call_id)
    )
    stream.parameter(name=TICKET, value=ticket)
    response.append(verb)
    response.hangup()
    return _answer(response)


def reject(reason: str = "rejected") -> HttpResponse:
    """Reject an inbound call as ``busy`` or ``rejected``, unanswered and at no cost to the
    customer.
    """
    response = VoiceResponse()
    response.reject(reason=reason)
    return _answer(response)


def reject_get() -> HttpResponse:
    """Reject a call whose webhook is set to HTTP GET, at no cost, and say so in Twilio's debugger.

    Twilio rejects the call and then warns of the element that it does not know (12200), by its
    name. An HTTP error would be an alert too, but Twilio would answer the call to apologize.
    """
    response = VoiceResponse()
    response.reject()
    response.add_child("SetTheVoiceWebhookToHttpPost")
    return _answer(response)


def hang_up(message: str = "") -> HttpResponse:
    response = VoiceResponse()
    if message:
        response.say(message)
    response.hangup()
    return _answer(response)


def dial(number: str, caller_id: str = "") -> HttpResponse:
    """Transfer the caller. Without a caller ID, Twilio shows the caller's own number."""
    response = VoiceResponse()
    response.dial(number, caller_id=caller_id or None)
    return _answer(response)


def _answer(response: VoiceResponse) -> HttpResponse:
    return HttpResponse(str(response), content_type="text/xml; charset=utf-8")
