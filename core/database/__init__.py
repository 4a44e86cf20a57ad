"""Django's PostgreSQL, for a server that goes away, hangs, and comes back: the ``ENGINE``."""
