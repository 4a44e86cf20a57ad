"""The jobs of this app. Their arguments are ids, since jobs are stored unencrypted."""

from __future__ import annotations

from datetime import timedelta

import structlog
from django.utils import timezone
from procrastinate import RetryStrategy
from procrastinate.contrib.django import app

from core.queue import lanes
from telephony import incidents, notices
from telephony.callbacks import attempts, early, outbox
from telephony.hangup import calls_of_nobody_request_hangup
from telephony.idempotency import forget_expired
from telephony.notices import NotPosted
from telephony.numbers import released_numbers_forget
from telephony.processes import processes_forget
from telephony.retention import forget_old
from telephony.retirements import retirements_tell
from telephony.timelines import timelines_pack

log = structlog.get_logger(__name__)

BATCH = 10_000
# The most that an hourly job of upkeep works at a time. What is left is done in the next hours.
_A_RUN = timedelta(minutes=50)


@app.task(queue=lanes.CALLBACKS)
async def deliver_callback(delivery_id: str) -> None:
    await outbox.deliver(delivery_id)


@app.task(queue=lanes.CALLBACKS)
async def probe_endpoint(endpoint_id: int) -> None:
    await outbox.probe(endpoint_id)


@app.task(queue=lanes.UPKEEP)
def send_waiting(account_id: str, origin: str, since: str, after: str, until: str) -> None:
    early.send_some(early.Step(account_id, origin, since, after, until))


@app.periodic(cron="* * * * *")
@app.task(queue=lanes.UPKEEP, queueing_lock="resume_callbacks")
def resume_callbacks(timestamp: int) -> None:
    outbox.resume()


# After 4, 16, 64, … seconds: 23 minutes in all, for a webhook that is down for a moment.
_WHILE_WEBHOOK_IS_DOWN = RetryStrategy(
    max_attempts=5, exponential_wait=4, retry_exceptions=[NotPosted]
)


@app.task(queue=lanes.CALLBACKS, retry=_WHILE_WEBHOOK_IS_DOWN)
async def post_notice(incident_id: int, event: str) -> None:
    await notices.post(incident_id, notices.Event(event))


@app.task(queue=lanes.UPKEEP)
def consider_call(call_id: str) -> None:
    incidents.call_consider(call_id)


@app.periodic(cron="* * * * *")
@app.task(queue=lanes.UPKEEP, queueing_lock="tell_of_endpoints")
def tell_of_endpoints(timestamp: int) -> None:
    incidents.tell_of_endpoints()


@app.periodic(cron="23 * * * *")
@app.task(queue=lanes.UPKEEP, queueing_lock="forget_incidents")
def forget_incidents(timestamp: int) -> None:
    incidents.forget()


@app.periodic(cron="* * * * *")
@app.task(queue=lanes.CALLS, queueing_lock="hang_up_calls_of_nobody")
def hang_up_calls_of_nobody(timestamp: int) -> None:
    """End the calls that outlast their account's subscription."""
    if count := calls_of_nobody_request_hangup():
        log.warning("calls_outlast_their_subscription", count=count)


@app.periodic(cron="*/10 * * * *")
@app.task(queue=lanes.UPKEEP, queueing_lock="forget_idempotency_keys")
def forget_idempotency_keys(timestamp: int) -> None:
    """Delete expired keys."""
    while forget_expired(at_most=BATCH) == BATCH:
        pass


@app.periodic(cron="51 3 * * *")
@app.task(queue=lanes.UPKEEP, queueing_lock="forget_released_numbers")
def forget_released_numbers(timestamp: int) -> None:
    released_numbers_forget()


@app.periodic(cron="17 14 * * *")
@app.task(queue=lanes.UPKEEP, queueing_lock="tell_of_retirements")
def tell_of_retirements(timestamp: int) -> None:
    retirements_tell(timezone.now())


@app.periodic(cron="43 * * * *")
@app.task(queue=lanes.UPKEEP, queueing_lock="forget_callback_attempts")
def forget_callback_attempts(timestamp: int) -> None:
    """Delete attempts that are older than 30 days."""
    while attempts.delete_expired(at_most=BATCH) == BATCH:
        pass


@app.periodic(cron="29 * * * *")
@app.task(queue=lanes.UPKEEP, queueing_lock="forget_processes")
def forget_processes(timestamp: int) -> None:
    processes_forget()


@app.periodic(cron="3 * * * *")
@app.task(queue=lanes.UPKEEP, queueing_lock="pack_timelines", lock="pack_timelines")
def pack_timelines(timestamp: int) -> None:
    """Compress the timelines of calls that ended a day ago."""
    timelines_pack(within=_A_RUN)


@app.periodic(cron="33 * * * *")
@app.task(queue=lanes.UPKEEP, queueing_lock="forget_calls", lock="forget_calls")
def forget_calls(timestamp: int) -> None:
    """Delete calls, timelines and callbacks that are older than they are kept."""
    counts = forget_old(within=_A_RUN)
    if any(counts.values()):
        log.info("old_calls_deleted", **counts)
