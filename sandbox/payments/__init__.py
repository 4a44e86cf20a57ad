"""A stand-in for Stripe: the real SDK, dj-stripe and real signatures run against it unchanged.

``transport`` is what the SDK talks to instead of Stripe's servers; ``wire`` is what all requests
have in common, ``resources`` what can be asked for, ``business`` what it means (subscriptions,
invoices, cards, time), ``pages`` what a person sees, ``testing`` what tests do as that person.
"""
