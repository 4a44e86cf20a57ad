"""The effects of requests: subscriptions, invoices and cards, and the passing of time."""
