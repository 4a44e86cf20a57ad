"""The audit log: each change to an account, who made it, when, and from where.

An event is written in the transaction of the change, and is immutable: the database rejects updates
and deletes (migration 0006). Customers see the events of their account with all details, so a
detail must not be a secret or an operator's private note.

Changes made directly with SQL or in a Python shell are not logged.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from django.db import models
from django.utils import timezone

from accounts.actors import Actor, ActorKind, current_actor
from accounts.ownership import OwnedQuerySet
from core.ids import new_id
from core.logs import redact

if TYPE_CHECKING:
    from accounts.models import Account

MOST_DETAILS = 10
LONGEST_DETAIL = 254

Detail = str | int | bool | None


class Action(models.TextChoices):
    """The events of an account: a name for the API, and a sentence for people."""

    REGISTERED = "account.registered", "The account was created"
    COMPANY_RENAMED = "account.renamed", "The company name was changed"
    TIME_ZONE_CHANGED = "account.time_zone_changed", "The time zone was changed"
    STATUS_CHANGED = "account.status_changed", "The billing status changed"
    ACTIVATED = "account.activated", "The account was activated"
    SUSPENDED = "account.suspended", "The account was suspended"
    UNSUSPENDED = "account.unsuspended", "The suspension was lifted"
    DISABLED = "account.disabled", "The account was disabled"
    ENABLED = "account.enabled", "The account was enabled"
    RIGHTS_CHANGED = "account.rights_changed", "The account's rights in the admin were changed"
    VIEWED = "account.viewed_by_support", "Support began to view the dashboard"
    VIEW_ENDED = "account.view_by_support_ended", "Support stopped viewing the dashboard"
    CLOSED = "account.deleted", "The account was deleted"
    # Of earlier versions, in which operators could.
    REMOVED = "account.removed", "The account was removed from the database"

    LOGGED_IN = "login.succeeded", "Signed in"
    LOGIN_FAILED = "login.failed", "A sign-in failed: wrong password"
    SIGNED_OUT_EVERYWHERE = "login.ended_everywhere", "All sessions and tokens were ended"

    EMAIL_CHANGED = "email.changed", "The email address was changed"
    EMAIL_CONFIRMED = "email.confirmed", "The email address was confirmed"

    PASSWORD_CHANGED = "password.changed", "The password was changed"
    PASSWORD_REMOVED = "password.removed", "The password was removed"
    PASSWORD_RESET_ASKED = "password.reset_asked", "A password reset was requested"
    PASSWORD_RESET = "password.reset", "The password was reset with a link"

    SECOND_FACTOR_ADDED = "second_factor.added", "A second factor was added"
    SECOND_FACTOR_REMOVED = "second_factor.removed", "A second factor was removed"
    RECOVERY_CODES_MADE = "recovery_codes.created", "New recovery codes were created"
    RECOVERY_CODE_USED = "recovery_codes.used", "A recovery code was used"
    SUDO_ENTERED = "sudo.entered", "Identity was confirmed for a sensitive action"

    API_KEY_CREATED = "api_key.created", "An API key was created"
    API_KEY_REVOKED = "api_key.revoked", "An API key was revoked"
    WEBHOOK_SECRET_SHOWN = "webhook_secret.shown", "The webhook secret was shown"
    WEBHOOK_SECRET_ROTATED = "webhook_secret.rotated", "The webhook secret was rotated"

    NUMBER_REGISTERED = "phone_number.registered", "A phone number was registered"
    NUMBER_CHANGED = "phone_number.changed", "A phone number's settings were changed"
    NUMBER_REMOVED = "phone_number.removed", "A phone number was removed"
    NUMBER_BOUND = "phone_number.bound", "A phone number was bound to a Twilio account"
    NUMBER_CONNECTED = "phone_number.connected", "A phone number's voice webhook was set at Twilio"
    NUMBER_CLAIMED = (
        "phone_number.claimed",
        "A phone number was removed: its Twilio account connected it to another Switchhook account",
    )
    NUMBER_CONFIRMED = "phone_number.confirmed", "A phone number's Twilio account was set"

    SPENDING_LIMIT_CHANGED = "spending_limit.changed", "The spending limit was changed"
    NOTIFICATIONS_CHANGED = "notifications.changed", "The notification settings were changed"


SUPPORT = "support"
"""The name that customers see for operators and the command line."""

_NAMES = {
    SUPPORT: "Switchhook support",
    ActorKind.SYSTEM: str(ActorKind.SYSTEM.label),
    ActorKind.VISITOR: str(ActorKind.VISITOR.label),
}

# These prove that the visitor owns the account.
_BY_THE_OWNER = frozenset(
    {
        Action.REGISTERED,
        Action.API_KEY_CREATED,
        Action.LOGGED_IN,
        Action.PASSWORD_CHANGED,
        Action.PASSWORD_RESET,
    }
)


class AuditEvent(models.Model):
    id = models.CharField(primary_key=True, max_length=25, default=new_id, editable=False)
    # Without a constraint, because events outlive a removed account.
    account = models.ForeignKey(
        "accounts.Account",
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="audit_events",
    )
    action = models.CharField(max_length=40)  # an Action, or one of a later release
    actor_kind = models.CharField("who", max_length=8, choices=ActorKind)
    actor_id = models.CharField(max_length=25, blank=True)
    actor_label = models.CharField("as", max_length=254, blank=True)
    detail = models.JSONField(default=dict, blank=True)
    network = models.CharField("from", max_length=43, blank=True)
    request_id = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = OwnedQuerySet["AuditEvent"].as_manager()

    class Meta:
        # No index by time alone: PostgreSQL would use it and scan the events of all accounts.
        indexes = [
            models.Index(fields=["account", "created_at", "id"], name="audit_event_by_account"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.id}"

    @property
    def sentence(self) -> str:
        return str(Action(self.action).label) if self.action in Action.values else self.action

    @property
    def shown_kind(self) -> str:
        """The kind of actor that customers see. Operators and the shell are all "support"."""
        is_by_support = self.actor_kind in (ActorKind.OPERATOR, ActorKind.SHELL)
        return SUPPORT if is_by_support else self.actor_kind

    @property
    def shown_name(self) -> str:
        match self.shown_kind:
            case ActorKind.CUSTOMER:
                return self.actor_label
            case ActorKind.API_KEY:
                return f"API key {self.actor_label}…"
            case kind:
                return _NAMES[kind]

    @property
    def shown_network(self) -> str | None:
        return self._unless_by_support(self.network)

    @property
    def shown_request_id(self) -> str | None:
        return self._unless_by_support(self.request_id)

    @property
    def shown_api_key_id(self) -> str | None:
        return self.actor_id if self.actor_kind == ActorKind.API_KEY else None

    def _unless_by_support(self, text: str) -> str | None:
        return None if self.shown_kind == SUPPORT else text or None


def audit(*, account: Account, action: Action, **detail: Detail | Iterable[str]) -> None:
    """Log a change to an account, in the caller's transaction.

    The actor is known from the request, command or job (``accounts.actors``).

    :param detail: at most ten texts or numbers that the account's owner may read; never a secret.
    """
    audit_by(current_actor(), account=account, action=action, **detail)


def audit_by(
    actor: Actor, *, account: Account, action: Action, **detail: Detail | Iterable[str]
) -> None:
    """Log a change as :func:`audit` does, for an actor who is not the current one."""
    if actor.kind == ActorKind.VISITOR and action in _BY_THE_OWNER:
        actor = replace(actor, kind=ActorKind.CUSTOMER, id=account.pk, label=account.email)
    AuditEvent.objects.create(
        account=account,
        action=action,
        actor_kind=actor.kind,
        actor_id=actor.id,
        actor_label=actor.label,
        network=actor.origin.network,
        request_id=actor.origin.request_id,
        detail=_bounded(detail),
    )


def _bounded(detail: dict[str, Detail | Iterable[str]]) -> dict[str, Detail]:
    """Return the detail flat and short, with anything that looks like a credential masked."""
    some = list(detail.items())[:MOST_DETAILS]
    return redact(None, "", {name: _short(value) for name, value in some})


def _short(value: Detail | Iterable[str]) -> Detail:
    if value is None or isinstance(value, bool | int):
        return value
    text = value if isinstance(value, str) else ", ".join(value)
    return text.replace("\0", "")[:LONGEST_DETAIL]
