"""What Twilio requests, below ``/voice``."""

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
