"""What all requests to Stripe have in common, whatever their resource."""
