"""Rules for the numbers that may be registered, called and transferred to, by country and kind.

The phonenumbers library knows both. It cannot know what some exchanges (the digits after the area
code) are for in North America, nor that the sandbox uses 555 numbers, which are assigned to nobody.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import phonenumbers
from django.conf import settings
from phonenumbers import NumberParseException, PhoneNumber, PhoneNumberFormat, PhoneNumberType

US_NUMBER = re.compile(r"\+1[0-9]{10}")

_MAY_BE_USED = frozenset(
    {
        PhoneNumberType.FIXED_LINE,
        PhoneNumberType.MOBILE,
        PhoneNumberType.FIXED_LINE_OR_MOBILE,
        PhoneNumberType.TOLL_FREE,
    }
)
_KINDS = {
    PhoneNumberType.PREMIUM_RATE: "a premium-rate number",
    PhoneNumberType.SHARED_COST: "a shared-cost number",
    PhoneNumberType.PERSONAL_NUMBER: "a personal number, which can cost any rate",
    PhoneNumberType.VOIP: "a VoIP number without a location, which can cost any rate",
    PhoneNumberType.PAGER: "a pager",
    PhoneNumberType.UAN: "a company-wide number, which can cost any rate",
    PhoneNumberType.VOICEMAIL: "a voicemail access number",
}
_UNASSIGNED = "not in use"
# Not assigned to subscribers in any area: N11 codes, access to carriers, tests of the network.
# https://nationalnanpa.com/number_resource_info/co_codes.html
_SERVICE_EXCHANGE = re.compile(r"[2-9]11|950|958|959")
_PREMIUM_EXCHANGE = "976"
_FICTION = "555"


# What people type between the digits of a number.
_PUNCTUATION = re.compile(r"[\s().\-\u2010-\u2015/]+")
_NATIONAL = re.compile(r"1?[2-9][0-9]{9}")


def normalize_number(text: str) -> str:
    """Return a number that a person typed in E.164; any other text without its punctuation.

    Ten digits, with or without a 1 before them, are a US number: ``(555) 123-4444``. A ``+`` that
    somebody typed into a URL arrives as a space, so other digits get one.
    """
    number = _PUNCTUATION.sub("", text)
    if not (number.isascii() and number.isdecimal()):
        return number
    return f"+1{number[-10:]}" if _NATIONAL.fullmatch(number) else f"+{number}"


def number_digits(text: str) -> str:
    """Return the digits to look for in numbers, from part of a number; "" for any other text."""
    digits = _PUNCTUATION.sub("", text).removeprefix("+")
    return digits if digits.isascii() and digits.isdecimal() else ""


def parse_number(text: str) -> str | None:
    """Return the number that a person typed, in E.164; None if it is no number.

    A number has the length of a phone number in its country.
    """
    number = normalize_number(text)
    parsed = _parsed(number) if number.startswith("+") else None
    return number if parsed and phonenumbers.is_possible_number(parsed) else None


class NumberProblem(NamedTuple):
    """The reason a number may not be used: a stable code, and a sentence that says what to do."""

    code: str
    message: str


def us_number_problem(text: str) -> str | None:
    """Return the problem with a text that is not a US number in E.164; None for a US number."""
    return None if US_NUMBER.fullmatch(text) else "Use a US number in E.164, like +15551234567."


def registration_problem(phone_number: str) -> NumberProblem | None:
    """Return why a number in E.164 cannot be registered; None for an ordinary US number."""
    return _country_problem(phone_number, ["US"], "Use a US number.") or kind_problem(phone_number)


def call_problem(phone_number: str) -> NumberProblem | None:
    """Return why a number in E.164 may not be called, or None. See ``ALLOWED_COUNTRIES``."""
    countries = settings.ALLOWED_COUNTRIES
    what_to_do = f"Use a number in one of these countries: {', '.join(countries)}."
    return _country_problem(phone_number, countries, what_to_do) or kind_problem(phone_number)


def may_be_called(phone_number: str) -> bool:
    """Return True if a number in E.164 may be called or transferred to."""
    return call_problem(phone_number) is None


def caller_id(caller: str, ours: str) -> str:
    """Return the caller ID for a transferred call; "" keeps the caller's number.

    A caller who withholds the number, or calls by SIP or from an app, has none that Twilio would
    show. The call then shows ours.
    """
    number = _parsed(caller)
    is_real = number is not None and phonenumbers.is_valid_number(number)
    return "" if is_real or US_NUMBER.fullmatch(caller) else ours


def kind_problem(phone_number: str) -> NumberProblem | None:
    """Return why a number may not be used in any country: it costs more, or is unassigned."""
    if kind := _unusable_kind(phone_number):
        message = f"Use a landline, mobile or toll-free number. This one is {kind}."
        return NumberProblem("number_not_allowed", message)
    return None


def country_of(phone_number: str) -> str | None:
    """Return the ISO country of a number in E.164, or None if there is no such number.

    ``+1`` and ten unassigned digits (555 numbers) count as ``US``.
    """
    number = _parsed(phone_number)
    country = phonenumbers.region_code_for_number(number) if number else None
    return "US" if country is None and US_NUMBER.fullmatch(phone_number) else country


def _country_problem(
    phone_number: str, countries: Sequence[str], what_to_do: str
) -> NumberProblem | None:
    country = country_of(phone_number)
    if country in countries:
        return None
    where = country or "no known country"
    return NumberProblem("country_not_allowed", f"{what_to_do} This one is in {where}.")


def _unusable_kind(phone_number: str) -> str | None:
    """Return the kind of a number that may not be used; None for an ordinary number."""
    number = _parsed(phone_number)
    kind = phonenumbers.number_type(number) if number else PhoneNumberType.UNKNOWN
    if kind == PhoneNumberType.TOLL_FREE:
        return None
    if US_NUMBER.fullmatch(phone_number):
        area, exchange = phone_number[2:5], phone_number[5:8]
        if area == _FICTION:
            return None if settings.SANDBOX else _UNASSIGNED
        if exchange == _FICTION and not settings.SANDBOX:
            return _UNASSIGNED
        if exchange == _PREMIUM_EXCHANGE:
            return _KINDS[PhoneNumberType.PREMIUM_RATE]
        if _SERVICE_EXCHANGE.fullmatch(exchange):
            return "a service number of the network"
    return None if kind in _MAY_BE_USED else _KINDS.get(kind, _UNASSIGNED)


def _parsed(phone_number: str) -> PhoneNumber | None:
    """Return the library's number; None unless it is complete and exactly what is dialed.

    The library drops digits that do not belong there, as the second 1 of ``+112025550143``.
    """
    try:
        number = phonenumbers.parse(phone_number)
    except NumberParseException:
        return None
    whole = phonenumbers.format_number(number, PhoneNumberFormat.E164)
    return number if whole == phone_number else None
