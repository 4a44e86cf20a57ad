"""The cache of greetings: what a model said, for the next calls of the account that paid for it.

An entry is encrypted with ``SECRET_KEY``, and found by a keyed hash. A rotation of the key empties
the cache.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta

from django.db import transaction

from accounts.models import Account
from core.sealing import CannotUnseal, keyed_hashes, seal, unseal
from telephony.admission import account_lock
from telephony.engine.plan import CallPlan
from telephony.engine.spoken import SpokenGreeting
from telephony.models import CachedGreeting

KEPT_FOR = timedelta(hours=24)
#: Of an account. Another one takes the place of the oldest.
MOST = 100
_END_OF_TEXT = b"\0"  # no transcript contains it


def recall(account_id: str, plan: CallPlan, now: datetime) -> SpokenGreeting | None:
    """Return how the account's plan is greeted, from the cache; None if it has no such greeting.

    One query for a plan with a ``greeting_cache``, none for any other.
    """
    if not (plan.greeting_cache and plan.greeting):
        return None
    kept = CachedGreeting.objects.filter(
        account_id=account_id, digest=_digest(account_id, plan), expires_at__gt=now
    ).first()
    if kept is None:
        return None
    try:
        text, _, audio = unseal(kept.sealed, purpose=CachedGreeting.PURPOSE).partition(_END_OF_TEXT)
    except CannotUnseal:
        return None
    return SpokenGreeting(audio, text.decode())


def keep(account_id: str, plan: CallPlan, spoken: SpokenGreeting, now: datetime) -> None:
    """Put a greeting in the cache, unless another call has done so meanwhile."""
    digest, theirs = _digest(account_id, plan), CachedGreeting.objects.filter(account_id=account_id)
    if theirs.filter(digest=digest, expires_at__gt=now).exists():
        return
    sealed = seal(
        spoken.text.encode() + _END_OF_TEXT + spoken.audio, purpose=CachedGreeting.PURPOSE
    )
    with transaction.atomic():
        # Locked, since else two calls at a time could exceed the limit.
        if account_lock(account_id).closed_at is not None:
            return
        theirs.filter(digest=digest).delete()
        newest = theirs.order_by("-expires_at").values_list("pk", flat=True)
        theirs.filter(pk__in=list(newest[MOST - 1 :])).delete()
        CachedGreeting.objects.create(
            account_id=account_id, digest=digest, sealed=sealed, expires_at=now + KEPT_FOR
        )


def greetings_delete(*, account: Account) -> None:
    """Empty the account's cache."""
    CachedGreeting.objects.of(account).delete()


def forget_expired(now: datetime) -> int:
    """Delete the expired greetings; return how many there were."""
    deleted, _ = CachedGreeting.objects.filter(expires_at__lte=now).delete()
    return deleted


def _digest(account_id: str, plan: CallPlan) -> str:
    """Return the key of a plan's greeting in the cache.

    It has all that decides how the greeting sounds. The prompt is not among it: the request for a
    greeting has instructions of its own, which replace the prompt.
    """
    sounds = [account_id, plan.greeting, plan.model, plan.voice, plan.openai_base_url]
    return keyed_hashes(json.dumps(sounds).encode(), purpose=CachedGreeting.PURPOSE)[0]
