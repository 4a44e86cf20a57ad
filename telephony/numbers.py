"""The numbers that accounts have registered."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import phonenumbers
from django.conf import settings
from django.db import IntegrityError, transaction
from phonenumbers import NumberParseException

from accounts.models import Account
from config.errors import ApiError
from telephony.models import Call, PhoneNumber

US_NUMBER = re.compile(r"\+1[0-9]{10}")


def phone_number_register(
    *,
    account: Account,
    phone_number: str,
    on_call_start_url: str,
    on_call_end_url: str,
    on_error_url: str = "",
) -> tuple[PhoneNumber, bool]:
    """Return the account's record of a number, and whether it is new.

    A number that is the account's already gets the new URLs and stays as active as it was. One
    that another account holds, or gets hold of at the same moment, is 409 ``phone_number_taken``.
    """
    urls = {
        "on_call_start_url": on_call_start_url,
        "on_call_end_url": on_call_end_url,
        "on_error_url": on_error_url,
    }
    try:
        return PhoneNumber.objects.update_or_create(
            account=account, phone_number=phone_number, defaults=urls
        )
    except IntegrityError:
        raise ApiError(
            409, "phone_number_taken", f"{phone_number} is registered by another account."
        ) from None


@transaction.atomic
def phone_number_update(*, account: Account, id: str, **changes: Any) -> PhoneNumber:
    """Change URLs or ``is_active`` of a number; raise 404 unless it is the account's."""
    number = PhoneNumber.objects.select_for_update().access(account, id)
    for name, value in changes.items():
        setattr(number, name, value)
    number.save(update_fields=list(changes))
    return number


@transaction.atomic
def phone_number_remove(*, account: Account, id: str) -> None:
    """Forget a number, but not its calls; raise 404 unless it is the account's."""
    PhoneNumber.objects.select_for_update().access(account, id).delete()


def numbers_with_last_calls(account: Account) -> list[tuple[PhoneNumber, Call | None]]:
    """Return the account's numbers, the oldest first, each with its last call: two queries."""
    numbers = list(PhoneNumber.objects.of(account).with_last_calls().order_by("created_at", "id"))
    ids = {id for number in numbers for id in _last_ids(number)}
    calls = Call.objects.of(account).with_outcome().in_bulk(list(ids)) if ids else {}
    return [(number, _latest(calls[id] for id in _last_ids(number))) for number in numbers]


def _last_ids(number: Any) -> list[str]:
    return [id for id in (number.last_inbound_id, number.last_outbound_id) if id]


def _latest(calls: Iterable[Call]) -> Call | None:
    return max(calls, key=lambda call: call.created_at, default=None)


def phone_numbers_remove_all(*, account: Account) -> None:
    """Forget the account's numbers: others may register them."""
    PhoneNumber.objects.of(account).delete()


def country_of(phone_number: str) -> str | None:
    """Return the ISO country of a number in E.164, or None when there is no such number.

    ``+1`` and ten digits that belong to nobody (555 numbers) count as ``US``.
    """
    try:
        number = phonenumbers.parse(phone_number)
    except NumberParseException:
        return None
    country = phonenumbers.region_code_for_number(number)
    if country is None and US_NUMBER.fullmatch(phone_number):
        return "US"
    return country


def may_be_called(phone_number: str) -> bool:
    """Whether a number in E.164 is in a country that accounts may call."""
    return country_of(phone_number) in settings.ALLOWED_COUNTRIES
