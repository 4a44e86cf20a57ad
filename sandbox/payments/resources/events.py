"""``/v2/core/events``"""

from __future__ import annotations

from stripe.params.v2.core import EventRetrieveParams

from sandbox.payments.models import StripeObject
from sandbox.payments.objects import find
from sandbox.payments.wire.requests import Params, endpoint


@endpoint("GET /v2/core/events/{id}", EventRetrieveParams)
def retrieve(params: Params, id: str) -> StripeObject:
    return find("v2.core.event", id)
