from __future__ import annotations

import pytest
from django.test import AsyncClient, Client

from core.ids import is_id


def test_every_response_carries_one():
    response = Client().get("/livez")
    assert is_id(response["X-Request-Id"])


async def test_asynchronous_ones_too():
    response = await AsyncClient().get("/livez")
    assert is_id(response["X-Request-Id"])


def test_two_requests_have_two():
    assert Client().get("/livez")["X-Request-Id"] != Client().get("/livez")["X-Request-Id"]


@pytest.mark.parametrize("offered", ["a", "7f3c-11.b_X", "x" * 64])
def test_the_callers_is_kept(offered):
    response = Client().get("/livez", headers={"x-request-id": offered})
    assert response["X-Request-Id"] == offered


@pytest.mark.parametrize("offered", ["", "x" * 65, "a b", "a\nb", "<b>", "ä", '{"a": 1}'])
def test_what_could_harm_a_log_is_replaced(offered):
    response = Client().get("/livez", headers={"x-request-id": offered})
    assert is_id(response["X-Request-Id"])


def test_it_is_on_the_log_lines_of_django(logged):
    Client().get("/api/nothing", headers={"x-request-id": "find-me"})
    (line,) = [line for line in logged().splitlines() if "Not Found" in line]
    assert "find-me" in line
