"""The lanes of the queue, which separate jobs by what they wait for.

Each lane has its own places in every worker. When the service that it waits for hangs (Stripe, a
customer's backend, the mail server), its jobs fill only the lane's own places.

A task declares its lane: ``@app.task(queue=lanes.MONEY)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

CALLS: Final = "calls"  # ends calls that nothing else ends; waits only for the database
MONEY: Final = "money"  # payments and usage; waits for Stripe
CALLBACKS: Final = "callbacks"  # waits for customers' backends
MAIL: Final = "mail"  # waits for the mail server
UPKEEP: Final = "upkeep"  # work that is not urgent; waits only for the database

# The most jobs of each lane that a worker runs at a time. While it waits, a callback takes memory
# and a socket; any other job takes a thread.
PLACES: Mapping[str, int] = {CALLS: 10, MONEY: 10, CALLBACKS: 200, MAIL: 5, UPKEEP: 5}
