"""What all requests to Stripe have in common, whatever they are about."""
