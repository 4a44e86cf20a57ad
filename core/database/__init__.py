"""Django's PostgreSQL ``ENGINE``, for a server that stops, hangs and comes back."""
