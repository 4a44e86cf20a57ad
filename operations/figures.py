"""Figures for operators, and the lists behind them. Counts stop at a limit."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.db.models import QuerySet
from django.urls import reverse

MOST = 1000


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure, its label, the page that lists what was counted, and what explains it."""

    label: str
    text: str
    url: str = ""
    guide_url: str = ""


def age(time: timedelta) -> str:
    """Return a time in its largest whole unit: ``25 min``, ``3 h``, ``2 days``."""
    minutes = time // timedelta(minutes=1)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // (24 * 60)} days"


def shown(count: int) -> str:
    return f"{MOST:,}+" if count == MOST else f"{count:,}"


def capped(rows: QuerySet[Any]) -> int:
    return rows.order_by()[:MOST].count()


def list_url(model: Any, **filters: str) -> str:
    url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    return f"{url}?{urlencode(filters)}" if filters else url
