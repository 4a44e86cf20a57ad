"""The lanes of the queue, by what their jobs wait for.

A lane has places of its own in every worker. When what it waits for hangs (Stripe, customers'
backends, the mail server), its own places fill, and no other lane's.

A task says its lane where it is declared: ``@app.task(queue=lanes.MONEY)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

CALLS: Final = "calls"  # ends the calls that nobody else ends; waits for the database alone
MONEY: Final = "money"  # who has paid, and what was used; waits for Stripe
CALLBACKS: Final = "callbacks"  # waits for customers' backends
MAIL: Final = "mail"  # waits for the mail server
UPKEEP: Final = "upkeep"  # what may be done a little later; waits for the database alone

# How many jobs of a lane a worker runs at a time. A callback takes memory and a socket while it
# waits, anything else a thread.
PLACES: Mapping[str, int] = {CALLS: 10, MONEY: 10, CALLBACKS: 200, MAIL: 5, UPKEEP: 5}
