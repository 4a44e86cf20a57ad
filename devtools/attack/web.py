"""Requests as the product's proxy forwards them, and as attackers send them past it."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any

import aiohttp
import orjson
from yarl import URL

from devtools.attack.product import WEB

_serial = itertools.count()


@dataclass(frozen=True, slots=True)
class Answer:
    """A response; if there was none, the status is 0 and the body has the reason."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cookies: Mapping[str, str]
    seconds: float

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")

    @property
    def json(self) -> Any:
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None

    @property
    def is_refusal(self) -> bool:
        return 400 <= self.status < 500

    @property
    def is_failure(self) -> bool:
        """Return True if the product failed, with a 5xx or without a response."""
        return self.status == 0 or self.status >= 500

    def __str__(self) -> str:
        return f"{self.status} {self.text}"


def an_address() -> str:
    """Return an unused client address, so that limits per address apply only on purpose."""
    number = next(_serial)
    return f"81.{2 + number // 62_500}.{number // 250 % 250 + 1}.{number % 250 + 1}"


class Client:
    """A client of one port of the product, in place of the proxy in front of it."""

    def __init__(self, session: aiohttp.ClientSession, port: int, host: str) -> None:
        self._session = session
        self.port = port
        self.host = host
        self.base = f"http://127.0.0.1:{port}"

    async def ask(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        raw: bytes | None = None,
        form: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        token: str = "",
        address: str = "",
        patience: float = 30.0,
    ) -> Answer:
        """Send JSON, a form or raw bytes; wait ``patience`` seconds for the response."""
        sent = {
            "Host": self.host,
            "X-Forwarded-Proto": "https",
            "X-Forwarded-For": address or an_address(),
            **({"Authorization": f"Bearer {token}"} if token else {}),
            **({"Content-Type": "application/json"} if form is None else {}),
            **(headers or {}),
        }
        data: Any = dict(form) if form is not None else raw
        if body is not None:
            data = orjson.dumps(body)
        url = URL(f"{self.base}{path}", encoded=True)
        began = time.monotonic()
        try:
            async with self._session.request(
                method,
                url,
                data=data,
                headers=sent,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=patience),
            ) as response:
                content = await response.read()
                cookies = {name: morsel.value for name, morsel in response.cookies.items()}
                return Answer(
                    response.status,
                    {name.lower(): value for name, value in response.headers.items()},
                    content,
                    cookies,
                    time.monotonic() - began,
                )
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            why = f"{type(error).__name__}: {error}".encode()
            return Answer(0, {}, why, {}, time.monotonic() - began)


class PublicClient(Client):
    """A client from outside, who comes through whatever listens at the public address."""

    def __init__(self, session: aiohttp.ClientSession, host: str) -> None:
        super().__init__(session, 443, host)
        self.base = f"https://{host}"


@dataclass
class Browser:
    """A browser with cookies."""

    web: Client
    cookies: dict[str, str] = field(default_factory=dict)
    address: str = field(default_factory=an_address)
    set_cookies: SimpleCookie = field(default_factory=SimpleCookie)

    async def get(self, path: str, **options: Any) -> Answer:
        return await self._ask("GET", path, **options)

    async def post(self, path: str, form: Mapping[str, Any], **options: Any) -> Answer:
        """Send a form with Django's CSRF token."""
        if "csrftoken" not in self.cookies:
            await self.get("/login")
        token = self.cookies.get("csrftoken", "")
        return await self._ask("POST", path, form={"csrfmiddlewaretoken": token, **form}, **options)

    async def log_in(self, email: str, password: str, codes: list[str] | None = None) -> Answer:
        """Sign in, with one of the codes if a second factor is required."""
        answer = await self.post("/login", {"email": email, "password": password})
        step = answer.headers.get("location", "")
        if codes and step.startswith("/") and not step.startswith("/dashboard"):
            code = codes.pop()
            answer = await self.post(step, {"code": code, "proof-code": code})
        return answer

    async def _ask(self, method: str, path: str, **options: Any) -> Answer:
        headers = {
            "Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items()),
            "Referer": f"https://{self.web.host}/",
            "Accept": "text/html",
            **options.pop("headers", {}),
        }
        options.setdefault("form", None)
        if options["form"] is None:
            headers["Content-Type"] = "text/plain"
        answer = await self.web.ask(method, path, headers=headers, address=self.address, **options)
        self.cookies.update(answer.cookies)
        if cookie := answer.headers.get("set-cookie"):
            self.set_cookies.load(cookie)
        return answer


def form_actions(page: str) -> list[str]:
    """Return the actions of a page's forms."""
    return re.findall(r'<form[^>]*\baction="([^"]*)"', page)


def web_client(session: aiohttp.ClientSession) -> Client:
    return Client(session, WEB, "app.example.com")
