"""The numbers that accounts have registered."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.db.models.functions import Coalesce, Now
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from accounts.actors import SYSTEM
from accounts.audit import Action, audit, audit_by
from accounts.mails import mail_queue
from accounts.models import Account
from accounts.throttling import twilio_attempt
from core.connections import give_connection_back
from core.errors import ApiError, invalid
from core.texts import line_problem
from telephony.callback_urls import callback_url_problem
from telephony.models import LONGEST_NUMBER_NAME, Call, PhoneNumber, ReleasedNumber
from telephony.numbering import registration_problem, us_number_problem
from telephony.twilio_rest import (
    BAD_CREDENTIALS,
    CarrierRejected,
    CarrierUnavailable,
    TwilioCredentials,
    TwilioNumber,
    account_sid_problem,
    auth_token_problem,
    twilio_number,
)

# How long a released number with verified calls is kept from other accounts: Twilio may still send
# its calls.
RESTS_FOR = timedelta(days=30)
# How often an owner is told of calls from another Twilio account.
TOLD_EVERY = timedelta(hours=1)
CLAIMED_MAIL = "number_claimed"
# How exactly the last signed call is known. Each call of a busy number would write the row.
SIGNED_WITHIN = timedelta(minutes=1)


@sensitive_variables("proof")
def phone_number_register(
    *,
    account: Account,
    phone_number: str,
    on_call_start_url: str,
    on_call_end_url: str,
    on_error_url: str = "",
    name: str | None = None,
    proof: TwilioCredentials | None = None,
) -> tuple[PhoneNumber, bool]:
    """Return the account's record of a number, and whether it is new.

    :param name: None leaves it as it is.

    A number that the account has already gets the new URLs and keeps its status. Raises 409
    ``phone_number_taken`` if another account has it, or registers it at the same moment. Raises 409
    ``phone_number_resting`` if another account released it a short while ago and there is no
    ``proof``: credentials of the Twilio account that has the number, which are used and not stored.
    Credentials that do not prove it raise 400 ``phone_number_not_proven`` or 502
    ``carrier_unavailable``. Raises 400 ``country_not_allowed`` and ``number_not_allowed`` too, and
    ``ValidationError`` with the invalid fields.
    """
    fields_check(
        phone_number=phone_number,
        on_call_start_url=on_call_start_url,
        on_call_end_url=on_call_end_url,
        on_error_url=on_error_url,
        **(proof.as_fields() if proof else {}),
    )
    number_require_usable(phone_number)
    values = {
        "on_call_start_url": on_call_start_url,
        "on_call_end_url": on_call_end_url,
        "on_error_url": on_error_url,
    }
    if name is not None:
        values["name"] = name
    if proof is not None:
        number_prove(account, proof, phone_number)
    try:
        return _registered(account, phone_number, values, proof)
    except IntegrityError:
        raise taken(phone_number) from None


@transaction.atomic
def _registered(
    account: Account,
    phone_number: str,
    values: dict[str, str],
    proof: TwilioCredentials | None,
) -> tuple[PhoneNumber, bool]:
    number, is_new = PhoneNumber.objects.update_or_create(
        account=account, phone_number=phone_number, defaults=values
    )
    # Only now: the insert above has waited for an account that releases the number at this moment.
    if known := _released(account, phone_number, proof):
        for field, value in known.items():
            setattr(number, field, value)
        number.save(update_fields=list(known))
    action = Action.NUMBER_REGISTERED if is_new else Action.NUMBER_CHANGED
    audit(account=account, action=action, number=phone_number)
    return number, is_new


def taken(phone_number: str) -> ApiError:
    return ApiError(
        409,
        "phone_number_taken",
        f"Another account has registered {phone_number}. If it is yours at Twilio, connect it with "
        "your Twilio account, which moves it here.",
    )


def number_require_usable(phone_number: str) -> None:
    """Raise 400 ``country_not_allowed`` or ``number_not_allowed`` unless it may be registered."""
    if problem := registration_problem(phone_number):
        raise invalid({"phoneNumber": [problem.message]}, problem.code)


_MAY_BE_EMPTY = frozenset({"on_error_url", "name"})


@sensitive_variables()
def fields_check(*, may_be_empty: Container[str] = _MAY_BE_EMPTY, **values: Any) -> None:
    """Raise ``ValidationError`` with the problems of a number's fields, by field name."""
    given = {name: value for name, value in values.items() if value or name not in may_be_empty}
    problems = {
        name: [problem]
        for name, problem_of in _PROBLEMS.items()
        if name in given and (problem := problem_of(given[name]))
    }
    if problems:
        raise ValidationError(problems)


