from __future__ import annotations

import re

import pytest
from django.utils import timezone

from accounts.models import ApiKey
from accounts.services import api_key_create

pytestmark = pytest.mark.django_db


def test_it_works(alice, alice_api):
    body = alice_api.get("/api/account").json()
    created_at = body["account"].pop("createdAt")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", created_at)
    assert body == {
        "account": {
            "id": alice.id,
            "email": "alice@example.org",
            "companyName": "Alice's Plumbing",
            "status": "ACTIVE",
            "_count": {"phoneNumbers": 0, "apiKeys": 1},
        }
    }


def test_only_ones_own_things_count(alice, alice_api, bob_api):
    alice.phone_numbers.create(
        phone_number="+15551234567",
        on_call_start_url="https://alice.example/start",
        on_call_end_url="https://alice.example/end",
    )
    assert alice_api.get("/api/account").json()["account"]["_count"]["phoneNumbers"] == 1
    assert bob_api.get("/api/account").json()["account"]["_count"]["phoneNumbers"] == 0


def test_revoked_keys_do_not_count(alice, alice_api):
    api_key_create(account=alice)
    ApiKey.objects.filter(label="Default").latest("created_at").delete()
    ApiKey.objects.create(
        account=alice, label="Old", prefix="rtk_old", digest="0" * 64, revoked_at=timezone.now()
    )
    assert alice_api.get("/api/account").json()["account"]["_count"]["apiKeys"] == 1


@pytest.mark.parametrize(
    ("client", "status"), [("carol_api", "INACTIVE"), ("dave_api", "SUSPENDED")]
)
def test_who_may_not_call_may_still_read(request, client, status):
    response = request.getfixturevalue(client).get("/api/account")
    assert response.status_code == 200
    assert response.json()["account"]["status"] == status


def test_an_operators_suspension_wins(alice, alice_api):
    alice.suspended_by_operator = True
    alice.save()
    assert alice_api.get("/api/account").json()["account"]["status"] == "SUSPENDED"


def test_an_account_that_named_no_company_has_none(alice, alice_api):
    alice.company_name = ""
    alice.save()
    assert alice_api.get("/api/account").json()["account"]["companyName"] is None


def test_it_costs_the_same_with_many_keys(alice, alice_api, django_assert_num_queries):
    alice_api.get("/api/account")  # notes the use of the key, once a minute
    for _ in range(5):
        api_key_create(account=alice)
    with django_assert_num_queries(3):  # the key with its account, and two counts
        alice_api.get("/api/account")


def test_anonymous_requests_are_refused(anonymous_api):
    assert anonymous_api.get("/api/account").status_code == 401
