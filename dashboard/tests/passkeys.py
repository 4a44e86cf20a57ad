"""A passkey without a browser: it answers what a page asks, honestly or not."""

from __future__ import annotations

import hashlib
import json
import secrets
from html import unescape
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from fido2.cose import ES256
from fido2.utils import websafe_decode, websafe_encode
from fido2.webauthn import AttestationObject, AttestedCredentialData, AuthenticatorData

ORIGIN = "https://switchhook.example"
_PRESENT, _VERIFIED = AuthenticatorData.FLAG.UP, AuthenticatorData.FLAG.UV


def options_in(html: str) -> dict[str, Any]:
    """Return what a page's script has the browser do."""
    _, _, after = html.partition('data-options="')
    found: dict[str, Any] = json.loads(unescape(after.partition('"')[0]))["publicKey"]
    return found


class Passkey:
    def __init__(self, host: str = "switchhook.example") -> None:
        self.id = secrets.token_bytes(16)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._host = hashlib.sha256(host.encode()).digest()

    def made(self, options: dict[str, Any], origin: str = ORIGIN) -> str:
        """Return what a browser says of a new passkey."""
        public = ES256.from_cryptography_key(self._key.public_key())
        data = AuthenticatorData.create(
            self._host,
            _PRESENT | _VERIFIED | AuthenticatorData.FLAG.AT,
            0,
            AttestedCredentialData.create(b"\0" * 16, self.id, public),
        )
        response = {
            "clientDataJSON": self._client_data("webauthn.create", options, origin),
            "attestationObject": websafe_encode(AttestationObject.create("none", data, {})),
        }
        return self._credential(response)

    def answer(self, options: dict[str, Any], origin: str = ORIGIN, **other: str) -> str:
        """Return what a browser says of one that it has; ``other`` is what it lies about."""
        data = AuthenticatorData.create(self._host, _PRESENT | _VERIFIED, 1)
        client_data = self._client_data("webauthn.get", options, origin)
        signed = data + hashlib.sha256(websafe_decode(client_data)).digest()
        response = {
            "clientDataJSON": client_data,
            "authenticatorData": websafe_encode(data),
            "signature": websafe_encode(self._key.sign(signed, ec.ECDSA(SHA256()))),
        }
        return self._credential(response | other)

    def _client_data(self, kind: str, options: dict[str, Any], origin: str) -> str:
        said = {"type": kind, "challenge": options["challenge"], "origin": origin}
        return websafe_encode(json.dumps(said).encode())

    def _credential(self, response: dict[str, str]) -> str:
        name = websafe_encode(self.id)
        said = {"id": name, "rawId": name, "type": "public-key", "response": response}
        return json.dumps(said | {"clientExtensionResults": {}})
