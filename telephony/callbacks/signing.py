"""The two signatures of every callback."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from datetime import UTC, datetime

from standardwebhooks import Webhook


def headers(
    body: bytes, *, secrets: Sequence[str], message_id: str, now: datetime
) -> dict[str, str]:
    """Return the headers that sign ``body`` with ``whsec_…`` secrets, the current one first.

    ``webhook-*`` follow https://www.standardwebhooks.com, with one signature for each secret.
    ``X-Veevo-Signature`` is for backends of the original service: the hexadecimal HMAC-SHA256 of
    the body. Its key is the text of the current secret, including ``whsec_``.
    """
    now = now.astimezone(UTC)
    signatures = (Webhook(secret).sign(message_id, now, body.decode()) for secret in secrets)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
        "X-Veevo-Signature": hmac.new(secrets[0].encode(), body, hashlib.sha256).hexdigest(),
    }
