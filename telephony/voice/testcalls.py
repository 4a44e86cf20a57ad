"""A test call: the customer talks to the agent from a browser, past Twilio.

It goes an inbound call's way: the same checks of the account, the same question to the backend, the
same hand-over to the media socket. Only Twilio's part is missing, and what Twilio asks for money.
"""

from __future__ import annotations

from asgiref.sync import async_to_sync
from django.views.decorators.debug import sensitive_variables

from core.connections import give_connection_back
from telephony.call_sids import new_test_sid
from telephony.models import PhoneNumber
from telephony.voice import transactions
from telephony.voice.call_start import CallStart, ask_backend, carry_out
from telephony.voice.transactions import TurnedAway


@sensitive_variables()
def call_test_start(*, number: PhoneNumber, caller: str) -> CallStart:
    """Ring a number of the account's from a browser; wait for its backend 10 seconds at most."""
    if not number.is_active:
        return TurnedAway("rejected", "number_inactive")
    received = transactions.receive_on(number, call_sid=new_test_sid(), caller=caller)
    if isinstance(received, TurnedAway):
        return received
    give_connection_back()
    return carry_out(received.call, async_to_sync(ask_backend)(received), form=None)
