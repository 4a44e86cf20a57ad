"""``bin/demo``: two phone calls from end to end, explained for newcomers."""
