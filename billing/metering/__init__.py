"""Reports usage records to Stripe's meter, and compares the two."""
