"""The audit log: who did what to an account, when, and from where.

An event is written in the transaction of what it tells of, and stays as it was written: the
database refuses to change or to delete one (migration 0006). Customers see those of their account,
details included. So a detail is never a secret, and never what operators keep to themselves.

What SQL or a Python shell changes directly is not in it.
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
    """What can be done to an account: a name for programs, and a sentence for people."""

    REGISTERED = "account.registered", "The account was created"
    COMPANY_RENAMED = "account.renamed", "The company's name was changed"
    STATUS_CHANGED = "account.status_changed", "The billing status changed"
    ACTIVATED = "account.activated", "The account was activated"
    SUSPENDED = "account.suspended", "The account was suspended"
    UNSUSPENDED = "account.unsuspended", "The suspension was lifted"
    DISABLED = "account.disabled", "The account was disabled"
    ENABLED = "account.enabled", "The account was enabled"
    RIGHTS_CHANGED = "account.rights_changed", "The account's rights in the admin were changed"
    VIEWED = "account.viewed_by_support", "Support opened the dashboard, to look at it only"
    CLOSED = "account.deleted", "The account was deleted"
    REMOVED = "account.removed", "The account was removed from the database"

    LOGGED_IN = "login.succeeded", "Somebody logged in"
    LOGIN_FAILED = "login.failed", "Somebody tried to log in with a wrong password"
    SIGNED_OUT_EVERYWHERE = "login.ended_everywhere", "All sessions and tokens were ended"

    EMAIL_CHANGED = "email.changed", "The email address was changed"
    EMAIL_CONFIRMED = "email.confirmed", "The email address was confirmed"

    PASSWORD_CHANGED = "password.changed", "The password was changed"
    PASSWORD_REMOVED = "password.removed", "The password was removed"
    PASSWORD_RESET_ASKED = "password.reset_asked", "Somebody asked for a new password"
    PASSWORD_RESET = "password.reset", "The link for a new password was used"

    SECOND_FACTOR_ADDED = "second_factor.added", "A second factor was added"
    SECOND_FACTOR_REMOVED = "second_factor.removed", "A second factor was removed"
    RECOVERY_CODES_MADE = "recovery_codes.created", "New recovery codes were created"
    RECOVERY_CODE_USED = "recovery_codes.used", "A recovery code was used"
    SUDO_ENTERED = "sudo.entered", "Somebody confirmed that it was them, to do something sensitive"

    API_KEY_CREATED = "api_key.created", "An API key was created"
    API_KEY_REVOKED = "api_key.revoked", "An API key was revoked"
    WEBHOOK_SECRET_SHOWN = "webhook_secret.shown", "The webhook secret was shown"
    WEBHOOK_SECRET_ROTATED = "webhook_secret.rotated", "The webhook secret was rotated"

    NUMBER_REGISTERED = "phone_number.registered", "A phone number was registered"
    NUMBER_CHANGED = "phone_number.changed", "A phone number's settings were changed"
    NUMBER_REMOVED = "phone_number.removed", "A phone number was removed"
    NUMBER_BOUND = "phone_number.bound", "A phone number was bound to a Twilio account"
    NUMBER_CONFIRMED = "phone_number.confirmed", "A phone number's Twilio account was set"

    SPENDING_LIMIT_CHANGED = "spending_limit.changed", "The spending limit was changed"


SUPPORT = "support"
"""What customers are told of an operator and of the command line."""

_NAMES = {
    SUPPORT: "Switchhook support",
    ActorKind.SYSTEM: str(ActorKind.SYSTEM.label),
    ActorKind.VISITOR: str(ActorKind.VISITOR.label),
}

# Whoever does one of these has just shown that the account is theirs.
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
    # An account that is removed leaves its events: nothing refers to a row that must be there.
    account = models.ForeignKey(
        "accounts.Account",
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="audit_events",
    )
    action = models.CharField(max_length=40)  # an Action; there may be more of them tomorrow
    actor_kind = models.CharField("who", max_length=8, choices=ActorKind)
    actor_id = models.CharField(max_length=25, blank=True)
    actor_label = models.CharField("as", max_length=254, blank=True)
    detail = models.JSONField(default=dict, blank=True)
    network = models.CharField("from", max_length=43, blank=True)
    request_id = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = OwnedQuerySet["AuditEvent"].as_manager()

    class Meta:
        # None by time alone: PostgreSQL would look for an account's events among everybody's.
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
        """Who it was, as customers learn it: of those who run this, not which one, nor how."""
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
    """Write down what is done to an account, in the caller's transaction.

    Who does it is known from where the request, command or job began (``accounts.actors``).

    :param detail: what the account's owner may read: ten texts or numbers at most, never a secret.
    """
    audit_by(current_actor(), account=account, action=action, **detail)


def audit_by(
    actor: Actor, *, account: Account, action: Action, **detail: Detail | Iterable[str]
) -> None:
    """As :func:`audit`, for what somebody did before this job began."""
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
    """Return it flat and short; what looks like a credential all the same is masked."""
    some = list(detail.items())[:MOST_DETAILS]
    return redact(None, "", {name: _short(value) for name, value in some})


def _short(value: Detail | Iterable[str]) -> Detail:
    if value is None or isinstance(value, bool | int):
        return value
    text = value if isinstance(value, str) else ", ".join(value)
    return text.replace("\0", "")[:LONGEST_DETAIL]
