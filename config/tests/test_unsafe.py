"""Which values of settings are safe, and which are not."""

from __future__ import annotations

import pytest

from config.unsafe import (
    bad_address,
    bad_dsn,
    bad_email,
    bad_host,
    bad_link,
    bad_webhook,
    leaky_mail_server,
    weak_key,
    weak_webhook_secret,
    wide_host,
)

# Fixed, since a test's name has them in it: made once, of 40 random bytes.
HEX = "9c1f04b7ae3358d26b70f5e1c8497d32a60be4f7135c8d920ea6b14f73d85c02e91b7f3a64d0c852"
URLSAFE = "q3vY1n0Hk2XwZ-8sT5bLr7mPjUe_4aCdF9gKxWiVtNoQzB6uSyR1hJ"

WEB = ("https",)


@pytest.mark.parametrize(
    "key",
    [
        URLSAFE,
        HEX,
        "8(h#q2!w=z%v5&k@x9^r+t7_m*j4$n6)p3-b0cgf1dsyaeluio",
        "the-heron-stood-in-cold-water-until-9-boats-had-passed-it",
    ],
)
def test_a_good_key(key: str) -> None:
    assert weak_key(key) == ""


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        ("a", "has 1 characters"),
        ("changeme", "has 8 characters"),
        (URLSAFE[:48], "has 48 characters"),
        ("a" * 64, "has 1 different characters"),
        ("0123" * 16, "has 4 different characters"),
        ("9c1f04b7" * 8, "has 8 different characters"),
        ("correct horse battery " * 3, "is one text, repeated"),
        ("K7f!qz9Rw2" * 5 + "K7f!", "is one text, repeated"),
        ("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", "the alphabet"),
        ("zyxwvutsrqponmlkjihgfedcba9876543210ZYXWVUTSRQPONMLKJIHGFEDCBA", "the alphabet"),
        (f"django-insecure-{URLSAFE}", "'djangoinsecure'"),
        (f"Change-Me! {URLSAFE}", "'changeme'"),
        ("your_secret_key_goes_here_and_it_should_be_rather_long_1", "'secretkey'"),
    ],
)
def test_a_weak_key(key: str, fault: str) -> None:
    sentence = weak_key(key)
    assert fault in sentence
    assert len(key) < 10 or key not in sentence


