"""The experiments. Each is a module with ``run(system, notes)``, and lists in ``KILLS`` the
processes that do not survive it.
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
# Those that fit into a minute or two: the worst failures that affect everyone.
IN_SHORT = ("database-restart", "kills", "deploys", "limits")
