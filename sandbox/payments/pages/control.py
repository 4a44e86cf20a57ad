"""Where whoever tries things out turns clocks, declines cards and steers events."""

from __future__ import annotations

from django import forms
from django.contrib import messages
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from sandbox.payments import steering
from sandbox.payments.business import clock, invoicing, passing, subscribing
from sandbox.payments.business.cards import DECLINES
from sandbox.payments.events import EVERY, rule_for
from sandbox.payments.models import Delivery, DeliveryRule, Fault, Steering, StripeObject
from sandbox.payments.objects import find, writing
from sandbox.payments.pages.common import closed, found, show
from sandbox.payments.pages.overview import Overview
from sandbox.payments.wire.errors import Refusal

_SHOWN_CUSTOMERS = 50
_SHOWN_EVENTS = 100
_STEPS = {"hour": clock.HOUR, "day": clock.DAY, "week": 7 * clock.DAY}
_HAPPENINGS = {
    "checkout.session": "a checkout page expires",
    "invoice": "an invoice is collected",
    "subscription": "the subscription's period ends",
}


class SteeringForm(forms.ModelForm):
    next_charge = forms.ChoiceField(
        label="The next charge",
        required=False,
        choices=[
            ("", "goes by the card"),
            *((code, decline.message) for code, decline in DECLINES.items()),
        ],
    )

    class Meta:
        model = Steering
        fields = ["next_charge", "dunning_end"]
        labels = {"dunning_end": "When all retries have failed"}
        help_texts = {"dunning_end": ""}


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
def index(request: HttpRequest) -> HttpResponse:
    customers = StripeObject.objects.of("customer").order_by("-serial")[:_SHOWN_CUSTOMERS]
    sessions = StripeObject.objects.of("checkout.session").filter(body__status="open")
    context = {
        "overviews": [Overview.of(customer) for customer in customers],
        "sessions": [session.body for session in sessions.order_by("-serial")[:10]],
        "deliveries": _delivery_counts(),
        "faults": Fault.objects.exclude(times_left=0).order_by("id"),
        "fault_kinds": Fault.Kind.choices,
    }
    return show(request, "control", context)


@never_cache
@require_safe
def customer(request: HttpRequest, id: str) -> HttpResponse:
    customer = found("customer", id)
    if customer is None:
        return _unknown(request)
    passing.let_pass(id)
    customer.refresh_from_db()
    due = passing.next_due(id)
    sessions = StripeObject.objects.of("checkout.session").filter(customer_id=id)
    context = {
        "overview": Overview.of(customer),
        "now": clock.now(id),
        "ahead_s": clock.ahead_s(id),
        "due_at": due and due.due_at,
        "due_what": due and _HAPPENINGS[due.kind],
        "form": SteeringForm(instance=Steering.objects.filter(pk=id).first()),
        "sessions": [s.body for s in sessions.filter(body__status="open").order_by("-serial")],
        "steps": _STEPS,
    }
    return show(request, "control_customer", context)


@require_POST
def turn(request: HttpRequest, id: str) -> HttpResponse:
    """Turn a customer's clock: by a step, to the next renewal, until something happens."""
    if found("customer", id) is None:
        return _unknown(request)
    to = _moment(id, request.POST.get("by", ""))
    if to is None:
        messages.error(request, "Nothing will happen to this customer by itself.")
    else:
        passing.turn(id, max(to, clock.now(id)))
    return redirect("sandbox-payments:customer", id)


@require_POST
def steer(request: HttpRequest, id: str) -> HttpResponse:
    if found("customer", id) is None:
        return _unknown(request)
    form = SteeringForm(request.POST, instance=Steering.objects.filter(pk=id).first())
    form.instance.customer_id = id
    if form.is_valid():
        form.save()
        messages.success(request, "Saved.")
    return redirect("sandbox-payments:customer", id)


@require_POST
def subscription(request: HttpRequest, id: str) -> HttpResponse:
    """Do to a customer's subscription what an operator does in Stripe's dashboard."""
    live = subscribing.live_of(id).first()
    if live is None:
        return _unknown(request)
    try:
        with writing():
            match request.POST.get("do"):
                case "cancel":
                    subscribing.cancel(live, invoice_now=True)
                case "cancel_at_period_end":
                    subscribing.cancel_at_period_end(live, wanted=True)
                case "go_on":
                    subscribing.cancel_at_period_end(live, wanted=False)
                case "resume":
                    subscribing.resume(live)
    except Refusal as refusal:
        messages.error(request, str(refusal))
    return redirect("sandbox-payments:customer", id)


@never_cache
@require_safe
def events(request: HttpRequest) -> HttpResponse:
    every = StripeObject.objects.filter(kind__in=["event", "v2.core.event"])
    deliveries = Delivery.objects.select_related("event", "endpoint").order_by("-id")
    context = {
        "deliveries": deliveries[:_SHOWN_EVENTS],
        "counts": _delivery_counts(),
        "endpoints": StripeObject.objects.of("webhook_endpoint")
        | StripeObject.objects.of("v2.core.event_destination"),
        "events": every.count(),
        "form": RuleForm(instance=rule_for(EVERY)),
    }
    return show(request, "control_events", context)


@require_POST
def rule(request: HttpRequest) -> HttpResponse:
    """Say what becomes of events from now on."""
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
    """Send one event (again) or lose it."""
    chosen = get_object_or_404(Delivery.objects.select_related("event", "endpoint"), pk=id)
    if request.POST.get("do") == "drop":
        Delivery.objects.filter(pk=id).update(state=Delivery.State.DROPPED)
    elif chosen.state == Delivery.State.DELIVERED:
        steering.send_again(chosen)
    else:
        steering.send_soon(chosen)
    return redirect("sandbox-payments:events")


@require_POST
def fault(request: HttpRequest) -> HttpResponse:
    """Have all requests fail, or none any more."""
    kind = request.POST.get("kind", "")
    if kind in Fault.Kind.values:
        steering.fail(Fault.Kind(kind))
    else:
        Fault.objects.all().delete()
    return redirect("sandbox-payments:control")


def _moment(customer_id: str, by: str) -> int | None:
    """Return when a customer's clock is to stand."""
    now = clock.now(customer_id)
    if by in _STEPS:
        return now + _STEPS[by]
    if by == "renewal":
        end = Overview.of(find("customer", customer_id)).period_end
        return end and end + invoicing.DRAFT_S
    due = passing.next_due(customer_id)
    return due and due.due_at


def _delivery_counts() -> dict[str, int]:
    counts = Delivery.objects.values_list("state").annotate(Count("id"))
    return dict(counts.order_by("state"))


def _unknown(request: HttpRequest) -> HttpResponse:
    return closed(
        request, "There is no such customer", "Or there is nothing left of it to steer.", status=404
    )