@pytest.mark.parametrize("secret", [f"whsec_{HEX[:32]}", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
def test_a_good_webhook_secret(secret: str) -> None:
    assert weak_webhook_secret(secret) == ""


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_test", f"whsec_{32 * 'a'}", HEX[:32], "secret"]
)
def test_a_weak_webhook_secret(secret: str) -> None:
    assert weak_webhook_secret(secret).startswith("must be signing secrets")


@pytest.mark.parametrize(
    ("dsn", "is_good"),
    [
        ("https://0a1b@o1.ingest.sentry.io/42", True),
        ("https://0a1b@sentry.example:8443/errors/7", True),
        ("http://0a1b@sentry.example/7", False),
        ("https://sentry.example/7", False),
        ("https://0a1b@sentry.example", False),
        ("https://0a1b@sentry.example/project", False),
        ("secret", False),
    ],
)
def test_a_dsn_of_sentry(dsn: str, is_good: bool) -> None:
    fault = bad_dsn(dsn, allows_http=False)
    assert (fault == "") is is_good
    assert "0a1b" not in fault
    assert bad_dsn("http://0a1b@127.0.0.1:9000/7", allows_http=True) == ""


@pytest.mark.parametrize(
    "host",
    [
        "switchhook.example",
        ".switchhook.example",
        ".company.co.uk",
        "switchhook",
        "10.0.0.7",
        "[2001:db8::7]",
    ],
)
def test_a_host_of_ones_own(host: str) -> None:
    assert wide_host(host) == ""


@pytest.mark.parametrize(
    "host",
    [
        *("*", ".*", "*.switchhook.example", "**"),
        *(".com", ".", ".co.uk", ".com.", ".local"),
        *("https://switchhook.example", "switchhook.example:443", "switchhook.example/", "", "a b"),
    ],
)
def test_a_host_of_others(host: str) -> None:
    assert repr(host) in wide_host(host)


@pytest.mark.parametrize(
    "address", ["https://api.twilio.com", "https://10.0.0.7:8443/2010", "https://[2001:db8::7]"]
)
def test_an_address(address: str) -> None:
    assert bad_address(address, WEB) == ""


@pytest.mark.parametrize(
    "address",
    [
        *("", "http://api.twilio.com", "wss://api.twilio.com", "api.twilio.com", "https://"),
        *("https:api.twilio.com", "https://api.twilio.com:http", "https://[::1", "https://a b"),
        *("https://a\n.example", "https://a.example\\b", "javascript:alert(1)"),
        *("https://user:pass@a.example", "https://user@a.example", "https://@a.example"),
        *("https://a.example/?key=1", "https://a.example?", "https://a.example/#there"),
    ],
)
def test_a_bad_address(address: str) -> None:
    assert bad_address(address, WEB)


def test_an_address_without_a_path() -> None:
    assert bad_address("https://a.example", WEB, takes_path=False) == ""
    assert bad_address("https://a.example/app", WEB, takes_path=False)


def test_a_plain_address_where_it_is_allowed() -> None:
    assert bad_address("http://127.0.0.1:8000", ("http", "https")) == ""


@pytest.mark.parametrize(
    "address", ["https://user:hunter2@a.example", "http://user:hunter2@a.example/x"]
)
def test_credentials_are_not_repeated(address: str) -> None:
    assert "hunter2" not in bad_address(address, WEB)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0", "::", "10.0.0.7"])  # noqa: S104
def test_a_host_to_listen_at(host: str) -> None:
    assert bad_host(host, only_loopback=False) == ""


@pytest.mark.parametrize(
    ("host", "only_loopback"),
    [("", False), ("localhost", False), ("*", False), ("0.0.0.0:80", False), ("10.0.0.7", True)],
)
def test_a_host_not_to_listen_at(host: str, only_loopback: bool) -> None:
    assert bad_host(host, only_loopback=only_loopback)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "smtp+tls://user:password@mail.example:587",
        "smtp+ssl://user:password@mail.example:465",
        "smtp://127.0.0.1:25",
    ],
)
def test_a_mail_server(address: str) -> None:
    assert leaky_mail_server(address) == ""


@pytest.mark.parametrize(
    "address",
    [
        *("consolemail://", "filemail:///tmp", "memorymail://", "mail.example:587", "smtp+tls://"),
        "smtp://user:hunter2@mail.example:587",
    ],
)
def test_a_mail_server_that_leaks(address: str) -> None:
    fault = leaky_mail_server(address)
    assert fault
    assert "hunter2" not in fault


class TestLinks:
    @pytest.mark.parametrize(
        "url",
        ["https://a.example", "https://a.example/terms/", "https://a.example:8443/x?lang=en#top"],
    )
    def test_a_page_on_another_site(self, url: str) -> None:
        assert bad_link(url) == ""

    @pytest.mark.parametrize(
        "url",
        [
            "http://a.example",
            "javascript:alert(1)",
            "//a.example",
            "a.example",
            "https://",
            "https://a.example/with space",
            "https://a.example:port",
        ],
    )
    def test_anything_else_is_refused(self, url: str) -> None:
        assert bad_link(url).startswith("must begin with https://")

    def test_credentials_are_not_repeated(self) -> None:
        fault = bad_link("https://user:hunter2@a.example")
        assert fault
        assert "hunter2" not in fault

    def test_an_email_address(self) -> None:
        assert bad_email("support@a.example") == ""
        for address in ("support", "support@", "a b@c.example", "<support@a.example>"):
            assert bad_email(address).startswith("must be an email address"), address


def test_a_webhook_is_not_repeated() -> None:
    assert bad_webhook("https://hooks.slack.com/services/T0/B0/a1B2") == ""
    assert bad_webhook("http://127.0.0.1:9000/hook", allows_http=True) == ""
    for url in ("http://hooks.slack.com/services/T0/B0/a1B2", "hooks.slack.com/a1B2"):
        fault = bad_webhook(url)
        assert fault.startswith("must begin with https://")
        assert "a1B2" not in fault
