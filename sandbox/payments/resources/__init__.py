"""The endpoints of Stripe's API, one module per kind. Importing them registers them."""

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
