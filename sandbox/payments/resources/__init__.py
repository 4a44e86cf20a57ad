"""What can be asked for at Stripe, a module per kind of thing. Importing them registers it all."""

from sandbox.payments.resources import (  # noqa: F401
    catalog,
    checkout,
    customers,
    endpoints,
    events,
    invoices,
    meters,
    portal,
    subscriptions,
)
