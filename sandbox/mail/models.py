"""Sent emails."""

from __future__ import annotations

from django.db import models
from django.utils import timezone


class Mail(models.Model):
    sent_at = models.DateTimeField(default=timezone.now)
    sender = models.CharField(max_length=400)
    to = models.TextField(help_text="Addresses, separated by commas.")
    subject = models.CharField(max_length=1000)
    body = models.TextField()

    class Meta:
        verbose_name_plural = "mail"

    def __str__(self) -> str:
        return f"{self.subject} to {self.to}"
