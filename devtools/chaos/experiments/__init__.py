"""The experiments. Each is a module with ``run(system, notes)``, and says in ``KILLS`` which
processes do not live through it.
"""

NAMES = (
    "lanes",
    "database-restart",
    "database-hangs",
    "engine-cut-off",
    "kills",
    "deploys",
    "orphaned-worker",
    "limits",
    "floods",
)
# What a minute or two are enough for: the worst that happens to everybody.
IN_SHORT = ("database-restart", "kills", "deploys", "limits")
