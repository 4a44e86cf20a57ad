"""Credentials that only the stand-ins accept. They are worthless outside the sandbox."""

SANDBOX_ACCOUNT_SID = "AC5a4db0c5a4db0c5a4db0c5a4db0c5a4d"
SANDBOX_AUTH_TOKEN = "5a4db0ca0700e5a4db0ca0700e5a4db0"  # noqa: S105 (of no account at Twilio)
SANDBOX_OPENAI_KEY = "sk-sandbox-opens-nothing-outside-this-machine"
