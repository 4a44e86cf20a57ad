"""Rules for the numbers that may be registered, called and transferred to."""

from __future__ import annotations

import pytest
from pytest_django import Settings

from telephony.numbering import (
    call_problem,
    country_of,
    may_be_called,
    normalize_number,
    registration_problem,
)

ORDINARY = [
    "+12122345678",
    "+14152345678",
    "+18002345678",
    "+18005551212",
    "+18884112345",
    "+18339762345",
]
ORDINARY_CANADIAN = ["+14162345678", "+16132345678"]
FICTION = ["+15551234567", "+15550000000", "+12025550143", "+19805550000"]

# Refused numbers, by the digits from the area code on.
PREMIUM = ["9002345678", "9005551234", "2129762345", "4169762345"]
PERSONAL = ["5002345678", "5332345678", "5215551234", "5222345678", "5442345678", "5662345678"]
NO_AREA = ["7002345678", "7102345678", "4562345678", "9112345678", "4112345678", "9762345678"]
NO_NUMBER = ["0123456789", "1123456789", "0114420794", "1900234567", "2120345678", "2121345678"]
SERVICES = ["2129112345", "2124112345", "2122112345", "2129502345", "2129582345", "2129592345"]
CANADAS = ["6002345678", "6222345678"]
REFUSED = [f"+1{digits}" for digits in PREMIUM + PERSONAL + NO_AREA + NO_NUMBER + SERVICES]


@pytest.fixture(autouse=True)
def production(settings: Settings) -> None:
    settings.SANDBOX = False


def code_of(problem: object) -> object:
    return getattr(problem, "code", None)


@pytest.mark.parametrize("number", ORDINARY)
def test_an_ordinary_us_number_may_be_anything(number: str) -> None:
    assert registration_problem(number) is None
    assert may_be_called(number)


@pytest.mark.parametrize("number", ORDINARY_CANADIAN)
def test_a_canadian_one_may_be_called_and_not_registered(number: str) -> None:
    assert may_be_called(number)
    problem = registration_problem(number)
    assert problem == ("country_not_allowed", "Use a US number. This one is in CA.")


@pytest.mark.parametrize("is_sandbox", [False, True])
@pytest.mark.parametrize("number", REFUSED)
def test_what_costs_more_or_serves_the_network_may_be_nothing(
    settings: Settings, number: str, is_sandbox: bool
) -> None:
    settings.SANDBOX = is_sandbox
    settings.ALLOWED_COUNTRIES = ["US", "CA"]
    assert code_of(call_problem(number)) == "number_not_allowed"
    assert registration_problem(number)
    assert not may_be_called(number)


@pytest.mark.parametrize("digits", CANADAS)
def test_so_it_is_with_canadas(digits: str) -> None:
    assert code_of(call_problem(f"+1{digits}")) == "number_not_allowed"


@pytest.mark.parametrize(
    "number",
    [
        *("+1411", "+1911", "+1211", "+1900", "+19002345", "+121223456789"),
        *("+112122345678", "+1011442079460958", "+1112345678901", "+119002345678"),
        *("+4402079460958", "+999123456789", "+"),
    ],
)
def test_what_is_no_number_is_in_no_country(settings: Settings, number: str) -> None:
    """As with a digit too many, which some network on the way would leave out."""
    settings.ALLOWED_COUNTRIES = ["US", "CA", "GB"]
    problem = call_problem(number)
    assert problem
    assert problem.code == "country_not_allowed"
    assert problem.message.endswith("This one is in no known country.")


@pytest.mark.parametrize("number", FICTION)
def test_555_is_for_the_sandbox(settings: Settings, number: str) -> None:
    assert code_of(call_problem(number)) == "number_not_allowed"
    assert code_of(registration_problem(number)) == "number_not_allowed"
    settings.SANDBOX = True
    assert call_problem(number) is None
    assert registration_problem(number) is None


@pytest.mark.parametrize(
    ("number", "country", "what"),
    [
        ("+449012345678", "GB", "a premium-rate number"),
        ("+448431234567", "GB", "a premium-rate number"),
        ("+447012345678", "GB", "a personal number"),
        ("+445612345678", "GB", "a VoIP number"),
        ("+447640123456", "GB", "a pager"),
        ("+445512345678", "GB", "a company-wide number"),
        ("+33820123456", "FR", "a shared-cost number"),
        ("+611900123456", "AU", "a premium-rate number"),
    ],
)
def test_kinds_hold_for_the_countries_that_an_operator_allows(
    settings: Settings, number: str, country: str, what: str
) -> None:
    settings.ALLOWED_COUNTRIES = [country]
    problem = call_problem(number)
    assert problem
    assert problem.code == "number_not_allowed"
    assert problem.message.startswith(
        f"Use a landline, mobile or toll-free number. This one is {what}"
    )


@pytest.mark.parametrize("number", ["+442079460958", "+447400123456", "+448001234567"])
def test_their_ordinary_numbers_may_be_called(settings: Settings, number: str) -> None:
    assert code_of(call_problem(number)) == "country_not_allowed"
    settings.ALLOWED_COUNTRIES = ["GB"]
    assert call_problem(number) is None


@pytest.mark.parametrize(
    ("number", "country"),
    [
        ("+18762345678", "JM"),
        ("+12423591234", "BS"),
        ("+18092345678", "DO"),
        ("+881612345678", "001"),
    ],
)
def test_what_only_looks_like_the_us_is_another_country(number: str, country: str) -> None:
    assert country_of(number) == country
    problem = call_problem(number)
    assert problem == (
        "country_not_allowed",
        f"Use a number in one of these countries: US, CA. This one is in {country}.",
    )


@pytest.mark.parametrize(
    "typed",
    [
        "+15551234444",
        "(555) 123-4444",
        "555.123.4444",
        "555-123-4444",
        "5551234444",
        "1 555 123 4444",
        "+1 (555) 123-4444",
        " 15551234444",  # a + in a URL
        "555\u2013123\u20114444",  # dashes of a word processor
        "\u00a0555 123/4444 ",
    ],
)
def test_a_us_number_is_understood_as_people_type_it(typed: str) -> None:
    assert normalize_number(typed) == "+15551234444"


@pytest.mark.parametrize(
    ("typed", "number"),
    [
        ("+44 20 7946-0018", "+442079460018"),
        ("44 20 7946 0018", "+442079460018"),
        ("055 123 4444", "+0551234444"),  # no area code begins with 0
        ("555-1234", "+5551234"),
        ("call me", "callme"),
        ("\u0665\u0665\u0665", "\u0665\u0665\u0665"),
        ("", ""),
    ],
)
def test_any_other_text_only_loses_its_punctuation(typed: str, number: str) -> None:
    assert normalize_number(typed) == number
