"""Test calls: the customer talks to the agent from a browser, without Twilio.

A test call takes the path of an inbound call: the same checks of the account, the same request to
the backend, the same handover to the media socket. Only Twilio and its charges are missing.
"""

from __future__ import annotations

from asgiref.sync import async_to_sync
from django.views.decorators.debug import sensitive_variables

from core.connections import give_connection_back
from telephony.call_log import bind_call
from telephony.call_sids import new_test_sid
from telephony.models import PhoneNumber
from telephony.voice import transactions
from telephony.voice.call_start import CallStart, ask_backend, carry_out
from telephony.voice.transactions import Rejected


@sensitive_variables()
def call_test_start(*, number: PhoneNumber, caller: str) -> CallStart:
    """Start a call to a number of the account from a browser; wait at most 10 s for its backend."""
    if not number.is_active:
        return Rejected("rejected", "number_inactive")
    received = transactions.receive_on(number, call_sid=new_test_sid(), caller=caller)
    if isinstance(received, Rejected):
        return received
    bind_call(received.call)
    give_connection_back()
    return carry_out(received.call, async_to_sync(ask_backend)(received), form=None)
