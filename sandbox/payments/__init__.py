"""A stand-in for Stripe: the real SDK, dj-stripe and real signatures run against it unchanged.

The SDK talks to ``transport`` instead of Stripe's servers. ``wire`` handles what all requests have
in common, ``resources`` has the endpoints, ``business`` their effects (subscriptions, invoices,
cards, time), ``pages`` the pages for people, and ``testing`` what tests do on those.
"""
