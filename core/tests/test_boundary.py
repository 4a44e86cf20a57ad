"""Arguments in paths that could be mistaken for what no text may contain."""

from __future__ import annotations

import pytest
from django.test import AsyncClient, Client

from accounts.models import Account

pytestmark = pytest.mark.django_db

CALL_SID = "CA" + "0" * 32


@pytest.mark.parametrize("purpose", ["answer", "status", "stream", "after"])
async def test_a_signature_is_not_unquoted(purpose: str) -> None:
    """In one of six thousand, there is what the admin writes for a line feed."""
    path = f"/voice/{purpose}/{purpose}.c1:1xXuw4:_0ATjF6ER62O7qJnIdWVKCqVmLtl50WhhcqqW8RZYPA"
    response = await AsyncClient().post(path, {"CallSid": CALL_SID})
    assert (response.status_code, response.content) == (403, b"This link is not valid.\n")


def test_an_id_of_the_admins_is(client: Client, operator: Account) -> None:
    client.force_login(operator)
    assert client.get("/admin/accounts/account/_0A/change/").status_code == 404
