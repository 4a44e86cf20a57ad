"""Fixtures that the tests of several stand-ins share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sandbox.phone.exchange import Phone
from sandbox.tests.customer import ACCOUNT_SID, AUTH_TOKEN, SPEED, Customer, serving


@pytest.fixture
async def customer() -> AsyncIterator[Customer]:
    """A customer of the phone network, who responds to webhooks and accepts media streams."""
    customer = Customer()
    async with serving(customer.handle) as base:
        customer.base = base
        yield customer


@pytest.fixture
async def phone(customer: Customer) -> AsyncIterator[Phone]:
    """A phone network in which time passes quickly, and whose calls go to the customer."""
    async with Phone(
        voice_url=customer.voice_url, account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN, speed=SPEED
    ) as phone:
        yield phone
