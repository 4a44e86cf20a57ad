"""``manage.py payments``: pay, advance clocks and decline cards, without a browser."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from sandbox.payments import testing
from sandbox.payments.business.cards import DECLINES
from sandbox.payments.models import Steering, StripeObject
from sandbox.payments.templatetags.stripe_text import moment, money
from sandbox.payments.wire.errors import Refusal


class Command(BaseCommand):
    help = "Do in the payments sandbox what a customer does on Stripe's pages, and what time does."

    def add_arguments(self, parser: CommandParser) -> None:
        parsers = parser.add_subparsers(dest="do", required=True)
        pay = parsers.add_parser("pay", help="pay on a checkout page")
        pay.add_argument("checkout", help="the page's address, or the session's id")
        pay.add_argument("--card", default=testing.GOOD_CARD, help="default %(default)s")
        turn = parsers.add_parser("turn", help="turn a customer's clock")
        turn.add_argument("customer", help="email address or id")
        turn.add_argument("--days", type=float, help="by so many; else to the next renewal")
        decline = parsers.add_parser("decline", help="have a customer's next charge declined")
        decline.add_argument("customer", help="email address or id")
        decline.add_argument("--reason", choices=DECLINES, default="generic_decline")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            getattr(self, f"_{options['do']}")(options)
        except Refusal as refusal:
            raise CommandError(str(refusal)) from None

    def _pay(self, options: dict[str, Any]) -> None:
        subscription = testing.pay(options["checkout"], options["card"])
        self.stdout.write(f"Paid: the subscription is {subscription['status']}.")

    def _turn(self, options: dict[str, Any]) -> None:
        customer_id = _customer_id(options["customer"])
        if options["days"] is not None:
            testing.turn(customer_id, days=options["days"])
        elif testing.subscriptions_of(customer_id):
            testing.turn_to_renewal(customer_id)
        else:
            raise CommandError("This customer has no subscription: say how many --days.")
        self.stdout.write(f"It is {moment(testing.now(customer_id))} for this customer.")
        for invoice in testing.invoices_of(customer_id):
            total = money(invoice["total"], invoice["currency"])
            self.stdout.write(f"{invoice['number'] or 'draft'}: {total}, {invoice['status']}")

    def _decline(self, options: dict[str, Any]) -> None:
        customer_id = _customer_id(options["customer"])
        Steering.objects.update_or_create(
            customer_id=customer_id, defaults={"next_charge": options["reason"]}
        )
        self.stdout.write("The next charge is declined.")


def _customer_id(text: str) -> str:
    customers = StripeObject.objects.of("customer").order_by("-serial")
    found = customers.filter(id=text).first() or customers.filter(body__email=text).first()
    if found is None:
        raise CommandError(f"There is no customer {text}.")
    return found.id
