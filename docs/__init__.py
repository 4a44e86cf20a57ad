"""The documentation site: the guides beside this file, and the API reference."""
