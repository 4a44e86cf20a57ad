"""``/api/deliveries``"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from accounts.models import Account
from core.api import iso
from telephony.callbacks import attempts
from telephony.callbacks.attempts import Result
from telephony.models import Call, CallbackDelivery, CallbackEndpoint
from telephony.tests.test_calls_api import NOW, call_of

pytestmark = pytest.mark.django_db

LATER = timezone.now() + timedelta(hours=1)


def delivery_of(call: Call, **fields: Any) -> CallbackDelivery:
    """An onError that waits for its second attempt."""
    values = {
        "kind": CallbackDelivery.Kind.ERROR,
        "url": "https://your-backend.com/calls/error",
        "sealed_body": b"what was said",
        "attempts": 1,
        "last_result": "503",
        "created_at": NOW,
        "due_at": LATER,
    }
    delivery = CallbackDelivery.objects.create(
        account_id=call.account_id, call=call, **values | fields
    )
    result = Result("503", at=NOW, duration_ms=84, answer="Service Unavailable")
    attempts.keep_all([(delivery, result)])
    return delivery


def held(delivery: CallbackDelivery) -> CallbackEndpoint:
    endpoint = CallbackEndpoint.objects.create(
        account_id=delivery.account_id, origin="https://your-backend.com:443", probe_at=LATER
    )
    now = timezone.now()
    CallbackDelivery.objects.update(held_by=endpoint, due_at=now, last_result="endpoint_failing")
    return endpoint


class TestList:
    def get(self, api: APIClient, **query: Any) -> Any:
        response = api.get("/api/deliveries", query)
        assert response.status_code == 200, response.content
        return response.json()

    def test_one_that_is_held_back(self, alice: Account, alice_api: APIClient) -> None:
        held(delivery_of(call_of(alice)))
        (delivery,) = self.get(alice_api)["deliveries"]
        assert (delivery["state"], delivery["lastResult"]) == ("pending", "endpoint_failing")
        assert delivery["nextAttemptAt"] == iso(LATER), "the probe's time"

    def ids(self, api: APIClient, **query: Any) -> list[str]:
        return [delivery["id"] for delivery in self.get(api, **query)["deliveries"]]

    def test_it_works(self, alice: Account, alice_api: APIClient) -> None:
        delivery = delivery_of(call_of(alice))
        assert self.get(alice_api) == {
            "deliveries": [
                {
                    "id": delivery.id,
                    "callId": delivery.call_id,
                    "kind": "onError",
                    "state": "pending",
                    "url": "https://your-backend.com/calls/error",
                    "attempts": 1,
                    "lastResult": "503",
                    "createdAt": "2026-04-05T09:30:00.000Z",
                    "endedAt": None,
                    "nextAttemptAt": iso(LATER),
                    "history": [
                        {
                            "at": "2026-04-05T09:30:00.000Z",
                            "durationMs": 84,
                            "result": "503",
                            "answer": "Service Unavailable",
                        }
                    ],
                }
            ],
            "limit": 50,
            "offset": 0,
            "hasMore": False,
        }

    def test_newest_first_and_page_by_page(self, alice: Account, alice_api: APIClient) -> None:
        call = call_of(alice)
        made = [delivery_of(call, created_at=NOW + timedelta(hours=hour)) for hour in (1, 3, 2)]
        newest_first = [made[1].id, made[2].id, made[0].id]
        assert self.ids(alice_api) == newest_first
        page = self.get(alice_api, limit=2)
        assert ([found["id"] for found in page["deliveries"]], page["hasMore"]) == (
            newest_first[:2],
            True,
        )
        assert self.ids(alice_api, limit=2, offset=2) == newest_first[2:]

    def test_those_of_a_call_or_in_a_state(self, alice: Account, alice_api: APIClient) -> None:
        one = delivery_of(call_of(alice, 1))
        other = delivery_of(call_of(alice, 2), state="given-up", ended_at=NOW)
        assert self.ids(alice_api, callId=one.call_id) == [one.id]
        assert self.ids(alice_api, state="given-up") == [other.id]
        assert self.ids(alice_api, callId=one.call_id, state="given-up") == []
        assert self.get(alice_api, state="given-up")["deliveries"][0]["nextAttemptAt"] is None

    @pytest.mark.parametrize("query", [{"state": "lost"}, {"callId": "x" * 26}, {"limit": 0}])
    def test_what_cannot_be_asked_is_refused(
        self, alice_api: APIClient, query: dict[str, Any]
    ) -> None:
        response = alice_api.get("/api/deliveries", query)
        assert response.status_code == 400
        assert list(response.json()["fields"]) == list(query)

    def test_nobody_sees_those_of_another(
        self, alice: Account, bob_api: APIClient, anonymous_api: APIClient
    ) -> None:
        delivery = delivery_of(call_of(alice))
        assert self.ids(bob_api) == self.ids(bob_api, callId=delivery.call_id) == []
        assert anonymous_api.get("/api/deliveries").status_code == 401

    def test_the_number_of_queries_is_fixed(
        self,
        alice: Account,
        alice_api: APIClient,
        django_assert_num_queries: DjangoAssertNumQueries,
    ) -> None:
        call = call_of(alice)
        for _ in range(5):
            delivery_of(call)
        self.get(alice_api)
        # The key, a page, its attempts.
        with django_assert_num_queries(3), CaptureQueriesContext(connection) as queries:
            assert len(self.get(alice_api)["deliveries"]) == 5
        assert not any("sealed_body" in query["sql"] for query in queries)


class TestResend:
    def post(self, api: APIClient, id: str) -> Any:
        return api.post(f"/api/deliveries/{id}/resend")

    def test_it_works(self, alice: Account, alice_api: APIClient) -> None:
        delivery = delivery_of(call_of(alice))
        response = self.post(alice_api, delivery.id)
        assert response.status_code == 202
        shown = response.json()["delivery"]
        assert (shown["id"], shown["state"]) == (delivery.id, "pending")
        assert shown["nextAttemptAt"] < iso(LATER)
        assert len(shown["history"]) == 1
        assert CallbackDelivery.objects.ready().get() == delivery
        assert CallbackDelivery.objects.get().resume_at == LATER

    @pytest.mark.parametrize("state", ["delivered", "given-up"])
    def test_what_was_erased_is_409(self, alice: Account, alice_api: APIClient, state: str) -> None:
        delivery = delivery_of(call_of(alice), state=state, sealed_body=None)
        response = self.post(alice_api, delivery.id)
        assert response.status_code == 409
        assert response.json()["code"] == "delivery_erased"
        assert "cannot be sent again" in response.json()["error"]

    def test_another_account_gets_404(self, alice: Account, bob_api: APIClient) -> None:
        delivery = delivery_of(call_of(alice))
        assert self.post(bob_api, delivery.id).status_code == 404
        assert self.post(bob_api, "c" + "0" * 24).status_code == 404
        assert not CallbackDelivery.objects.ready().exists()

    def test_only_active_accounts_may(
        self, anonymous_api: APIClient, carol: Account, carol_api: APIClient, dave_api: APIClient
    ) -> None:
        id = delivery_of(call_of(carol)).id
        statuses = [self.post(api, id).status_code for api in (anonymous_api, carol_api, dave_api)]
        assert statuses == [401, 402, 403]
