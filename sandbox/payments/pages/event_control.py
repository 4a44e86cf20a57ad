"""The page that shows events, and holds, repeats, delays or drops them."""

from __future__ import annotations

from django import forms
from django.contrib import messages
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from sandbox.payments import steering
from sandbox.payments.events import EVERY, rule_for
from sandbox.payments.models import Delivery, DeliveryRule, StripeObject
from sandbox.payments.pages.common import show

_SHOWN_EVENTS = 100


class RuleForm(forms.ModelForm):
    class Meta:
        model = DeliveryRule
        fields = ["is_held", "copies", "delay_s", "order"]
        labels = {
            "is_held": "Hold them until they are released",
            "copies": "How often each is sent (0 loses it)",
            "delay_s": "Seconds until it is sent",
            "order": "Order",
        }
        help_texts = dict.fromkeys(fields, "")


@never_cache
@require_safe
def events(request: HttpRequest) -> HttpResponse:
    every = StripeObject.objects.filter(kind__in=["event", "v2.core.event"])
    deliveries = Delivery.objects.select_related("event", "endpoint").order_by("-id")
    context = {
        "deliveries": deliveries[:_SHOWN_EVENTS],
        "counts": delivery_counts(),
        "endpoints": StripeObject.objects.of("webhook_endpoint")
        | StripeObject.objects.of("v2.core.event_destination"),
        "events": every.count(),
        "form": RuleForm(instance=rule_for(EVERY)),
    }
    return show(request, "control_events", context)


@require_POST
def rule(request: HttpRequest) -> HttpResponse:
    """Set the rule for events from now on."""
    form = RuleForm(request.POST, instance=rule_for(EVERY))
    if form.is_valid():
        form.save()
        messages.success(request, "From now on events are treated so.")
    else:
        messages.error(request, "That could not be understood: numbers, please.")
    return redirect("sandbox-payments:events")


@require_POST
def release(request: HttpRequest) -> HttpResponse:
    number = steering.release()
    messages.success(request, f"Released: {number}.")
    return redirect("sandbox-payments:events")


@require_POST
def delivery(request: HttpRequest, id: int) -> HttpResponse:
    """Send one event (again) or drop it."""
    chosen = get_object_or_404(Delivery.objects.select_related("event", "endpoint"), pk=id)
    if request.POST.get("do") == "drop":
        Delivery.objects.filter(pk=id).update(state=Delivery.State.DROPPED)
    elif chosen.state == Delivery.State.DELIVERED:
        steering.send_again(chosen)
    else:
        steering.send_soon(chosen)
    return redirect("sandbox-payments:events")


def delivery_counts() -> dict[str, int]:
    """Return how many deliveries are in each state."""
    counts = Delivery.objects.values_list("state").annotate(Count("id"))
    return dict(counts.order_by("state"))
