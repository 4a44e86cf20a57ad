"""The corpus, area by area. Each case says what is right; what is not is a finding.

An area is a module with ``attack(field, notes)``, and says in ``NEEDS_NETWORK`` whether it can be
tried on 127.0.0.1 at all.
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
# They wait more than they work, and measure nothing.
BESIDE_OTHERS = ("money", "numbers", "lines", "accounts", "mail", "ssrf", "config")
AT_THE_END = ("secrets",)
