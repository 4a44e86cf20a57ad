"""How gunicorn serves web and engine."""
