"""Which models that OpenAI turns off soon are in use."""

from __future__ import annotations

from django.db import models

from accounts.models import Account
from accounts.ownership import OwnedQuerySet
from telephony.models.numbers import PhoneNumber


class ModelUse(models.Model):
    """A model with a retirement date that spoke in calls of a number: see ``retirements``.

    Rows that are not renewed are deleted (``telephony.retirements.LASTS``).
    """

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+", db_index=False)
    number = models.ForeignKey(PhoneNumber, on_delete=models.CASCADE, related_name="+")
    model = models.CharField(max_length=100, help_text="As models.toml names it.")
    used_at = models.DateTimeField(help_text="When it was last used, give or take an hour.")

    objects = OwnedQuerySet["ModelUse"].as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["account", "model", "number"], name="model_use_of_number"
            )
        ]

    def __str__(self) -> str:
        return f"{self.model} of {self.number_id}"
