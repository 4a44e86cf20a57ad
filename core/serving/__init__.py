"""Gunicorn's workers for the web and engine processes."""
