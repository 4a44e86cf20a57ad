"""``bin/demo``: two phone calls from end to end, told to somebody who does not know the product."""
