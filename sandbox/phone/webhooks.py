"""The carrier's requests: signed, limited in time, and tried twice if the connection fails."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp
from twilio.request_validator import RequestValidator
from yarl import URL

from sandbox.phone.bodies import body_of
from sandbox.phone.faults import NO_FAULTS, Faults
from sandbox.phone.journal import Journal

# Twilio's defaults: https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides
CONNECT_TIMEOUT_S = 5.0
TOTAL_TIMEOUT_S = 15.0
_LARGEST_ANSWER = 64 * 1024


class WebhookError(Exception):
    """There was no usable response; ``code`` is Twilio's."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(f"{code}: {message}")


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    content_type: str
    body: str

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


class Webhooks:
    """Makes one account's requests, and records each with its response."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        auth_token: str,
        journal: Journal,
        faults: Faults = NO_FAULTS,
    ) -> None:
        self._session = session
        self._validator = RequestValidator(auth_token)
        self._journal = journal
        self._faults = faults

    def signature_headers(
        self, url: str, parameters: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Return the header that proves that the carrier sent the request; faults may break or omit
        it.
        """
        if self._faults.signature == "none":
            return {}
        signature = self._validator.compute_signature(url, dict(parameters or {}))
        if self._faults.signature == "wrong":
            signature = signature[::-1]
        return {"X-Twilio-Signature": signature}

    async def request(
        self,
        purpose: str,
        url: str,
        parameters: Mapping[str, str],
        *,
        method: str = "POST",
    ) -> Answer:
        """Return the response, whatever its status.

        :raises WebhookError: there was no response within 15 seconds and two attempts.
        """
        begun = time.monotonic()
        self._journal.add("request", purpose=purpose, url=url, parameters=dict(parameters))
        try:
            async with asyncio.timeout(TOTAL_TIMEOUT_S):
                answer = await self._attempt_twice(purpose, url, parameters, method)
        except aiohttp.ClientError as problem:
            error = WebhookError(11205, f"{url} cannot be reached: {problem}")
        except TimeoutError:
            error = WebhookError(11200, f"{url} did not answer within {TOTAL_TIMEOUT_S:.0f} s")
        else:
            self._journal.add(
                "response",
                purpose=purpose,
                status=answer.status,
                milliseconds=round((time.monotonic() - begun) * 1000),
                body=answer.body,
            )
            return answer
        self._journal.add("no-response", purpose=purpose, code=error.code, message=error.message)
        raise error

    async def _attempt_twice(
        self, purpose: str, url: str, parameters: Mapping[str, str], method: str
    ) -> Answer:
        token = secrets.token_hex(16)
        try:
            answer = await self._attempt(url, parameters, method, token)
            if purpose not in self._faults.answer_lost:
                return answer
        except aiohttp.ClientConnectionError:
            pass
        return await self._attempt(url, parameters, method, token)

    async def _attempt(
        self, url: str, parameters: Mapping[str, str], method: str, token: str
    ) -> Answer:
        address = url.partition("#")[0]
        request: dict[str, Any] = {}
        if method.upper() == "GET":
            glue = "&" if urlsplit(address).query else "?"
            address += glue + urlencode(parameters)
            headers = self.signature_headers(address)
        else:
            request["data"] = dict(parameters)
            headers = self.signature_headers(address, parameters)
        headers |= {"I-Twilio-Idempotency-Token": token, "User-Agent": "TwilioProxy/1.1"}
        async with self._session.request(
            method.upper(),
            URL(address, encoded=True),  # as it was signed: no further quoting
            headers=headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_TIMEOUT_S),
            **request,
        ) as response:
            body = await body_of(response, _LARGEST_ANSWER)
            return Answer(response.status, response.content_type, body.decode(errors="replace"))
