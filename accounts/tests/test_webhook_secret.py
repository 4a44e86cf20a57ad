from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from standardwebhooks import Webhook

from accounts.models import WebhookSecret

pytestmark = pytest.mark.django_db


def secret_of(api) -> str:
    return api.get("/api/webhooks/secret").json()["secret"]


class TestRetrieve:
    def test_it_works(self, alice, alice_api):
        response = alice_api.get("/api/webhooks/secret")
        assert response.status_code == 200
        assert response.json() == {"secret": alice.webhook_secret.secret}

    def test_it_is_one_that_standard_webhooks_takes(self, alice_api):
        secret = secret_of(alice_api)
        assert secret.startswith("whsec_")
        Webhook(secret).sign("msg_1", datetime.now().astimezone(), "{}")

    def test_bob_has_another_than_alice(self, alice_api, bob_api):
        assert secret_of(alice_api) != secret_of(bob_api)

    def test_it_is_sealed_at_rest(self, alice_api, alice):
        secret = secret_of(alice_api).encode()
        assert secret not in bytes(WebhookSecret.objects.get(account=alice).current)

    def test_anonymous_requests_are_refused(self, anonymous_api):
        assert anonymous_api.get("/api/webhooks/secret").status_code == 401


class TestRotate:
    def test_it_works(self, alice, alice_api):
        before = secret_of(alice_api)
        response = alice_api.post("/api/webhooks/secret/rotate")
        assert response.status_code == 200
        body = response.json()
        assert set(body) == {"secret", "previousSecretValidUntil"}
        assert body["secret"] != before
        assert secret_of(alice_api) == body["secret"]
        until = datetime.fromisoformat(body["previousSecretValidUntil"])
        record = WebhookSecret.objects.get(account=alice)
        assert record.secrets(until - timedelta(seconds=1)) == [body["secret"], before]
        assert record.secrets(until + timedelta(seconds=1)) == [body["secret"]]

    def test_the_overlap_is_a_day(self, alice, alice_api):
        alice_api.post("/api/webhooks/secret/rotate")
        record = WebhookSecret.objects.get(account=alice)
        assert len(record.secrets(record.rotated_at + timedelta(hours=23, minutes=59))) == 2
        assert len(record.secrets(record.rotated_at + timedelta(hours=24))) == 1

    def test_bobs_stays(self, alice_api, bob_api):
        before = secret_of(bob_api)
        alice_api.post("/api/webhooks/secret/rotate")
        assert secret_of(bob_api) == before

    def test_anonymous_requests_are_refused(self, anonymous_api):
        assert anonymous_api.post("/api/webhooks/secret/rotate").status_code == 401
