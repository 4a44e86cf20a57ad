"""From usage records to Stripe's meter, and whether the two agree."""
