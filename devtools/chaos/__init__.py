"""Breaks the product on purpose, and reports what failed. Not imported by the product."""
