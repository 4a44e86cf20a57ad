"""Accounts, API keys, webhook secrets, and counts of attempts."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import zlib
from collections.abc import Collection
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, ClassVar, Self

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.contrib.auth.password_validation import validate_password
from django.db import connections, models, transaction
from django.db.models import F, Q
from django.db.models.functions import Lower, Now
from django.utils import timezone
from django.utils.crypto import salted_hmac

from accounts.audit import Action, audit
from accounts.email_addresses import normalize_email, validate_ascii_email
from accounts.ownership import OwnedQuerySet
from core.ids import new_id
from core.sealing import CannotUnseal, opens, seal, unseal
from core.texts import validate_line
from core.zones import LONGEST_NAME, validate_time_zone


class AccountManager(BaseUserManager["Account"]):
    def with_email(self, email: str) -> models.QuerySet[Account]:
        return self.filter(email=normalize_email(email))

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> Account:
        account = self.prepare(email, password, **fields)
        self.add(account)
        return account

    def prepare(self, email: str, password: str | None, **fields: Any) -> Account:
        """Return an unsaved account. Hashing its password is slow on purpose."""
        account = self.model(email=normalize_email(email), **fields)
        account.set_password(password)
        return account

    def add(self, account: Account) -> None:
        """Save a new account, with its webhook secret."""
        # Django would report the first password to its validators as a change.
        account._password = None  # type: ignore[attr-defined]
        with transaction.atomic(using=self._db):
            account.save(using=self._db, force_insert=True)
            WebhookSecret.objects.create_for(account)

    @transaction.atomic
    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> Account:
        """Create an operator with all rights; raise ``ValidationError`` for a bad password.

        ``createsuperuser`` itself skips that check with ``--no-input``.
        """
        rights = {"is_staff": True, "is_superuser": True}
        if password is not None:
            validate_password(password, self.model(email=normalize_email(email), **fields))
        account = self.create_user(email, password, **rights, **fields)
        audit(account=account, action=Action.REGISTERED, rights="is_staff, is_superuser")
        return account

    def get_by_natural_key(self, username: str | None) -> Account:
        return self.with_email(username or "").get()


class Account(AbstractBaseUser, PermissionsMixin):
    """A customer's account, which is also the user that signs in."""

    class Status(models.TextChoices):
        INACTIVE = "INACTIVE", "Inactive (not paid yet)"
        ACTIVE = "ACTIVE", "Active"
        SUSPENDED = "SUSPENDED", "Suspended"

    id = models.CharField(primary_key=True, max_length=25, default=new_id, editable=False)
    email = models.EmailField(max_length=254, unique=True, validators=[validate_ascii_email])
    company_name = models.CharField(max_length=200, blank=True, validators=[validate_line])
    status = models.CharField(
        "billing status", max_length=9, choices=Status, default=Status.INACTIVE
    )
    suspended_by_operator = models.BooleanField(
        default=False, help_text="Overrides the billing status."
    )
    suspension_reason = models.CharField(
        max_length=500,
        blank=True,
        validators=[validate_line],
        help_text="For operators. The customer does not see it.",
    )
    is_active = models.BooleanField(
        "enabled",
        default=True,
        help_text="A disabled account can't sign in or use its API keys. Its records are kept.",
    )
    is_staff = models.BooleanField("operator", default=False)
    email_verified_at = models.DateTimeField(
        "email confirmed at",
        null=True,
        blank=True,
        editable=False,
        help_text="When the owner confirmed the email address. Reset when the address changes.",
    )
    closed_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="When the owner deleted the account."
    )
    sessions_epoch = models.PositiveIntegerField(
        default=0,
        db_default=0,
        editable=False,
        help_text="The number of times the owner signed out everywhere.",
    )
    time_zone = models.CharField(
        max_length=LONGEST_NAME,
        default="UTC",
        db_default="UTC",
        validators=[validate_time_zone],
        help_text="The zone in which the dashboard shows times, such as America/New_York.",
    )
    hides_checklist = models.BooleanField(
        default=False,
        db_default=False,
        editable=False,
        help_text="Whether the owner has hidden the steps to a first call.",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    objects = AccountManager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(email=Lower("email")), name="account_email_lower_case"
            ),
        ]

    def __str__(self) -> str:
        return self.email

    def clean_fields(self, exclude: Collection[str] | None = None) -> None:
        self.email = normalize_email(self.email)
        super().clean_fields(exclude)

    def _get_session_auth_hash(self, secret: str | None = None) -> str:
        """Return the hash that sessions and tokens are tied to; they end when it changes.

        It is Django's own, of the password, until the owner signs out everywhere.
        """
        if not self.sessions_epoch:
            return str(super()._get_session_auth_hash(secret))  # type: ignore[misc]
        tied_to = f"{self.sessions_epoch} {self.password}"
        salt = "accounts.models.Account.sessions"
        return salted_hmac(salt, tied_to, secret=secret, algorithm="sha256").hexdigest()

    @property
    def is_email_verified(self) -> bool:
        return self.email_verified_at is not None

    @property
    def effective_status(self) -> str:
        """The billing status, unless an operator suspended the account."""
        return self.Status.SUSPENDED if self.suspended_by_operator else self.status

    @property
    def resource_counts(self) -> dict[str, int]:
        """The number of phone numbers and active API keys."""
        return {
            "phoneNumbers": self.phone_numbers.count(),
            "apiKeys": self.api_keys.active().count(),
        }


