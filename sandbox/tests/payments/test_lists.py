"""Lists, page by page."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

pytestmark = pytest.mark.django_db


@pytest.fixture
def five(db: None) -> list[str]:
    """Five webhook endpoints, newest first."""
    urls = [f"https://{number}.example.org" for number in range(5)]
    made = [stripe.WebhookEndpoint.create(url=url, enabled_events=["*"]) for url in urls]
    return [each.id for each in made][::-1]


def test_it_works(five: list[str]) -> None:
    page = stripe.WebhookEndpoint.list(limit=2)
    assert [each.id for each in page] == five[:2]
    assert (page.has_more, page.url) == (True, "/v1/webhook_endpoints")
    after = stripe.WebhookEndpoint.list(limit=3, starting_after=five[1])
    assert [each.id for each in after] == five[2:]
    assert after.has_more is False


def test_the_sdk_walks_through_all(five: list[str]) -> None:
    assert [each.id for each in stripe.WebhookEndpoint.list(limit=2).auto_paging_iter()] == five


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"limit": 0}, "parameter_invalid_integer"),
        ({"limit": 101}, "parameter_invalid_integer"),
        ({"starting_after": "we_no"}, "resource_missing"),
    ],
)
def test_refused(five: list[str], params: dict[str, Any], code: str) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        stripe.WebhookEndpoint.list(**params)
    assert refusal.value.code == code
