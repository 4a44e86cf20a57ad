"""What a person sees: Stripe's checkout, portal and invoices, and how to steer the stand-in."""
