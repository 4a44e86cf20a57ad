"""Pages: Stripe's checkout, portal and invoices, and the controls of the stand-in."""
