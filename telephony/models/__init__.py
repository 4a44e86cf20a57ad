"""Numbers, calls, and what a call leaves for other processes to act on."""

from telephony.models.call_days import CallDay
from telephony.models.callbacks import (
    ATTEMPTS_IN_ORDER,
    COUNTED_TO,
    FAILED_IN_ORDER,
    ORIGIN,
    PROGRESS,
    CallbackAttempt,
    CallbackDelivery,
    CallbackDeliveryQuerySet,
    CallbackEndpoint,
    CallbackEndpointQuerySet,
    FailedRequest,
    SealedAnswer,
)
from telephony.models.calls import (
    OTHER_NUMBER,
    OUR_NUMBER,
    OUTCOME,
    UNCONNECTED_LASTS,
    Call,
    CallEvent,
    CallProgress,
    CallQuerySet,
    IdempotencyKey,
    MetadataValue,
    SealedPlan,
)
from telephony.models.engines import Engine, Watch
from telephony.models.incidents import Incident, NotificationSettings
from telephony.models.numbers import (
    LONGEST_NUMBER_NAME,
    PhoneNumber,
    PhoneNumberQuerySet,
    ReleasedNumber,
)

__all__ = [
    "ATTEMPTS_IN_ORDER",
    "COUNTED_TO",
    "FAILED_IN_ORDER",
    "LONGEST_NUMBER_NAME",
    "ORIGIN",
    "OTHER_NUMBER",
    "OUR_NUMBER",
    "OUTCOME",
    "PROGRESS",
    "UNCONNECTED_LASTS",
    "Call",
    "CallDay",
    "CallEvent",
    "CallProgress",
    "CallQuerySet",
    "CallbackAttempt",
    "CallbackDelivery",
    "CallbackDeliveryQuerySet",
    "CallbackEndpoint",
    "CallbackEndpointQuerySet",
    "Engine",
    "FailedRequest",
    "IdempotencyKey",
    "Incident",
    "MetadataValue",
    "NotificationSettings",
    "PhoneNumber",
    "PhoneNumberQuerySet",
    "ReleasedNumber",
    "SealedAnswer",
    "SealedPlan",
    "Watch",
]
