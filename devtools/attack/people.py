"""The people of a run: customers with their keys, numbers and backends, and operators."""

from __future__ import annotations

import importlib
import json
import os
import secrets
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

from devtools.attack.internet import Desk
from devtools.attack.voice import TwilioAccount, plan
from devtools.processes import Failed

if TYPE_CHECKING:
    from devtools.attack.context import Context

CUSTOMERS = (
    "alice",  # the victim
    "bob",  # attacks others
    "carol",  # has poison in every field
    "dora",  # deletes her account during calls
    "erin",  # is suspended during a call
    "lena",  # has her lines blocked
    "hank",  # has a hostile backend
    "mona",  # wants minutes for free
    "max",  # too
    "tess",  # tests her backend
)
# Only Root has every permission, and only Oscar has no second factor.
OPERATORS = ("olga", "oscar", "root")

_serial = count(1)


@dataclass
class Person:
    name: str
    password: str = field(default_factory=lambda: f"a walk {secrets.token_hex(8)}")
    twilio: TwilioAccount = field(default_factory=TwilioAccount)
    id: str = ""
    key: str = ""
    token: str = ""
    company: str = ""
    codes: list[str] = field(default_factory=list)  # recovery codes, in place of a second factor

    @property
    def email(self) -> str:
        return f"{self.name}@people.example.com"


@dataclass
class Line:
    """A number and its backend."""

    person: Person
    number: str
    id: str
    desk: Desk

    @property
    def twilio(self) -> TwilioAccount:
        return self.person.twilio


def new_number() -> str:
    """Return a valid number that is new in this run."""
    return f"+1415{2_000_000 + next(_serial):07}"


async def register(context: Context, person: Person, **changes: Any) -> Any:
    """Register with the API; keep the key and the token."""
    body = {"email": person.email, "password": person.password, "companyName": person.company}
    answer = await context.web.ask("POST", "/api/auth/register", body=body | changes)
    if answer.status != 201:
        raise Failed(f"{person.email} could not register: {answer}")
    person.id = answer.json["account"]["id"]
    person.key, person.token = answer.json["apiKey"], answer.json["token"]
    context.canaries.add(person.key, person.token, person.password)
    context.canaries.add(person.twilio.token)
    return answer.json


async def make_line(context: Context, person: Person, number: str = "", **changes: Any) -> Line:
    """Register a number with a backend that accepts every call."""
    desk = context.internet.desk()
    desk.answer = plan(person.twilio, desk)
    context.canaries.add(desk.answer["openaiApiKey"])
    number = number or new_number()
    body = {"phoneNumber": number, **desk.urls(), **changes}
    answer = await context.web.ask("POST", "/api/phone-numbers", body=body, token=person.key)
    if answer.status not in (200, 201):
        raise Failed(f"{number} could not be registered: {answer}")
    return Line(person, number, answer.json["phoneNumber"]["id"], desk)


async def assemble(context: Context) -> None:
    """Register everyone, and have ``manage.py`` do what a customer cannot."""
    for name in CUSTOMERS:
        context.people[name] = person = Person(name, company=f"{name.title()} Ltd")
        await register(context, person)
    for name in OPERATORS:
        context.people[name] = Person(name)
        context.canaries.add(context.people[name].password)
    wanted = {
        "active": [context.people[name].email for name in CUSTOMERS],
        "operators": {
            context.people[name].email: context.people[name].password for name in OPERATORS
        },
        "subscribers": {context.people["dora"].email: "cus_dora"},
    }
    told = await set_up_accounts(context, wanted)
    for email, id in told["ids"].items():
        context.people[email.partition("@")[0]].id = id
    for email, codes in told["codes"].items():
        context.people[email.partition("@")[0]].codes = codes
        context.canaries.add(*codes)


async def set_up_accounts(context: Context, wanted: dict[str, Any]) -> dict[str, Any]:
    """Set up in a process of the product what the API cannot: see ``_set_up_accounts``."""
    made = await context.product.run(
        "-m", "devtools.attack.people", ATTACK_ACCOUNTS=json.dumps(wanted)
    )
    if made.returncode:
        raise Failed(f"The accounts could not be created: {made.stderr[-500:]}")
    return dict(json.loads(made.stdout.splitlines()[-1]))


def _set_up_accounts(wanted: dict[str, Any]) -> None:
    """Activate accounts, create operators, and record Stripe's customers."""
    import django

    django.setup()
    from django.contrib.auth.models import Permission
    from django.core.management import call_command
    from django.utils import timezone

    from accounts.models import Account
    from billing.models import PlanPart, StatusCheck, StripeCustomer

    for email in wanted["active"]:
        call_command("activate", email, stdout=open(os.devnull, "w"))  # noqa: SIM115
    Account.objects.filter(email__in=wanted["active"]).update(email_verified_at=timezone.now())
    codes = {}
    for email, password in wanted["operators"].items():
        is_superuser = email.startswith("root@")
        operator = Account.objects.create_user(
            email,
            password,
            is_staff=True,
            is_superuser=is_superuser,
            email_verified_at=timezone.now(),
        )
        if not is_superuser:
            names = ["view_account", "change_account"]
            operator.user_permissions.set(Permission.objects.filter(codename__in=names))
        if not email.startswith("oscar@"):
            codes[email] = _second_factor(operator)
    for email, customer_id in wanted["subscribers"].items():
        account = Account.objects.get(email=email)
        StripeCustomer.objects.update_or_create(
            account=account, defaults={"customer_id": customer_id}
        )
        StatusCheck.objects.get_or_create(account=account)
    PlanPart.objects.get_or_create(name=PlanPart.Name.METER, defaults={"stripe_id": "mtr_attack"})
    ids = dict(Account.objects.values_list("email", "id"))
    sys.stdout.write(json.dumps({"ids": ids, "codes": codes}) + "\n")


def _second_factor(account: Any) -> list[str]:
    """Give an account an authenticator app; return its recovery codes."""
    with suppress(ModuleNotFoundError):
        factors = importlib.import_module("accounts.second_factors")
        secret = factors.totp_secret_new()
        counter = next(iter(factors.yield_hotp_counters_from_time()))
        code = factors.format_hotp_value(factors.hotp_value(secret, counter))
        return list(factors.totp_add(account=account, secret=secret, code=code))
    return []


if __name__ == "__main__":
    _set_up_accounts(json.loads(os.environ["ATTACK_ACCOUNTS"]))
