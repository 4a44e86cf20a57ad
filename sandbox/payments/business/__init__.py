"""What it means: subscriptions, invoices and cards, and the time that passes for them."""
