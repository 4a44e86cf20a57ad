"""The settings for tests: the settings module, with values that replace the environment."""

import os

os.environ.setdefault("SECRET_KEY", "test-" + "x" * 50)
os.environ["DEBUG"] = "1"
os.environ["SANDBOX"] = "1"
os.environ["STRIPE_SECRET_KEY"] = os.environ["STRIPE_WEBHOOK_SECRET"] = ""

from config.settings import *  # noqa: F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # seconds, over a whole run
