"""The documentation site: the guides in this folder, and the API reference."""
