"""The numbers of accounts."""

from __future__ import annotations

from typing import Self

from django.db import models
from django.db.models import OuterRef, Q, Subquery
from django.utils import timezone

from accounts.models import Account
from accounts.ownership import OwnedQuerySet
from core.ids import new_id
from core.texts import validate_line
from telephony.models.calls import OUR_NUMBER, Call
from telephony.numbering import number_digits

LONGEST_NUMBER_NAME = 64


class PhoneNumberQuerySet(OwnedQuerySet["PhoneNumber"]):
    def with_last_calls(self) -> Self:
        """Add the ids of each number's last calls, if there are any: one index lookup for each.

        ``last_inbound_id``, ``last_outbound_id``, and ``last_failed_id`` of the last one that
        reported an error.
        """
        calls = Call.objects.filter(account=OuterRef("account")).order_by("-created_at")
        inbound = calls.filter(
            direction=Call.Direction.INBOUND, called_number=OuterRef("phone_number")
        )
        outbound = calls.filter(
            direction=Call.Direction.OUTBOUND, caller_phone=OuterRef("phone_number")
        )
        failed = calls.exclude(error_code="").alias(our_number=OUR_NUMBER)
        failed = failed.filter(our_number=OuterRef("phone_number"))
        return self.annotate(
            last_inbound_id=Subquery(inbound.values("pk")[:1]),
            last_outbound_id=Subquery(outbound.values("pk")[:1]),
            last_failed_id=Subquery(failed.values("pk")[:1]),
        )

    def matching(self, text: str) -> Self:
        """Numbers whose name has the text in it, or that have its digits in them."""
        digits = number_digits(text)
        found = Q(name__icontains=text)
        return self.filter(found | Q(phone_number__contains=digits) if digits else found)


class PhoneNumber(models.Model):
    """A US number, in E.164, and the URLs for its callbacks."""

    id = models.CharField(primary_key=True, max_length=25, default=new_id, editable=False)
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="phone_numbers")
    phone_number = models.CharField(max_length=16, unique=True)
    name = models.CharField(
        max_length=LONGEST_NUMBER_NAME, blank=True, db_default="", validators=[validate_line]
    )
    on_call_start_url = models.URLField(max_length=2000)
    on_call_end_url = models.URLField(max_length=2000)
    on_error_url = models.URLField(max_length=2000, blank=True)
    is_active = models.BooleanField(default=True)
    twilio_account_sid = models.CharField(
        "Twilio account",
        max_length=34,
        blank=True,
        db_default="",
        help_text="Calls from other Twilio accounts are refused. Set by the first verified call.",
    )
    verified_at = models.DateTimeField(
        null=True,
        blank=True,
        editable=False,
        help_text="When Twilio first signed a call to it, or first confirmed that its Twilio "
        "account has it.",
    )
    signed_at = models.DateTimeField(
        null=True,
        blank=True,
        editable=False,
        help_text="When Twilio last signed a call to it, give or take a minute.",
    )
    refused_account_sid = models.CharField(
        "refused Twilio account",
        max_length=34,
        blank=True,
        db_default="",
        help_text="The last other Twilio account that a call came from.",
    )
    refused_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = PhoneNumberQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["account", "created_at"], name="number_by_account")]

    def __str__(self) -> str:
        return self.phone_number


class ReleasedNumber(models.Model):
    """A number that its account released after verified calls.

    Twilio may still send its calls here. It is held back, so that no other account receives them:
    see ``telephony.numbers``.
    """

    phone_number = models.CharField(primary_key=True, max_length=16)
    account = models.ForeignKey(Account, on_delete=models.SET_NULL, null=True, related_name="+")
    twilio_account_sid = models.CharField(max_length=34, blank=True)
    verified_at = models.DateTimeField()
    released_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.phone_number
