"""Code for all requests to Stripe, whatever their resource."""
