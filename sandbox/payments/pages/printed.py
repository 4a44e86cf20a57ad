"""An invoice as lines of plain text."""

from __future__ import annotations

from typing import Any

from sandbox.payments.business.lines import money
from sandbox.payments.templatetags.stripe_text import day

_WIDTH = 72


def printed_lines(invoice: dict[str, Any]) -> list[str]:
    currency = invoice["currency"]
    return [
        f"Invoice {invoice['number']}",
        "",
        "SANDBOX: nothing was sold, and no money has moved.",
        "",
        f"From   {invoice['account_name']}",
        f"To     {invoice['customer_name'] or invoice['customer_email'] or invoice['customer']}",
        f"Date   {day(invoice['created'])}",
        f"Status {invoice['status']}",
        "",
        *(
            _columns(line["description"], money(line["amount"], currency))
            for line in invoice["lines"]["data"]
        ),
        "-" * _WIDTH,
        _columns("Total", money(invoice["total"], currency)),
        _columns("Paid", money(invoice["amount_paid"], currency)),
        _columns("Due", money(invoice["amount_remaining"], currency)),
    ]


def _columns(left: str, right: str) -> str:
    return f"{left:<{_WIDTH - 12}}{right:>12}"
