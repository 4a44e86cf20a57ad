"""The header by which ``manage.py doctor`` recognizes this installation's processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import AsyncClient, Client

from core import self_check
from core.version import VERSION

OTHER_KEY = "another-" + "y" * 50


@pytest.fixture
def challenge_of(settings: Any) -> Callable[[str], str]:
    def made_with(key: str) -> str:
        own, settings.SECRET_KEY = settings.SECRET_KEY, key
        try:
            return self_check.new_challenge()
        finally:
            settings.SECRET_KEY = own

    return made_with


def test_it_works(client: Client, settings: Any) -> None:
    settings.TRUSTED_PROXIES = 1
    challenge = self_check.new_challenge()
    headers = {
        self_check.HEADER: challenge,
        "X-Forwarded-For": "198.51.100.7, 192.0.2.1",
        "X-Forwarded-Proto": "https",
        "Host": "strange.example",
    }
    response = client.get("/anything", headers=headers)
    facts = self_check.read_answer(response.content, challenge)
    assert facts is not None
    assert facts["version"] == VERSION
    assert (facts["process"], facts["client"]) == ("engine", "192.0.2.1")
    assert facts["forwarded_for"] == "198.51.100.7, 192.0.2.1"
    assert (facts["is_secure"], facts["host"]) == (True, "strange.example")


async def test_engines_answer_as_well(async_client: AsyncClient) -> None:
    challenge = self_check.new_challenge()
    response = await async_client.post("/voice", headers={self_check.HEADER: challenge})
    assert self_check.read_answer(response.content, challenge) is not None


def test_a_stranger_learns_nothing(client: Client, challenge_of: Callable[[str], str]) -> None:
    plain = client.get("/api/account")
    for challenge in ("x", "a:b:c", challenge_of(OTHER_KEY)):
        response = client.get("/api/account", headers={self_check.HEADER: challenge})
        assert (response.status_code, len(response.content)) == (401, len(plain.content))
        assert response.headers.keys() == plain.headers.keys()


def test_a_challenge_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    challenge = self_check.new_challenge()
    monkeypatch.setattr(self_check, "_VALID_FOR_S", -1)
    assert not self_check.is_ours(challenge)


def test_an_answer_belongs_to_its_challenge() -> None:
    one, other = self_check.new_challenge(), self_check.new_challenge()
    answer = self_check.answer_to(one, forwarded_for="", peer="127.0.0.1")
    assert self_check.read_answer(answer, one) is not None
    assert self_check.read_answer(answer, other) is None
    assert self_check.read_answer(b"<html>", one) is None


def test_a_rotated_key_still_reads(settings: Any, challenge_of: Callable[[str], str]) -> None:
    settings.SECRET_KEY_FALLBACKS = [OTHER_KEY]
    assert self_check.is_ours(challenge_of(OTHER_KEY))
