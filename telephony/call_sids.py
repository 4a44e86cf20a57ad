"""Names of calls that are ours: test calls, which Twilio never hears of."""

from __future__ import annotations

import secrets

# Of Twilio's shape, so that a backend reads it as any other. That Twilio gives a call a name that
# begins so is as likely as guessing 64 bits.
TEST_PREFIX = "CA7e57ca117e57ca11"


def new_test_sid() -> str:
    return TEST_PREFIX + secrets.token_hex(8)


def is_test_sid(call_sid: str) -> bool:
    """Whether the call is a test, for what is shown and counted; never for what is let in."""
    return call_sid.startswith(TEST_PREFIX)
