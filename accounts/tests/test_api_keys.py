from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from accounts.models import ApiKey, is_well_formed
from accounts.services import MAX_ACTIVE_KEYS, api_key_create, api_key_revoke

pytestmark = pytest.mark.django_db

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


class TestCreate:
    def test_it_works(self, alice, alice_api, anonymous_api):
        response = alice_api.post("/api/api-keys", {"label": "Production"})
        assert response.status_code == 201
        body = response.json()
        record = alice.api_keys.get(label="Production")
        assert set(body) == {"id", "key", "keyPrefix", "label", "createdAt"}
        assert body["id"] == record.id
        assert body["label"] == "Production"
        assert body["keyPrefix"] == body["key"][:7]
        assert TIME.fullmatch(body["createdAt"])
        assert is_well_formed(body["key"])
        anonymous_api.credentials(HTTP_AUTHORIZATION=f"Bearer {body['key']}")
        assert anonymous_api.get("/api/account").json()["account"]["id"] == alice.id

    @pytest.mark.parametrize("body", [None, {}, {"label": None}, {"label": ""}, {"label": "  "}])
    def test_the_label_is_optional(self, alice_api, body):
        assert alice_api.post("/api/api-keys", body).json()["label"] == "Default"

    @pytest.mark.parametrize("label", [7, True, ["Production"], {"a": "b"}, "x" * 101, "nul\0"])
    def test_a_wrong_label_is_refused(self, alice, alice_api, label):
        response = alice_api.post("/api/api-keys", {"label": label})
        assert response.status_code == 400
        assert list(response.json()["fields"]) == ["label"]
        assert alice.api_keys.count() == 1

    def test_an_unknown_field_is_ignored_whatever_it_holds(self, alice_api):
        body = {"label": "Production", "\0": "\0", "more": [{"\0": {"a": "\0"}}]}
        assert alice_api.post("/api/api-keys", body).json()["label"] == "Production"

    @pytest.mark.parametrize("body", [[], ["label"], "label", 7])
    def test_a_body_that_is_no_object_is_refused(self, alice_api, body):
        response = alice_api.post("/api/api-keys", body)
        assert response.status_code == 400
        assert response.json()["fields"] == {"body": ["Send a JSON object."]}

    def test_there_is_a_most(self, alice, alice_api):
        ApiKey.objects.bulk_create(
            ApiKey(account=alice, label="Many", prefix="rtk_abc", digest=f"{number:064}")
            for number in range(MAX_ACTIVE_KEYS - 1)
        )
        response = alice_api.post("/api/api-keys")
        assert response.status_code == 409
        assert response.json()["code"] == "too_many_api_keys"
        api_key_revoke(account=alice, id=alice.api_keys.filter(label="Many").first().id)
        assert alice_api.post("/api/api-keys").status_code == 201

    @pytest.mark.parametrize("client", ["carol_api", "dave_api"])
    def test_who_may_not_call_may_still_set_up(self, request, client):
        assert request.getfixturevalue(client).post("/api/api-keys").status_code == 201

    def test_anonymous_requests_are_refused(self, anonymous_api):
        assert anonymous_api.post("/api/api-keys").status_code == 401


class TestList:
    def test_it_works(self, alice, alice_api):
        key = alice.api_keys.get()
        body = alice_api.get("/api/api-keys").json()
        (listed,) = body["apiKeys"]
        assert TIME.fullmatch(listed.pop("createdAt"))
        assert TIME.fullmatch(listed.pop("lastUsedAt"))  # by this very request
        assert body == {
            "apiKeys": [{"id": key.id, "keyPrefix": key.prefix, "label": "Default"}],
        }

    def test_an_unused_key_has_no_last_use(self, alice, alice_api):
        api_key_create(account=alice, label="Unused")
        listed = alice_api.get("/api/api-keys").json()["apiKeys"]
        assert next(key["lastUsedAt"] for key in listed if key["label"] == "Unused") is None

    def test_the_newest_comes_first(self, alice, alice_api):
        now = datetime.now(UTC)
        for days, label in [(2, "Older"), (1, "Newer"), (3, "Oldest")]:
            key = api_key_create(account=alice, label=label).api_key
            ApiKey.objects.filter(pk=key.pk).update(created_at=now - timedelta(days=days))
        labels = [key["label"] for key in alice_api.get("/api/api-keys").json()["apiKeys"]]
        assert labels == ["Default", "Newer", "Older", "Oldest"]

    def test_revoked_keys_are_gone(self, alice, alice_api):
        revoked = api_key_create(account=alice).api_key
        api_key_revoke(account=alice, id=revoked.id)
        listed = alice_api.get("/api/api-keys").json()["apiKeys"]
        assert revoked.id not in [key["id"] for key in listed]

    def test_neither_keys_nor_digests_are_shown(self, alice, alice_api):
        new = api_key_create(account=alice)
        text = alice_api.get("/api/api-keys").content.decode()
        assert new.plain not in text
        assert new.api_key.digest not in text

    def test_bob_does_not_see_alices(self, alice, alice_api, bob, bob_api):
        listed = [key["id"] for key in bob_api.get("/api/api-keys").json()["apiKeys"]]
        assert listed == [bob.api_keys.get().id]

    def test_it_costs_the_same_with_many_keys(self, alice, alice_api, django_assert_num_queries):
        alice_api.get("/api/account")  # notes the use of the key, once a minute
        for _ in range(5):
            api_key_create(account=alice)
        with django_assert_num_queries(2):  # the key with its account, and the list
            assert len(alice_api.get("/api/api-keys").json()["apiKeys"]) == 6

    def test_anonymous_requests_are_refused(self, anonymous_api):
        assert anonymous_api.get("/api/api-keys").status_code == 401


class TestRevoke:
    def test_it_works(self, alice, alice_api, anonymous_api):
        new = api_key_create(account=alice)
        response = alice_api.delete(f"/api/api-keys/{new.api_key.id}")
        assert response.status_code == 200
        assert response.json() == {"revoked": True}
        anonymous_api.credentials(HTTP_AUTHORIZATION=f"Bearer {new.plain}")
        refused = anonymous_api.get("/api/account")
        assert refused.status_code == 401
        assert refused.json()["code"] == "invalid_api_key"

    def test_the_last_key_may_go_by_itself(self, alice, alice_api):
        assert alice_api.delete(f"/api/api-keys/{alice.api_keys.get().id}").status_code == 200
        assert alice_api.get("/api/account").status_code == 401

    def test_it_can_be_done_once(self, alice, alice_api):
        id = api_key_create(account=alice).api_key.id
        alice_api.delete(f"/api/api-keys/{id}")
        assert alice_api.delete(f"/api/api-keys/{id}").status_code == 404

    def test_bob_cannot_revoke_alices(self, alice, alice_api, bob_api):
        key = alice.api_keys.get()
        response = bob_api.delete(f"/api/api-keys/{key.id}")
        assert response.status_code == 404
        assert response.json()["code"] == "not_found"
        key.refresh_from_db()
        assert key.revoked_at is None

    @pytest.mark.parametrize(
        "id", ["c" + "0" * 24, "1", "%00", "%F0%9F%98%80", "c" * 5000, "%2e%2e"]
    )
    def test_what_is_not_there_is_404(self, alice_api, id):
        response = alice_api.delete(f"/api/api-keys/{id}")
        assert response.status_code == 404
        assert response.json()["code"] == "not_found"

    def test_anonymous_requests_are_refused(self, anonymous_api, alice, alice_api):
        assert anonymous_api.delete(f"/api/api-keys/{alice.api_keys.get().id}").status_code == 401
