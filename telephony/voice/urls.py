"""The URLs that Twilio requests, below ``/voice``; ``telephony.links`` builds them."""

from django.urls import path

from telephony.voice import webhooks

urlpatterns = [
    path("", webhooks.inbound),
    path("/answer/<str:token>", webhooks.answered),
    path("/status/<str:token>", webhooks.status_changed),
    path("/stream/<str:token>", webhooks.stream_changed),
    path("/after/<str:token>", webhooks.after_stream),
]
