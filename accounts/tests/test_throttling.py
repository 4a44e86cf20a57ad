"""Limits on logging in and registering."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import requests
from django.db import connection
from django.db.models import F
from pytest_django import DjangoAssertNumQueries, Settings
from rest_framework.response import Response
from rest_framework.test import APIClient

from accounts.models import Account, AttemptCount
from accounts.tasks import forget_attempts
from accounts.tests.test_login import CountingHasher
from core.tests.web import web_process

ALICE, NOBODY = "alice@example.org", "nobody@example.org"


@pytest.fixture(autouse=True)
def limits(settings: Settings) -> None:
    settings.LOGINS_PER_ADDRESS = 5
    settings.LOGIN_FAILURES_PER_EMAIL = 3
    settings.REGISTRATIONS_PER_ADDRESS = 3
    settings.REGISTRATIONS_PER_EMAIL = 2


def log_in(api: APIClient, email: str, password: str | None = None, **extra: Any) -> Response:
    return api.post("/api/auth/login", {"email": email, "password": password or "a guess"}, **extra)


def register(api: APIClient, email: str, **changes: Any) -> Response:
    return api.post("/api/auth/register", {"email": email, "password": "a long walk"} | changes)


def statuses(*responses: Response) -> list[int]:
    return [response.status_code for response in responses]


def time_passes(seconds: float) -> None:
    """Let the windows be that much older."""
    AttemptCount.objects.update(ends_at=F("ends_at") - timedelta(seconds=seconds))


@pytest.mark.django_db
class TestLogin:
    def test_it_works(self, anonymous_api: APIClient, alice: Account) -> None:
        attempts = [log_in(anonymous_api, ALICE) for _ in range(4)]
        assert statuses(*attempts) == [401, 401, 401, 429]
        refusal = attempts[-1]
        wait = refusal["Retry-After"]
        assert 14 * 60 < int(wait) <= 15 * 60
        body = refusal.json()
        assert set(body) == {"error", "code", "requestId"}
        assert body["code"] == "too_many_requests"
        assert body["error"] == f"Too many attempts. Try again in {wait} seconds."

    def test_the_right_password_has_to_wait_as_well(
        self, anonymous_api: APIClient, alice: Account, password: str
    ) -> None:
        for _ in range(3):
            log_in(anonymous_api, ALICE)
        assert log_in(anonymous_api, ALICE, password).status_code == 429

    @pytest.mark.parametrize("email", [ALICE, NOBODY])
    def test_retry_after_is_exact(
        self, anonymous_api: APIClient, alice: Account, email: str
    ) -> None:
        for _ in range(3):
            log_in(anonymous_api, email)
        wait = int(log_in(anonymous_api, email)["Retry-After"])
        time_passes(wait - 2)
        assert 1 <= int(log_in(anonymous_api, email)["Retry-After"]) <= 2
        time_passes(2)
        assert statuses(*(log_in(anonymous_api, email) for _ in range(4))) == [401, 401, 401, 429]

    def test_trying_on_makes_it_no_longer(self, anonymous_api: APIClient, alice: Account) -> None:
        for _ in range(4):
            log_in(anonymous_api, ALICE)
        before = AttemptCount.objects.order_by("pk").values_list("pk", "ends_at")
        ends = list(before)
        log_in(anonymous_api, ALICE)
        assert list(before.all()) == ends

    def test_a_success_clears_the_failures(
        self, anonymous_api: APIClient, alice: Account, password: str, settings: Settings
    ) -> None:
        settings.LOGINS_PER_ADDRESS = 100
        for _ in range(3):
            failures = [log_in(anonymous_api, ALICE) for _ in range(2)]
            assert statuses(*failures) == [401, 401]
            assert log_in(anonymous_api, " Alice@EXAMPLE.org ", password).status_code == 200

    def test_successes_alone_are_never_too_many_for_an_email(
        self, anonymous_api: APIClient, alice: Account, password: str, settings: Settings
    ) -> None:
        settings.LOGINS_PER_ADDRESS = 100
        logins = [log_in(anonymous_api, ALICE, password) for _ in range(10)]
        assert set(statuses(*logins)) == {200}

    def test_known_and_unknown_addresses_are_alike(
        self, anonymous_api: APIClient, alice: Account, settings: Settings
    ) -> None:
        settings.LOGINS_PER_ADDRESS = 100
        refusals = []
        for email in (ALICE, NOBODY):
            *failures, refusal = [log_in(anonymous_api, email) for _ in range(4)]
            assert statuses(*failures) == [401, 401, 401]
            refusals.append(refusal)
        (known, unknown) = (
            {**refusal.json(), "requestId": "", "error": refusal.json()["error"][:30]}
            for refusal in refusals
        )
        assert known == unknown
        assert set(refusals[0].headers) == set(refusals[1].headers)

    def test_no_password_is_hashed_in_vain(
        self, anonymous_api: APIClient, alice: Account, settings: Settings
    ) -> None:
        settings.PASSWORD_HASHERS = ["accounts.tests.test_login.CountingHasher"]
        CountingHasher.runs = 0
        for _ in range(5):
            log_in(anonymous_api, NOBODY)
        assert CountingHasher.runs == 3

    def test_an_address_has_a_limit_of_its_own(
        self, anonymous_api: APIClient, alice: Account, password: str
    ) -> None:
        for number in range(5):
            assert log_in(anonymous_api, f"{number}@example.org").status_code == 401
        refusal = log_in(anonymous_api, ALICE, password)
        assert refusal.status_code == 429
        assert 50 < int(refusal["Retry-After"]) <= 60
        elsewhere = log_in(anonymous_api, ALICE, password, REMOTE_ADDR="192.0.2.1")
        assert elsewhere.status_code == 200

    def test_what_an_address_is_refused_does_not_count_against_the_email(
        self, anonymous_api: APIClient, alice: Account, password: str
    ) -> None:
        for number in range(5):
            log_in(anonymous_api, f"{number}@example.org")
        refused = [log_in(anonymous_api, ALICE) for _ in range(10)]
        assert set(statuses(*refused)) == {429}
        assert log_in(anonymous_api, ALICE, password, REMOTE_ADDR="192.0.2.1").status_code == 200

    def test_many_addresses_do_not_help_with_one_email(
        self, anonymous_api: APIClient, alice: Account
    ) -> None:
        attempts = [
            log_in(anonymous_api, ALICE, REMOTE_ADDR=f"192.0.2.{number}") for number in range(5)
        ]
        assert statuses(*attempts) == [401, 401, 401, 429, 429]

    @pytest.mark.parametrize(
        ("proxies", "forwarded"),
        [(0, "192.0.2.{}"), (1, "192.0.2.{}, 198.51.100.7"), (1, "2001:db8:1:2:{}::1")],
    )
    def test_a_header_does_not_make_another_client(
        self, anonymous_api: APIClient, settings: Settings, proxies: int, forwarded: str
    ) -> None:
        settings.TRUSTED_PROXIES = proxies
        attempts = [
            log_in(
                anonymous_api,
                f"{number}@example.org",
                HTTP_X_FORWARDED_FOR=forwarded.format(number),
            )
            for number in range(6)
        ]
        assert statuses(*attempts) == [401] * 5 + [429]

    def test_clients_behind_the_proxy_are_told_apart(
        self, anonymous_api: APIClient, settings: Settings
    ) -> None:
        settings.TRUSTED_PROXIES = 1
        attempts = [
            log_in(
                anonymous_api,
                f"{number}@example.org",
                HTTP_X_FORWARDED_FOR=f"192.0.2.{number}",
            )
            for number in range(8)
        ]
        assert set(statuses(*attempts)) == {401}

    def test_what_is_no_attempt_does_not_count(self, anonymous_api: APIClient) -> None:
        for _ in range(10):
            assert log_in(anonymous_api, "alice").status_code == 400
        assert not AttemptCount.objects.exists()


@pytest.mark.django_db
class TestRegister:
    def test_it_works(self, anonymous_api: APIClient) -> None:
        attempts = [register(anonymous_api, f"{number}@company.example") for number in range(4)]
        assert statuses(*attempts) == [201, 201, 201, 429]
        refusal = attempts[-1]
        assert refusal.json()["code"] == "too_many_requests"
        assert 59 * 60 < int(refusal["Retry-After"]) <= 60 * 60
        assert Account.objects.count() == 3

    def test_an_email_has_a_limit_of_its_own(self, anonymous_api: APIClient) -> None:
        attempts = [register(anonymous_api, "You@company.example") for _ in range(3)]
        assert statuses(*attempts) == [201, 409, 429]
        assert register(anonymous_api, "me@company.example").status_code == 429  # 3 were counted

    def test_the_limits_of_login_are_others(
        self, anonymous_api: APIClient, alice: Account, password: str
    ) -> None:
        for number in range(4):
            register(anonymous_api, f"{number}@company.example")
        assert log_in(anonymous_api, ALICE, password).status_code == 200

    @pytest.mark.parametrize("changes", [{"password": "password123"}, {"password": "short"}])
    def test_a_mistake_does_not_count(
        self, anonymous_api: APIClient, changes: dict[str, str]
    ) -> None:
        for _ in range(5):
            assert register(anonymous_api, "you@company.example", **changes).status_code == 400
        assert register(anonymous_api, "you@company.example").status_code == 201

    def test_no_connection_is_held_while_the_password_is_hashed(
        self, anonymous_api: APIClient, settings: Settings, transactional_db: None
    ) -> None:
        settings.PASSWORD_HASHERS = [f"{__name__}.LookingHasher"]
        LookingHasher.seen.clear()
        assert register(anonymous_api, "you@company.example").status_code == 201
        assert LookingHasher.seen == [None]


class LookingHasher(CountingHasher):
    """A hasher that looks whether its thread has a connection."""

    algorithm = "looking"
    seen: list[Any] = []

    def encode(self, password: str, salt: str) -> str:
        self.seen.append(connection.connection)
        return super().encode(password, salt)


@pytest.mark.django_db
class TestWhatIsKept:
    def test_nobody_can_be_told_from_it(self, anonymous_api: APIClient) -> None:
        log_in(anonymous_api, NOBODY, REMOTE_ADDR="192.0.2.1")
        register(anonymous_api, "you@company.example", REMOTE_ADDR="192.0.2.1")
        kept = str(list(AttemptCount.objects.values()))
        assert AttemptCount.objects.count() == 4
        for word in ("nobody", "you", "example", "192.0.2.1"):
            assert word not in kept

    def test_it_is_in_no_backup(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT relpersistence FROM pg_class WHERE oid = 'accounts_attemptcount'::regclass"
            )
            assert cursor.fetchone() == ("u",)

    def test_it_is_deleted_when_the_window_is_over(self, anonymous_api: APIClient) -> None:
        log_in(anonymous_api, NOBODY)
        time_passes(61)  # the minute of the address, not the quarter of an hour of the email
        forget_attempts(timestamp=0)
        assert AttemptCount.objects.count() == 1
        time_passes(15 * 60)
        forget_attempts(timestamp=0)
        assert not AttemptCount.objects.exists()

    def test_a_lot_is_deleted_in_portions(
        self, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        monkeypatch.setattr("accounts.tasks.BATCH", 2)
        for number in range(5):
            AttemptCount.objects.take(str(number), most=1, window=timedelta(seconds=-1))
        with django_assert_num_queries(3):
            forget_attempts(timestamp=0)
        assert not AttemptCount.objects.exists()


@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    def test_a_hundred_guesses_at_two_processes(self, alice: Account) -> None:
        with web_process(
            workers=2, LOGIN_FAILURES_PER_EMAIL="10", LOGINS_PER_ADDRESS="1000"
        ) as web:

            def guess(number: int) -> requests.Response:
                body = {"email": ALICE, "password": f"guess {number}"}
                return requests.post(f"{web.url}/api/auth/login", json=body, timeout=60)

            with ThreadPoolExecutor(100) as pool:
                answers = list(pool.map(guess, range(100)))
        assert sorted(answer.status_code for answer in answers) == [401] * 10 + [429] * 90
        assert AttemptCount.objects.get(count=10)

    def test_a_window_that_is_over_is_opened_once(self) -> None:
        AttemptCount.objects.take("somebody", most=1, window=timedelta(seconds=-1))

        def take(_: int) -> bool:
            try:
                wait = AttemptCount.objects.take("somebody", most=3, window=timedelta(minutes=1))
                return wait is None
            finally:
                connection.close()

        with ThreadPoolExecutor(8) as pool:
            taken = list(pool.map(take, range(20)))
        assert taken.count(True) == 3
