from __future__ import annotations

import pytest

from accounts.models import ApiKey
from accounts.services import api_key_create
from core.errors import ApiError

pytestmark = pytest.mark.django_db


def test_it_works(alice):
    key = api_key_create(account=alice).api_key
    assert ApiKey.objects.access(alice, key.id) == key


def test_it_narrows_what_was_narrowed(alice):
    key = api_key_create(account=alice).api_key
    with pytest.raises(ApiError):
        ApiKey.objects.filter(label="Other").access(alice, key.id)


def test_anothers_and_nobodys_are_refused_alike(alice, bob):
    key = api_key_create(account=alice).api_key
    refusals = []
    for id in (key.id, "c" + "0" * 24):
        with pytest.raises(ApiError) as caught:
            ApiKey.objects.access(bob, id)
        refusals.append((caught.value.status_code, caught.value.code, caught.value.message))
    assert refusals == [(404, "not_found", "You have no API key with this ID.")] * 2


@pytest.mark.parametrize("id", ["", "1", "\0", "c' or 1=1"])
def test_what_is_no_id_costs_no_query(alice, id, django_assert_num_queries):
    with django_assert_num_queries(0), pytest.raises(ApiError):
        ApiKey.objects.access(alice, id)
