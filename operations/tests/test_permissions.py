"""Every page of the admin, by permission."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from accounts.models import Account
from operations.tests.test_pages import MODELS, list_of, page_of, seed

pytestmark = pytest.mark.django_db

# Only superusers see these: groups give rights, and the log names operators.
FOR_SUPERUSERS = {"auth.Group", "admin.LogEntry"}


def staff(*permissions: Permission) -> Client:
    account = Account.objects.create_user("clerk@example.org", None, is_staff=True)
    account.user_permissions.set(permissions)
    client = Client()
    client.force_login(account)
    return client


@pytest.mark.parametrize("label", MODELS)
class TestPermissions:
    @pytest.fixture(autouse=True)
    def rows(self) -> None:
        seed()

    def paths(self, label: str) -> list[str]:
        return [path for path in (list_of(MODELS[label]), page_of(MODELS[label])) if path]

    def test_superusers_see_it(self, operator: Account, label: str) -> None:
        client = Client()
        client.force_login(operator)
        assert {client.get(path).status_code for path in self.paths(label)} == {200}

    def test_viewers_see_it_without_buttons(self, label: str) -> None:
        client = staff(*Permission.objects.filter(codename__startswith="view_"))
        status = 403 if label in FOR_SUPERUSERS else 200
        for path in self.paths(label):
            response = client.get(path)
            assert response.status_code == status
            text = response.content.decode()
            for button in ('name="_save"', 'class="deletelink"', 'name="action"', "addlink"):
                assert button not in text

    def test_nobody_else_does(self, label: str) -> None:
        client = staff()
        assert {client.get(path).status_code for path in self.paths(label)} == {403}
