"""The failed and rejected calls of a day."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta

from django.utils import timezone

from accounts.models import Account
from core.ids import first_id_of
from operations import figures
from operations.figures import Figure, list_url, shown
from telephony.engine.codes import EndedReason, outcome_of
from telephony.models import Call

# From here on, a share of the calls needs attention; few calls say nothing.
_TOO_MANY_FAIL = 0.05
_TOO_MANY_REJECTED = 0.25
_ENOUGH_CALLS = 20
_MOST_ACCOUNTS = 5


@dataclass(frozen=True, slots=True)
class Failures:
    """The failed calls of the last 24 hours, the newest 1,000 of them.

    ``causes`` counts by the filter of the list: ``("error_code", "engine_lost")``, or the
    ``ended_reason`` of a call without a code. ``share`` is the part of the last 1,000 calls that
    failed, from 0 to 1, and ``rejected`` the part that was rejected, by a backend or by us.
    """

    causes: Counter[tuple[str, str]]
    accounts: Counter[str]
    share: float
    rejected: float
    calls: int

    @property
    def by_code(self) -> list[Figure]:
        return [
            Figure(value, shown(count), list_url(Call, outcome="failed", **{name: value}))
            for (name, value), count in self.causes.most_common()
        ]

    @property
    def by_account(self) -> list[Figure]:
        """The accounts with the most failed calls, by name."""
        most = self.accounts.most_common(_MOST_ACCOUNTS)
        known = Account.objects.in_bulk([id for id, _ in most])
        return [
            Figure(known[id].email, shown(count), list_url(Call, outcome="failed", q=id))
            for id, count in most
            if id in known
        ]

    @property
    def rate(self) -> str:
        """The shares: ``2.5% of the last 1,000 calls failed, and 4.0% were rejected``."""
        if self.calls == 1:
            how = "failed" if self.share else "was rejected" if self.rejected else "did not fail"
            return f"1 call ended, and it {how}"
        return (
            f"{self.share:.1%} of the last {self.calls:,} calls failed, "
            f"and {self.rejected:.1%} were rejected"
        )

    @property
    def too_many_fail(self) -> bool:
        return self.calls >= _ENOUGH_CALLS and self.share >= _TOO_MANY_FAIL

    @property
    def too_many_rejected(self) -> bool:
        return self.calls >= _ENOUGH_CALLS and self.rejected >= _TOO_MANY_REJECTED


def failures() -> Failures:
    since = Call.objects.filter(id__gte=first_id_of(timezone.now() - timedelta(days=1)))
    ended = since.exclude(ended_reason="").order_by("-id")
    failed = ended.that_came_out("failed").values_list("error_code", "ended_reason", "account_id")
    causes, accounts = Counter[tuple[str, str]](), Counter[str]()
    for code, reason, account_id in failed[: figures.MOST]:
        causes[("error_code", code) if code else ("ended_reason", reason)] += 1
        accounts[account_id] += 1
    ends = list(ended.values_list("ended_reason", "error_code")[: figures.MOST])
    outcomes = [outcome_of(*end) for end in ends]
    calls = len(ends) or 1
    return Failures(
        causes,
        accounts,
        share=outcomes.count("failed") / calls,
        rejected=sum(reason == EndedReason.REJECTED for reason, _ in ends) / calls,
        calls=len(ends),
    )
