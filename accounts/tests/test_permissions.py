from __future__ import annotations

import pytest
from django.urls import include, path
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.permissions import IsActive, IsActiveOrReadOnly


class Anything(APIView):
    permission_classes = [IsActive]

    def get(self, request):
        return Response({})

    def post(self, request):
        return Response({})


class Writing(Anything):
    permission_classes = [IsActiveOrReadOnly]


urlpatterns = [
    path("api/anything", Anything.as_view()),
    path("api/writing", Writing.as_view()),
    path("", include("config.urls")),
]

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

REFUSED = [("get", "/api/anything"), ("post", "/api/anything"), ("post", "/api/writing")]


@pytest.mark.parametrize(("method", "url"), [*REFUSED, ("get", "/api/writing")])
class TestWhoMay:
    def test_active_accounts(self, alice_api, method, url):
        assert getattr(alice_api, method)(url).status_code == 200

    def test_nobody_without_credentials(self, anonymous_api, method, url):
        assert getattr(anonymous_api, method)(url).status_code == 401


@pytest.mark.parametrize(("method", "url"), REFUSED)
class TestWhoMayNot:
    def test_unpaid_accounts(self, carol_api, method, url):
        response = getattr(carol_api, method)(url)
        assert response.status_code == 402
        assert response.json()["code"] == "payment_required"
        assert "checkout" in response.json()["error"]

    def test_suspended_accounts(self, dave_api, method, url):
        response = getattr(dave_api, method)(url)
        assert response.status_code == 403
        assert response.json()["code"] == "account_suspended"
        assert "payment method" in response.json()["error"]

    def test_accounts_that_an_operator_suspended(self, alice, alice_api, method, url):
        alice.suspended_by_operator = True
        alice.save()
        response = getattr(alice_api, method)(url)
        assert response.status_code == 403
        assert response.json()["code"] == "account_suspended"
        assert "support" in response.json()["error"]


@pytest.mark.parametrize("client", ["carol_api", "dave_api"])
def test_everybody_may_read(request, client):
    assert request.getfixturevalue(client).get("/api/writing").status_code == 200
