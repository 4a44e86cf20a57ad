"""Endpoints of accounts, below ``/api/``."""

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
