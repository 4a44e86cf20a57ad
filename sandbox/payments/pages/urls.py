"""The stand-in's pages, below ``/sandbox/payments/``."""

from __future__ import annotations

from django.urls import path

from sandbox.payments.pages import checkout, control, event_control, invoices, portal

app_name = "sandbox-payments"

urlpatterns = [
    path("", control.index, name="control"),
    path("fault", control.fault, name="fault"),
    path("customers/<str:id>", control.customer, name="customer"),
    path("customers/<str:id>/turn", control.turn, name="turn"),
    path("customers/<str:id>/steer", control.steer, name="steer"),
    path("customers/<str:id>/subscription", control.subscription, name="subscription"),
    path("events", event_control.events, name="events"),
    path("events/rule", event_control.rule, name="rule"),
    path("events/release", event_control.release, name="release"),
    path("events/<int:id>", event_control.delivery, name="delivery"),
    path("checkout/<str:id>", checkout.page, name="checkout"),
    path("invoices/<str:id>", invoices.page, name="invoice"),
    path("portal/<str:id>", portal.page, name="portal"),
    path("portal/<str:id>/card", portal.card, name="portal-card"),
    path("portal/<str:id>/cancel", portal.cancel, name="portal-cancel"),
    path("portal/<str:id>/resume", portal.resume, name="portal-resume"),
]
