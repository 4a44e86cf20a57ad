from __future__ import annotations

import pytest
from django.test import Client

from accounts.models import Account


@pytest.mark.parametrize(
    ("path", "says", "call"),
    [
        ("/billing/checkout/paid", "becomes active as soon as Stripe confirms", "GET /api/account"),
        ("/billing/checkout/left", "Payment not completed", "POST /api/billing/checkout"),
        ("/billing/portal/left", "Back from billing", "GET /api/billing/subscription"),
    ],
)
class TestBackFromStripe:
    def test_it_works(self, client: Client, path: str, says: str, call: str) -> None:
        response = client.get(path)
        assert response.status_code == 200
        assert says in response.content.decode()
        assert f"<code>{call}</code>" in response.content.decode()
        assert "default-src 'none'" in response["Content-Security-Policy"]

    def test_it_is_only_looked_at(self, client: Client, path: str, says: str, call: str) -> None:
        assert client.post(path).status_code == 405


@pytest.mark.django_db
def test_coming_back_activates_nobody(client: Client, carol: Account) -> None:
    client.force_login(carol)
    client.get("/billing/checkout/paid", {"session_id": "cs_1"})
    carol.refresh_from_db()
    assert carol.status == Account.Status.INACTIVE
