"""CallSids that we assign: those of test calls, which Twilio does not know."""

from __future__ import annotations

import secrets

# In Twilio's format, so that a backend reads it like any other. Twilio assigns one with this prefix
# as rarely as somebody guesses 64 bits.
TEST_PREFIX = "CA7e57ca117e57ca11"


def new_test_sid() -> str:
    return TEST_PREFIX + secrets.token_hex(8)


def is_test_sid(call_sid: str) -> bool:
    """Return True for a test call. For display and counts only, never for access."""
    return call_sid.startswith(TEST_PREFIX)
