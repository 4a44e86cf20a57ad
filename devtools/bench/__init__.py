"""Measurements of the product's speed. Not imported by the product."""
