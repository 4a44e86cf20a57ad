"""A mail server that keeps what it receives."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from email import message_from_bytes, policy
from typing import Any


@dataclass(frozen=True, slots=True)
class Mail:
    to: str
    raw: bytes

    @property
    def text(self) -> str:
        """Return the decoded subject and body."""
        message: Any = message_from_bytes(self.raw, policy=policy.default)
        body = message.get_body(("plain", "html"))
        return f"{message['Subject']}\n\n{body.get_content() if body else ''}"


class Mailbox:
    def __init__(self) -> None:
        self.mails: list[Mail] = []
        self._came = asyncio.Event()

    async def start(self) -> int:
        """Listen on a free port of 127.0.0.1; return it."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    def to(self, address: str) -> list[Mail]:
        return [mail for mail in self.mails if mail.to.lower() == address.lower()]

    async def wait_for(self, address: str, count: int = 1, *, within: float = 20.0) -> list[Mail]:
        """Return the emails to an address once there are ``count``, or after the timeout."""
        try:
            async with asyncio.timeout(within):
                while len(self.to(address)) < count:
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            pass
        return self.to(address)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mailbox\r\n")
        recipients: list[str] = []
        while line := await reader.readline():
            command = line.strip().upper()
            if command.startswith(b"EHLO"):
                writer.write(b"250-mailbox\r\n250 8BITMIME\r\n")
            elif command.startswith(b"RCPT TO:"):
                recipients.append(line.decode().partition("<")[2].partition(">")[0])
                writer.write(b"250 ok\r\n")
            elif command == b"DATA":
                writer.write(b"354 go on\r\n")
                raw = await reader.readuntil(b"\r\n.\r\n")
                self._keep(recipients, raw[:-5].replace(b"\r\n..", b"\r\n."))
                recipients = []
                writer.write(b"250 ok\r\n")
            elif command == b"QUIT":
                writer.write(b"221 bye\r\n")
                break
            else:
                writer.write(b"250 ok\r\n")
        writer.close()

    def _keep(self, recipients: list[str], raw: bytes) -> None:
        self.mails += [Mail(to, raw) for to in recipients]
        self._came.set()
