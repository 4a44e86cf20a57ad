"""A customer's backend, to look at and to copy from: signatures.py and restaurant.py above all."""

from sandbox.backend.server import Backend

__all__ = ["Backend"]