def name_problem(name: str) -> str | None:
    """Return the problem with a text that cannot be the name of a number; None if it can."""
    if len(name) > LONGEST_NUMBER_NAME:
        return f"Use at most {LONGEST_NUMBER_NAME} characters."
    return line_problem(name)


_PROBLEMS: Mapping[str, Callable[[str], str | None]] = {
    "phone_number": us_number_problem,
    "on_call_start_url": callback_url_problem,
    "on_call_end_url": callback_url_problem,
    "on_error_url": callback_url_problem,
    "twilio_account_sid": account_sid_problem,
    "twilio_auth_token": auth_token_problem,
    "name": name_problem,
}


@sensitive_variables("proof")
def number_prove(account: Account, proof: TwilioCredentials, phone_number: str) -> TwilioNumber:
    """Return the number as Twilio has it; raise unless the Twilio account has it.

    The number of wrong credentials that an account may try is limited.
    """
    with asking_twilio(account):
        found = twilio_number(proof, phone_number)
    if found is None:
        raise _not_proven(f"{phone_number} does not belong to this Twilio account.")
    return found


def _not_proven(message: str) -> ApiError:
    return invalid({"twilioAccountSid": [message]}, "phone_number_not_proven")


@contextmanager
def asking_twilio(
    account: Account, *, refused: Callable[[str], ApiError] = _not_proven
) -> Iterator[None]:
    """Ask Twilio inside, with credentials from the customer.

    Raises 502 ``carrier_unavailable``, 429 ``too_many_requests``, and what ``refused`` makes of
    Twilio's reason: 400 ``phone_number_not_proven``.
    """
    with twilio_attempt(account, are_wrong=_are_wrong):
        give_connection_back()
        try:
            yield
        except CarrierUnavailable:
            message = "Twilio sent no usable response. Try again in a minute."
            raise ApiError(502, "carrier_unavailable", message) from None
        except CarrierRejected as refusal:
            raise refused(str(refusal)) from refusal


def _are_wrong(error: Exception) -> bool:
    """Return True if Twilio does not know the credentials: not for an account without access."""
    cause = error.__cause__
    return isinstance(cause, CarrierRejected) and cause.code == BAD_CREDENTIALS


def _released(
    account: Account, phone_number: str, proof: TwilioCredentials | None
) -> dict[str, Any]:
    """Return the release of a number that is registered again; raise 409 while it is held back."""
    released = ReleasedNumber.objects.select_for_update().filter(pk=phone_number).first()
    until = released.released_at + RESTS_FOR if released else None
    is_own = released is not None and released.account_id == account.id
    if until and until > timezone.now() and not (is_own or proof):
        raise ApiError(
            409,
            "phone_number_resting",
            f"{phone_number} belonged to another account until recently, and its calls may still "
            "be meant for that account. Send the SID and the auth token of the Twilio account "
            f"that has it (twilioAccountSid, twilioAuthToken), or wait until {until:%Y-%m-%d}.",
        )
    if released:
        released.delete()
    if proof:
        return {"twilio_account_sid": proof.account_sid}
    if released and is_own:
        return {
            "twilio_account_sid": released.twilio_account_sid,
            "verified_at": released.verified_at,
        }
    return {}


def released_numbers_forget() -> None:
    """Delete expired releases."""
    ReleasedNumber.objects.filter(released_at__lte=timezone.now() - RESTS_FOR).delete()


def phone_number_verified(*, account_id: str, phone_number: str, account_sid: str) -> None:
    """Record a call to a number that Twilio signed, and bind it to the account if it is not."""
    number = PhoneNumber.objects.filter(account_id=account_id, phone_number=phone_number)
    long_ago = Q(signed_at=None) | Q(signed_at__lt=timezone.now() - SIGNED_WITHIN)
    signed = {"verified_at": Coalesce("verified_at", Now()), "signed_at": Now()}
    number.filter(long_ago, twilio_account_sid=account_sid).update(**signed)
    unbound = number.filter(twilio_account_sid="")
    if unbound.update(
        **signed,
        twilio_account_sid=account_sid,
        refused_account_sid="",
        refused_at=None,
    ):
        audit_by(
            SYSTEM,
            account=Account.objects.get(pk=account_id),
            action=Action.NUMBER_BOUND,
            number=phone_number,
            twilioAccount=account_sid,
        )


