"""``bin/image``: builds the image, looks inside, and runs Compose's topology from it."""
