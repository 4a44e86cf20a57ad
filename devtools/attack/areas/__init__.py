"""The attacks, area by area. Each case states the correct behaviour.

An area is a module with ``attack(context, notes)`` and ``NEEDS_NETWORK``: True if it cannot be
tried on 127.0.0.1.
"""

NAMES = (
    "money",
    "numbers",
    "lines",
    "accounts",
    "mail",
    "ssrf",
    "config",
    "poison",
    "answers",
    "media",
    "slow",
    "secrets",
)
# They mostly wait, and measure nothing.
BESIDE_OTHERS = ("money", "numbers", "lines", "accounts", "mail", "ssrf", "config")
AT_THE_END = ("secrets",)
