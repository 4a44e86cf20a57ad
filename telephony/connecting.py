"""Connects a customer's Twilio account: lists its numbers, points them here and registers them.

The credentials are used and not stored. Whoever has them controls the numbers of that Twilio
account, and can send their calls anywhere. So they outweigh a registration, whoever made it and
however many calls it has verified. A number has one Twilio account at a time. Because the other
registration may be the same company's, for instance of its production, moving a number takes
consent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models.functions import Coalesce, Now
from django.views.decorators.debug import sensitive_variables

from accounts.audit import Action, audit
from accounts.models import Account
from core.engine_urls import engine_voice_url
from core.errors import ApiError, invalid
from telephony.models import PhoneNumber, ReleasedNumber
from telephony.numbering import registration_problem
from telephony.numbers import (
    asking_twilio,
    fields_check,
    number_claim,
    number_prove,
    number_require_usable,
    taken,
)
from telephony.twilio_rest import (
    TwilioCredentials,
    TwilioNumber,
    point_number,
    twilio_numbers,
)

PAGE_SIZE = 50
_NEEDED = {
    "on_call_start_url": "Enter the URL where your backend decides how to handle each call.",
    "on_call_end_url": "Enter the URL that gets the transcript and the cost of each call.",
}


@dataclass(frozen=True, slots=True)
class Consents:
    """What a customer has to agree to, because it changes something that works."""

    move_from_other_account: bool = False
    replace_routing: bool = False


@dataclass(frozen=True, slots=True)
class OfferedNumber:
    """A number of a Twilio account that can be connected, and who has registered it here.

    ``own`` is the account's registration; ``is_taken`` if another account has one.
    """

    at_twilio: TwilioNumber
    own: PhoneNumber | None
    is_taken: bool

    @property
    def own_id(self) -> str:
        return self.own.id if self.own else ""

    @property
    def points_here(self) -> bool:
        return self.at_twilio.points_to(engine_voice_url())


@dataclass(frozen=True, slots=True)
class Offer:
    """A page of numbers; ``after`` is the cursor of the next one, "" for none.

    ``others`` counts the numbers of the page that cannot be connected: not in the US, or not for
    calls.
    """

    numbers: list[OfferedNumber]
    after: str
    others: int


@sensitive_variables("credentials")
def numbers_at_twilio(
    *, account: Account, credentials: TwilioCredentials, after: str = "", digits: str = ""
) -> Offer:
    """Return a page of the Twilio account's numbers that can be connected.

    Raises as :func:`phone_number_connect`.

    :param digits: only numbers that contain these.
    """
    fields_check(**credentials.as_fields())
    with asking_twilio(account):
        page = twilio_numbers(credentials, size=PAGE_SIZE, after=after, phone_number=digits)
    usable = [number for number in page.numbers if _is_usable(number)]
    return Offer(_offered(account, usable), page.after, len(page.numbers) - len(usable))


@sensitive_variables("credentials")
def phone_number_connect(
    *,
    account: Account,
    phone_number: str,
    credentials: TwilioCredentials,
    consents: Consents,
    on_call_start_url: str = "",
    on_call_end_url: str = "",
    on_error_url: str = "",
    name: str = "",
) -> tuple[PhoneNumber, bool]:
    """Register a number, and have Twilio send its calls here.

    Return the account's record, and whether it is new. Empty URLs and names stay as they are. It
    is registered first, so that no call finds it unknown. If Twilio then fails, it stays
    registered; repeating the request does the rest.

    Raises ``ValidationError`` with the invalid fields. Raises 400 ``phone_number_not_proven``,
    ``country_not_allowed``, ``number_not_allowed`` and ``carrier_rejected``; 409
    ``phone_number_taken`` and ``phone_number_routed`` without the consents; 429
    ``too_many_requests``; 502 ``carrier_unavailable``.
    """
    changes = {
        "on_call_start_url": on_call_start_url,
        "on_call_end_url": on_call_end_url,
        "on_error_url": on_error_url,
        "name": name,
    }
    changes = {field: value for field, value in changes.items() if value}
    fields_check(phone_number=phone_number, **changes, **credentials.as_fields())
    number_require_usable(phone_number)
    found = number_prove(account, credentials, phone_number)
    _require_usable_at_twilio(found, consents)
    number, is_new = _register(account, found, credentials.account_sid, changes, consents)
    if not found.points_to(engine_voice_url()):
        with asking_twilio(account, refused=_not_pointed):
            point_number(credentials, found, voice_url=engine_voice_url())
        audit(account=account, action=Action.NUMBER_CONNECTED, number=phone_number)
    return number, is_new


def _is_usable(number: TwilioNumber) -> bool:
    return number.can_voice and registration_problem(number.phone_number) is None


def _offered(account: Account, numbers: Iterable[TwilioNumber]) -> list[OfferedNumber]:
    """Return the numbers with their registrations, from one query."""
    by_number = {number.phone_number: number for number in numbers}
    known = {
        each.phone_number: each for each in PhoneNumber.objects.filter(phone_number__in=by_number)
    }
    offered = []
    for phone_number, number in by_number.items():
        registered = known.get(phone_number)
        is_own = registered is not None and registered.account_id == account.pk
        own = registered if is_own else None
        offered.append(OfferedNumber(number, own, is_taken=registered is not None and not is_own))
    return offered


def _require_usable_at_twilio(number: TwilioNumber, consents: Consents) -> None:
    if not number.can_voice:
        message = "This number receives no calls at Twilio, only messages."
        raise invalid({"phoneNumber": [message]}, "number_not_allowed")
    if number.ignores_webhook and not consents.replace_routing:
        has = "a SIP trunk" if number.trunk_sid else "a TwiML application"
        raise ApiError(
            409,
            "phone_number_routed",
            f"At Twilio, {number.phone_number} is routed to {has}, so Twilio ignores its voice "
            "webhook. Remove that routing at Twilio, or let us replace it (`replaceRouting` in the "
            "API).",
        )


def _register(
    account: Account,
    found: TwilioNumber,
    account_sid: str,
    changes: dict[str, Any],
    consents: Consents,
) -> tuple[PhoneNumber, bool]:
    """Register a proven number, bound to its Twilio account, in one transaction.

    Of two accounts that take it at the same moment, the database lets one have it.
    """
    phone_number = found.phone_number
    proven = {
        "twilio_account_sid": account_sid,
        "verified_at": Coalesce("verified_at", Now()),
        "refused_account_sid": "",
        "refused_at": None,
    }
    try:
        with transaction.atomic():
            registered = PhoneNumber.objects.select_for_update().filter(phone_number=phone_number)
            holder = registered.first()
            if holder is not None and holder.account_id != account.pk:
                if not consents.move_from_other_account:
                    raise taken(phone_number)
                number_claim(holder)
                holder = None
            if holder is None:
                _require_urls(changes)
                PhoneNumber.objects.create(account=account, phone_number=phone_number)
                ReleasedNumber.objects.filter(pk=phone_number).delete()
            registered.update(**proven, **changes)
            is_new = holder is None
            action = Action.NUMBER_REGISTERED if is_new else Action.NUMBER_CHANGED
            audit(account=account, action=action, number=phone_number, twilioAccount=account_sid)
            return registered.get(), is_new
    except IntegrityError:
        raise taken(phone_number) from None


def _not_pointed(message: str) -> ApiError:
    text = f"The number is registered, but Twilio did not change its webhook. {message}"
    return ApiError(400, "carrier_rejected", text)


def _require_urls(changes: dict[str, Any]) -> None:
    if missing := {name: [text] for name, text in _NEEDED.items() if name not in changes}:
        raise ValidationError(missing)
