"""Tests of the landing page, the guides, the API reference and the error pages."""

from __future__ import annotations

import gzip
import html
import json
import re
from decimal import Decimal
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.test import Client
from pytest_django import Settings

from accounts.models import Account, ApiKey
from docs.guides import AUDIENCES, GUIDES, read_guide
from telephony.callbacks.answers import parse_plan
from telephony.numbers import phone_number_register

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["/", "/docs", "/docs/", "/docs/api", *(f"/docs/{slug}" for slug in GUIDES)]
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = '{"callSid":"CA1","text":"Grüße"}'.encode()

pytestmark = pytest.mark.django_db  # for the context processors of messages and sessions


class Links(HTMLParser):
    """The links and resources of a page, and the ids that links can point to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.inline: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.links += [str(values[name]) for name in ("href", "src") if values.get(name)]
        self.ids |= {str(values["id"])} if values.get("id") else set()
        if tag == "style" or "style" in values or (tag == "script" and not values.get("src")):
            self.inline.append(tag)


def get(path: str) -> str:
    response = Client().get(path)
    assert response.status_code == 200, path
    return response.content.decode()


class TestPages:
    @pytest.mark.parametrize("path", PAGES)
    def test_it_works(self, path: str) -> None:
        response = Client().get(path)
        assert response.status_code == 200
        assert response["Content-Type"] == "text/html; charset=utf-8"
        assert "'unsafe" not in response["Content-Security-Policy"]
        assert response["Content-Security-Policy"].startswith("default-src 'none'")
        text = response.content.decode()
        assert '<html lang="en">' in text
        assert len(re.findall(r"<main\b", text)) == 1

    @pytest.mark.parametrize("path", ["/docs", "/docs/callbacks", "/docs/api"])
    def test_it_is_compressed(self, path: str) -> None:
        response = Client().get(path, headers={"accept-encoding": "gzip"})
        assert response["Content-Encoding"] == "gzip"
        assert "Accept-Encoding" in response["Vary"]
        assert gzip.decompress(response.content).decode().startswith("<!doctype html>")
        assert not Client().get(path).has_header("Content-Encoding")

    @pytest.mark.parametrize("path", PAGES)
    def test_it_has_a_title_and_a_description(self, path: str) -> None:
        text = get(path)
        assert re.search(r"<title>[^<]*Switchhook[^<]*</title>", text)
        assert len(re.findall(r'<meta name="description" content="[^"]{20,}">', text)) == 1

    @pytest.mark.parametrize("path", PAGES)
    def test_it_has_no_inline_scripts_or_styles(self, path: str) -> None:
        assert Links(get(path)).inline == []

    @pytest.mark.parametrize("path", PAGES)
    def test_nothing_is_loaded_from_elsewhere(self, path: str) -> None:
        loaded = re.findall(r'<(?:link|script|img)[^>]*(?:href|src)="([^"]+)"', get(path))
        assert loaded
        for address in loaded:
            assert finders.find(address.removeprefix("/static/")), address

    def test_no_link_is_dead(self) -> None:
        links_of = cache(lambda path: Links(get(path)))
        for path in PAGES:
            for link in links_of(path).links:
                target, _, anchor = link.partition("#")
                if target.startswith(("https://", "/static/", "/admin/", "/dashboard")):
                    continue
                found = links_of(target or path)
                assert not anchor or anchor in found.ids, (path, link)

    def test_it_is_read_only(self) -> None:
        assert Client().post("/docs/callbacks").status_code == 405

    def test_addresses_are_those_of_this_installation(self, settings: Settings) -> None:
        settings.PUBLIC_URL = "https://calls.example.org"
        settings.ENGINE_URL = "https://voice.example.org"
        text = get("/docs/getting-started")
        assert "https://calls.example.org/api/auth/register" in text
        assert "https://voice.example.org/voice" in text
        assert "switchhook.example" not in text

    def test_guides_for_operators_are_apart(self) -> None:
        for path in ("/docs", "/docs/callbacks"):
            text = get(path)
            at = [text.index(f">{who}</") for who in AUDIENCES]
            for (_, slugs), begin, end in zip(
                AUDIENCES.items(), at, [*at[1:], len(text)], strict=True
            ):
                links = Links(text[begin:end]).links
                assert [f"/docs/{slug}" for slug in slugs] == [
                    link for link in links if link.removeprefix("/docs/") in GUIDES
                ][: len(slugs)]

    @pytest.mark.parametrize("path", ["/docs/sandbox", "/docs/sandbox.md", "/SKILL.md"])
    def test_local_addresses_are_those_of_this_installation(
        self, settings: Settings, path: str
    ) -> None:
        settings.PUBLIC_URL, settings.PORT = "http://127.0.0.1:9100", 9100
        settings.SANDBOX_PORT = 9102
        text = get(path)
        assert "http://127.0.0.1:9100" in text
        assert "http://127.0.0.1:9102" in text
        assert not re.search(r"\b800[0-2]\b", text)

    def test_an_installation_without_sandbox_shows_the_defaults(self, settings: Settings) -> None:
        settings.PUBLIC_URL, settings.SANDBOX = "https://calls.example.org", False
        text = get("/docs/sandbox")
        assert "http://127.0.0.1:8000" in text
        assert "http://127.0.0.1:8002/backend/calls/start" in text

    @pytest.mark.parametrize("slug", GUIDES)
    def test_each_scrolling_region_has_a_unique_name(self, slug: str) -> None:
        regions = re.findall(r'role="region" aria-label="([^"]+)"', read_guide(slug).html)
        assert regions
        assert len(regions) == len(set(regions))

    @pytest.mark.parametrize("slug", GUIDES)
    def test_each_column_has_a_header(self, slug: str) -> None:
        assert "<th></th>" not in read_guide(slug).html

    def test_markup_in_a_guide_is_text(self) -> None:
        assert "&lt;" not in read_guide("getting-started").title
        assert "<script" not in "".join(read_guide(slug).html for slug in GUIDES)


class TestForPrograms:
    def test_the_index(self, settings: Settings) -> None:
        settings.PUBLIC_URL = "https://calls.example.org"
        response = Client().get("/llms.txt")
        assert response["Content-Type"] == "text/plain; charset=utf-8"
        text = response.content.decode()
        assert text.startswith("# Switchhook\n\n> ")
        listed = re.findall(
            r"^- \[.+\]\(https://calls.example.org(/docs/.+\.md)\): .+$", text, re.M
        )
        assert listed == [f"/docs/{slug}.md" for slug in GUIDES]
        assert "&#" not in text

    @pytest.mark.parametrize("path", ["/SKILL.md", *(f"/docs/{slug}.md" for slug in GUIDES)])
    def test_markdown(self, settings: Settings, path: str) -> None:
        settings.PUBLIC_URL = "https://calls.example.org"
        settings.ENGINE_URL = "https://voice.example.org"
        response = Client().get(path)
        assert response["Content-Type"] == "text/markdown; charset=utf-8"
        text = response.content.decode()
        assert "switchhook.example" not in text
        for link in re.findall(r"(?<=\]\()[^)]+|(?<=<)https://calls[^>]+", text):
            address, _, anchor = link.partition("#")
            if address.startswith("https://calls.example.org"):
                path = address.removeprefix("https://calls.example.org")
                if path.startswith(("/admin/", "/dashboard")):
                    continue
                assert Client().get(path).status_code == 200, link
                path = path.removesuffix(".md")
                assert not anchor or anchor in Links(get(path)).ids, link
            else:
                assert link.startswith(("https://", "#")), link

    def test_unknown_guides_are_not_found(self) -> None:
        for path in ("/docs/nothing.md", "/docs/SKILL.md", "/docs/SKILL"):
            assert Client().get(path).status_code == 404

    def test_the_skill_says_what_it_is_for(self) -> None:
        text = Client().get("/SKILL.md").content.decode()
        assert re.match(r"---\nname: switchhook\ndescription: .{50,1000}\n---\n", text)


class TestVariants:
    def test_it_works(self) -> None:
        text = read_guide("getting-started").html
        groups = re.findall(r'<div class="variants">.*?</div>\n</div>', text, re.DOTALL)
        assert len(groups) == 7
        for group in groups:
            titles = re.findall(r'data-variant="(\w+)"', group)
            assert titles in (["curl", "Python", "Node"], ["Python", "Node"])
            # Without a script, each is shown with its title.
            assert re.findall(r'<p class="variant">(\w+)</p>', group) == titles
            assert "hidden" not in group

    def test_every_div_is_closed(self) -> None:
        for slug in GUIDES:
            text = read_guide(slug).html
            assert text.count("<div") == text.count("</div>")


class TestOwnValues:
    PLACEHOLDERS = ("rtk_…", "+15551234567", "https://your-backend.com/calls/start")

    def test_it_works(self, alice: Account, django_assert_num_queries: Any) -> None:
        old = ApiKey.objects.create(account=alice, label="Old", prefix="rtk_old", digest="1")
        new = ApiKey.objects.create(account=alice, label="New", prefix="rtk_new", digest="2")
        ApiKey.objects.create(
            account=alice, label="Gone", prefix="rtk_rev", digest="3", revoked_at=new.created_at
        )
        for number in ("+12025550143", "+12025550144"):
            phone_number_register(
                account=alice,
                phone_number=number,
                on_call_start_url="https://alice.example.org/start?a=1&b=2",
                on_call_end_url="https://alice.example.org/end",
            )
        browser = logged_in(alice)
        with django_assert_num_queries(4):  # the session, the account, its key, its number
            text = browser.get("/docs/getting-started").content.decode()
        assert "Bearer rtk_new…" in text
        assert "rtk_rev" not in text
        assert old.prefix not in text
        assert "+12025550143" in text
        assert "+12025550144" not in text
        assert "https://alice.example.org/start?a=1&amp;b=2" in text
        assert not any(placeholder in text for placeholder in self.PLACEHOLDERS)
        # Placeholders for what she does not have stay.
        assert "https://your-backend.com/calls/error" in text

    def test_a_new_customer_sees_placeholders(self, bob: Account) -> None:
        text = logged_in(bob).get("/docs/getting-started").content.decode()
        assert all(placeholder in text for placeholder in self.PLACEHOLDERS)

    def test_nobody_sees_another_customers_values(self, alice: Account, bob: Account) -> None:
        ApiKey.objects.create(account=alice, label="Hers", prefix="rtk_ali", digest="1")
        logged_in(alice).get("/docs/getting-started")
        for browser in (Client(), logged_in(bob)):
            text = browser.get("/docs/getting-started").content.decode()
            assert "rtk_ali" not in text
            assert "rtk_…" in text

    def test_it_is_not_cached(self, alice: Account) -> None:
        response = logged_in(alice).get("/docs/getting-started")
        assert "no-store" in response["Cache-Control"]


def logged_in(account: Account) -> Client:
    browser = Client()
    browser.force_login(account)
    return browser


class TestLanding:
    def test_it_works(self, settings: Settings) -> None:
        settings.MONTHLY_BASE, settings.PER_MINUTE_RATE = Decimal(7), Decimal("0.0125")
        text = get("/")
        assert "$7.00</b> a month" in text
        assert "$0.0125</b> a minute" in text
        assert {"/signup", "/login", "/docs/getting-started"} <= set(Links(text).links)
        assert "/dashboard" not in Links(text).links

    def test_a_signed_in_customer_gets_a_link_to_the_dashboard(self, alice: Account) -> None:
        links = Links(logged_in(alice).get("/").content.decode()).links
        assert links.count("/dashboard") == 2  # the page's and the frame's
        assert "/signup" not in links

    def test_its_example_can_be_used(self) -> None:
        (shown,) = re.findall(r"<code>\n?(\{.*?)</code>", get("/"), re.DOTALL)
        answer = json.loads(html.unescape(shown))
        # The reader's own values are shown as dots.
        answer |= {"twilioAccountSid": "AC" + "0" * 32, "openaiApiKey": "sk-1"}
        parse_plan(answer)


class TestErrors:
    def test_a_browser_gets_a_page(self, settings: Settings) -> None:
        settings.DEBUG = False
        headers = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8", "x-request-id": "find-me"}
        for path in ("/nothing", "/docs/nothing"):
            response = Client().get(path, headers=headers)
            assert response.status_code == 404
            assert response["Content-Type"] == "text/html; charset=utf-8"
            assert "default-src 'none'" in response["Content-Security-Policy"]
            text = response.content.decode()
            assert "find-me" in text
            assert "This resource does not exist." in text

    @pytest.mark.parametrize("accepted", ["*/*", "text/plain"])
    def test_a_program_gets_a_line(self, settings: Settings, accepted: str) -> None:
        settings.DEBUG = False
        response = Client().get("/nothing", headers={"accept": accepted})
        assert response.status_code == 404
        assert response.content == b"This resource does not exist.\n"

    def test_the_api_stays_json(self) -> None:
        response = Client().get("/api/nothing", headers={"accept": "text/html"})
        assert response.json()["code"] == "not_found"
