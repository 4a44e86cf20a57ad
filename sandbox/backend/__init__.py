"""A customer's backend to read and copy from: above all signatures.py and restaurant.py."""

from sandbox.backend.server import Backend

__all__ = ["Backend"]