def phone_number_refuse_account(*, number: PhoneNumber, account_sid: str) -> bool:
    """Record a call from another Twilio account; return True if the owner is to be told.

    That is once an hour. Only the last such account is recorded.
    """
    now = timezone.now()
    this = PhoneNumber.objects.filter(pk=number.pk)
    long_ago = Q(refused_at=None) | Q(refused_at__lt=now - TOLD_EVERY)
    if this.filter(long_ago).update(refused_account_sid=account_sid, refused_at=now):
        return True
    this.exclude(refused_account_sid=account_sid).update(refused_account_sid=account_sid)
    return False


@transaction.atomic
def phone_number_update(*, account: Account, id: str, **changes: Any) -> PhoneNumber:
    """Change what was registered, ``is_active`` or ``twilio_account_sid``.

    Raises 404 unless the number is the account's.

    Raises ``ValidationError`` with the invalid fields.

    Setting the Twilio account confirms it: from now on only its calls are accepted. "" leaves the
    choice to the next verified call.
    """
    number = PhoneNumber.objects.select_for_update().access(account, id)
    fields_check(may_be_empty=_MAY_BE_EMPTY | {"twilio_account_sid"}, **changes)
    detail: dict[str, Any] = {"number": str(number), "changed": list(changes)}
    action = Action.NUMBER_CHANGED
    if "twilio_account_sid" in changes:
        action = Action.NUMBER_CONFIRMED
        detail["twilioAccount"] = changes["twilio_account_sid"]
        changes |= {"refused_account_sid": "", "refused_at": None}
    for name, value in changes.items():
        setattr(number, name, value)
    number.save(update_fields=list(changes))
    audit(account=account, action=action, **detail)
    return number


@transaction.atomic
def phone_number_remove(*, account: Account, id: str, rests: bool = True) -> None:
    """Remove a number, but not its calls; raise 404 unless it is the account's.

    :param rests: whether other accounts cannot register it for a while, if it has had verified
        calls.
    """
    _remove([PhoneNumber.objects.select_for_update().access(account, id)], rests=rests)


@transaction.atomic
def phone_numbers_remove_all(*, account: Account) -> None:
    """Remove the account's numbers, as :func:`phone_number_remove` does."""
    _remove(list(PhoneNumber.objects.select_for_update().of(account)), rests=True)


def number_claim(number: PhoneNumber) -> None:
    """Remove a locked number that another account has proven to own, and tell its owner.

    Who proved it is not the owner's business: the log says that we removed it.
    """
    owner = number.account
    audit_by(SYSTEM, account=owner, action=Action.NUMBER_CLAIMED, number=str(number))
    mail_queue(account=owner, name=CLAIMED_MAIL, number=str(number))
    number.delete()


def _remove(numbers: Iterable[PhoneNumber], *, rests: bool) -> None:
    for number in numbers:
        audit(account=number.account, action=Action.NUMBER_REMOVED, number=str(number))
        if rests and number.verified_at is not None:
            ReleasedNumber.objects.update_or_create(
                phone_number=number.phone_number,
                defaults={
                    "account_id": number.account_id,
                    "twilio_account_sid": number.twilio_account_sid,
                    "verified_at": number.verified_at,
                    "released_at": timezone.now(),
                },
            )
        number.delete()


@dataclass(frozen=True, slots=True)
class NumberState:
    """A number, its last call, and the last one that reported an error (``error_code``)."""

    number: PhoneNumber
    last_call: Call | None
    last_failure: Call | None


def number_states(account: Account, numbers: Iterable[PhoneNumber]) -> list[NumberState]:
    """Return the states of numbers ``with_last_calls``, in their order. Runs one query."""
    known = list(numbers)
    ids = {id for number in known for id in (*_last_ids(number), _last_failed_id(number)) if id}
    calls = Call.objects.of(account).in_bulk(list(ids)) if ids else {}
    return [
        NumberState(
            number,
            last_call=_latest(calls[id] for id in _last_ids(number)),
            last_failure=calls.get(_last_failed_id(number)),
        )
        for number in known
    ]


def _last_ids(number: Any) -> list[str]:
    return [id for id in (number.last_inbound_id, number.last_outbound_id) if id]


def _last_failed_id(number: Any) -> str:
    return str(number.last_failed_id or "")


def _latest(calls: Iterable[Call]) -> Call | None:
    return max(calls, key=lambda call: call.created_at, default=None)
