"""The stand-in's pages, below ``/sandbox/payments/``."""

from __future__ import annotations

urlpatterns: list = []
