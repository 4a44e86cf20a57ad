"""Bodies of responses, up to a limit."""

from __future__ import annotations

import aiohttp


async def body_of(response: aiohttp.ClientResponse, most: int) -> bytes:
    """Return the first ``most`` bytes of a body, in however many pieces it arrives."""
    body = b""
    while len(body) < most and (piece := await response.content.read(most - len(body))):
        body += piece
    return body
