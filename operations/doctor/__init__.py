"""``manage.py doctor``: checks an installation, and says what to do about what is wrong.

It also runs if settings are wrong or the database is down, and then skips what depends on them.
"""