KEY_PREFIX = "rtk_"
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM_LENGTH = 32
_CHECKSUM_LENGTH = 6
_KEY_SHAPE = re.compile(rf"{KEY_PREFIX}[0-9A-Za-z]{{{_RANDOM_LENGTH + _CHECKSUM_LENGTH}}}")


def new_api_key() -> str:
    """Return ``rtk_``, 32 random base62 characters (190 bits) and a checksum of them."""
    random = "".join(secrets.choice(_BASE62) for _ in range(_RANDOM_LENGTH))
    return KEY_PREFIX + random + _checksum(random)


def is_well_formed(key: str) -> bool:
    """Return True if shape and checksum are right, so that a mistyped key costs no query."""
    if not _KEY_SHAPE.fullmatch(key):
        return False
    random = key.removeprefix(KEY_PREFIX)[:_RANDOM_LENGTH]
    return key.endswith(_checksum(random))


def digest_of(key: str) -> str:
    """Return SHA-256 in hex. 190 random bits need no slow hash."""
    return hashlib.sha256(key.encode()).hexdigest()


def _checksum(text: str) -> str:
    number = zlib.crc32(text.encode())
    digits = ""
    for _ in range(_CHECKSUM_LENGTH):
        number, remainder = divmod(number, 62)
        digits = _BASE62[remainder] + digits
    return digits


class ApiKeyQuerySet(OwnedQuerySet["ApiKey"]):
    def active(self) -> Self:
        return self.filter(revoked_at=None)

    def newest_first(self) -> Self:
        return self.order_by("-created_at", "-id")

    def for_key(self, key: str) -> ApiKey | None:
        """Return the active key with its account, or None."""
        if not is_well_formed(key):
            return None
        return self.active().select_related("account").filter(digest=digest_of(key)).first()


class ApiKey(models.Model):
    PREFIX_LENGTH = 7
    DEFAULT_LABEL = "Default"
    USE_IS_NOTED_EVERY = timedelta(minutes=1)

    id = models.CharField(primary_key=True, max_length=25, default=new_id, editable=False)
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="api_keys")
    label = models.CharField(max_length=100, validators=[validate_line])
    prefix = models.CharField(max_length=PREFIX_LENGTH)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["account", "created_at"], name="api_key_by_account")]
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.prefix}… ({self.label})"

    def note_use(self, now: datetime) -> bool:
        """Record that the key was used, at most once a minute.

        Returns True if it was recorded: of concurrent requests, one records it.
        """
        before = now - self.USE_IS_NOTED_EVERY
        if self.last_used_at and self.last_used_at > before:
            return False
        not_noted = Q(last_used_at=None) | Q(last_used_at__lte=before)
        return ApiKey.objects.filter(not_noted, pk=self.pk).update(last_used_at=now) == 1


