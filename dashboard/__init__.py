"""What customers do without writing code: sign up, pay, look at calls, keep numbers and keys."""
