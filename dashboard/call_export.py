"""Export calls as CSV in batches, so that a million calls take no more memory than one page.

A caller can spoof a number that looks like a formula, so such a cell gets a leading apostrophe.
Some spreadsheets skip invisible characters before a formula, accept full-width forms of ``=``, or
split cells at ``;``. A plain number, ``+`` and digits, is left as it is: it is harmless, and
programs read it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import Any

from accounts.models import Account
from core.api import iso
from core.keyset import batches
from core.replica import listed
from telephony.call_search import Found
from telephony.models import Call
from usage.models import UsageRecord

BATCH = 1000
HEADER = [
    "id",
    "callSid",
    "createdAt",
    "endedAt",
    "direction",
    "callerPhone",
    "calledNumber",
    "status",
    "outcome",
    "endedReason",
    "errorCode",
    "durationSeconds",
    "platformCost",
    "twilioCostEstimate",
    "openaiCostEstimate",
    "totalCost",
    "firstAudioMs",
    "turnP50Ms",
    "turnP95Ms",
]

_PHONE_NUMBER = re.compile(r"\+[0-9]{1,15}")
# = + - @ and a minus, with the other forms of each: full width, small, raised, lowered.
_FORMULA = (
    r"=+\-@\u2212\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b"
    r"\u207c\u207a\u207b\u208c\u208a\u208b\ufb29\u2a75-\u2a76"
)
_NOT_SEEN = r"\s\x00-\x1f\x7f-\xa0\xad\u061c\u180e\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff"
_BEGINS_FORMULA = re.compile(
    rf"""(\A|[,;\t\r\n])([{_NOT_SEEN}"]*)(?=[{_FORMULA}])|\A(?=[\t\r\n])"""
)


def calls_as_csv(account: Account, found: Found) -> Iterator[str]:
    """Yield the lines of the calls, newest first, below a header; two queries for each batch."""
    writer = csv.writer(_Line())
    yield writer.writerow(HEADER)
    for batch in batches(found.calls, size=BATCH, by=found.by):
        records = usage_of(account, batch)
        yield "".join(
            writer.writerow([safe(cell) for cell in _cells(call, records.get(call.call_sid or ""))])
            for call in batch
        )


def usage_of(account: Account, calls: list[Call]) -> dict[str, UsageRecord]:
    """Return the usage records of calls by CallSid, with one query."""
    sids = [call.call_sid for call in calls if call.call_sid and call.ended_at]
    records = UsageRecord.objects.of(account)
    return listed(lambda database: records.using(database).by_call(sids))


def safe(cell: Any) -> str:
    """Return a cell that no spreadsheet evaluates as a formula."""
    text = "" if cell is None else str(cell)
    return text if _PHONE_NUMBER.fullmatch(text) else _BEGINS_FORMULA.sub(r"\1'\2", text)


def _cells(call: Call, record: UsageRecord | None) -> list[Any]:
    costs = record.cost_breakdown.values() if record else [None] * 4
    return [
        call.id,
        call.call_sid,
        iso(call.created_at),
        iso(call.ended_at) if call.ended_at else None,
        call.direction,
        call.caller_phone,
        call.called_number,
        call.status,
        call.outcome,
        call.ended_reason,
        call.error_code,
        call.duration_seconds,
        *costs,
        *call.latency.values(),
    ]


class _Line:
    """A file for ``csv`` whose ``write`` returns the line, so that ``writerow`` does too."""

    def write(self, line: str) -> str:
        return line