def new_webhook_secret() -> str:
    """Return ``whsec_`` and 24 random bytes in base64, as Standard Webhooks specifies."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()


class WebhookSecretManager(models.Manager["WebhookSecret"]):
    def create_for(self, account: Account) -> WebhookSecret:
        secret = new_webhook_secret().encode()
        return self.create(account=account, current=seal(secret, purpose=WebhookSecret.PURPOSE))


class WebhookSecret(models.Model):
    """The sealed secret that signs an account's callbacks. The previous one is valid for 24 h."""

    PURPOSE = "webhook-secret"
    OVERLAP = timedelta(hours=24)

    account = models.OneToOneField(
        Account, primary_key=True, on_delete=models.CASCADE, related_name="webhook_secret"
    )
    current = models.BinaryField()
    previous = models.BinaryField(null=True)
    rotated_at = models.DateTimeField(null=True)

    objects = WebhookSecretManager()

    def __str__(self) -> str:
        return f"Webhook secret of {self.account_id}"

    @property
    def secret(self) -> str:
        """``whsec_…`` in plain text."""
        return unseal(self.current, purpose=self.PURPOSE).decode()

    def opens(self) -> bool:
        """Return False if the key that the current secret was sealed with is gone."""
        return opens(self.current, purpose=self.PURPOSE)

    def previous_valid_until(self, now: datetime) -> datetime | None:
        """Return the time until which the previous secret also signs callbacks, or None."""
        if self.previous and self.rotated_at and now < self.rotated_at + self.OVERLAP:
            return self.rotated_at + self.OVERLAP
        return None

    def secrets(self, now: datetime) -> list[str]:
        """Return the secrets to sign with at ``now``, the current one first.

        A previous one whose key is gone is left out: it was rotated for that.
        """
        valid = [self.secret]
        if self.previous and self.previous_valid_until(now):
            with suppress(CannotUnseal):
                valid.append(unseal(self.previous, purpose=self.PURPOSE).decode())
        return valid

    def rotate(self, secret: str, now: datetime) -> None:
        self.previous, self.rotated_at = self.current, now
        self.current = seal(secret.encode(), purpose=self.PURPOSE)


_TAKE = """
INSERT INTO accounts_attemptcount AS known (subject, count, ends_at)
VALUES (%(subject)s, 1, STATEMENT_TIMESTAMP() + %(window)s)
ON CONFLICT (subject) DO UPDATE SET
    count = CASE WHEN known.ends_at > STATEMENT_TIMESTAMP() THEN known.count + 1 ELSE 1 END,
    ends_at = CASE WHEN known.ends_at > STATEMENT_TIMESTAMP()
        THEN known.ends_at ELSE EXCLUDED.ends_at END
WHERE known.count < %(most)s OR known.ends_at <= STATEMENT_TIMESTAMP()
"""


class AttemptCountQuerySet(models.QuerySet["AttemptCount"]):
    def take(self, subject: str, *, most: int, window: timedelta) -> timedelta | None:
        """Count an attempt, or return the time to wait for the next window.

        One statement decides, so that of concurrent attempts at most ``most`` pass.
        """
        with connections[self.db].cursor() as cursor:
            values: dict[str, Any] = {"subject": subject, "most": most, "window": window}
            cursor.execute(_TAKE, values)
            if cursor.rowcount:
                return None
        left = self.filter(pk=subject).values_list(F("ends_at") - Now(), flat=True).first()
        return left or timedelta(0)  # the window just ended, or a success cleared it

    def give_back(self, subject: str) -> None:
        self.filter(pk=subject, count__gt=0).update(count=F("count") - 1)

    def forget_ended(self, *, at_most: int) -> int:
        """Delete windows that have ended; return how many."""
        ended = self.filter(ends_at__lt=Now())  # filtered twice: a window may reopen in between
        some = ended.order_by("ends_at").values("pk")[:at_most]
        return ended.filter(pk__in=some).delete()[0]


class AttemptCount(models.Model):
    """The number of attempts in a window, which begins with the first attempt.

    The subject is a keyed hash, so that the table does not reveal whom it is about. The table is
    unlogged: a crash of the database resets all windows. Times are the database's, which all
    processes share.
    """

    subject = models.CharField(primary_key=True, max_length=64)
    count = models.PositiveIntegerField()
    ends_at = models.DateTimeField(db_index=True)

    objects = AttemptCountQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.count} until {self.ends_at}"
