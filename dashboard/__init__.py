"""The pages for customers: sign up, pay, see calls, manage numbers and API keys."""
