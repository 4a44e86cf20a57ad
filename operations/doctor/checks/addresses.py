"""Checks of the public URLs: name, certificate, and what a proxy makes of requests to them."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

from django.conf import settings

from core import self_check
from core.engine_urls import VOICE_PATH
from core.version import VERSION
from operations.doctor.checks.clock import CLOCK_REMEDY, MOST_OFF_S
from operations.doctor.checks.machine import FEWEST_FILES, FILES_REMEDY
from operations.doctor.findings import Check, Finding, Options, failed, ok, skipped, warning
from operations.doctor.network import (
    UPGRADED,
    NoResponse,
    Place,
    Unreachable,
    addresses_of,
    certificate_of,
    connect,
    first_message,
    request,
)
from telephony.models import Process

PUBLIC, ENGINE, MEDIA = "PUBLIC_URL", "ENGINE_URL", "MEDIA_URL"
_RENEW_WITHIN_DAYS = 14
# An address for documentation (RFC 5737): no client has it.
_FORGED = "203.0.113.77"
# Statuses by which proxies say that nothing listens behind them.
_NOBODY_BEHIND = (502, 503, 504)


def _url(name: str) -> str:
    urls = {
        PUBLIC: settings.PUBLIC_URL,
        ENGINE: settings.ENGINE_URL + VOICE_PATH,
        MEDIA: settings.MEDIA_STREAM_URL,
    }
    return urls[name]


def _address(name: str, options: Options) -> Iterable[Finding]:
    place = Place.of(_url(name))
    try:
        addresses = addresses_of(place)
        connect(place).close()
    except Unreachable as error:
        yield failed(
            f"{place} {error}.",
            f"Correct the URL, or the DNS record of {place.host}. It must lead to your proxy, "
            "which must be running, and no firewall may keep others out. If it works from other "
            "networks, run the doctor there.",
        )
        return
    inner = [address for address in addresses if not ip_address(address.split("%")[0]).is_global]
    if inner:
        yield warning(
            f"Seen from here, {place.host} has the address {inner[0]}, which is not public.",
            "Fine if your network resolves the name differently from the internet. Otherwise "
            "correct the DNS record: Twilio and your customers cannot connect.",
        )
    else:
        yield ok(f"{place} accepts connections, at {', '.join(addresses)}.")


ADDRESS = Check(
    "address",
    "Address",
    "Whether the host of each public URL has an address and accepts connections.",
    _address,
    subjects=(PUBLIC, ENGINE, MEDIA),
)


def _certificate(name: str, options: Options) -> Iterable[Finding]:
    place = Place.of(_url(name))
    if not place.is_encrypted:
        yield skipped(f"{name} is not encrypted.")
        return
    try:
        certificate = certificate_of(place)
    except Unreachable:
        yield skipped(f"There is no connection to {place}: see its address.")
    except ssl.SSLCertVerificationError as error:
        yield failed(*_about_invalid(error, place))
    except ssl.SSLError as error:
        yield failed(
            f"{place} does not speak TLS ({error.reason or 'no reason'}).",
            "Let the proxy terminate TLS on this port, with a certificate for the host.",
        )
    else:
        days = _days_left(certificate)
        if days < _RENEW_WITHIN_DAYS:
            yield warning(
                f"The certificate of {place.host} expires in {days} days.",
                "Renew it now, and find out why that does not happen by itself: see the log of "
                "Caddy or certbot. When it expires, calls fail.",
            )
        else:
            yield ok(f"The certificate of {place.host} is valid for another {days} days.")


# OpenSSL's codes.
_NOT_YET_VALID, _EXPIRED, _SELF_SIGNED, _SELF_SIGNED_CHAIN = 9, 10, 18, 19
_NO_ISSUER, _NO_ISSUER_OF_LEAF, _OTHER_HOST, _OTHER_ADDRESS = 20, 21, 62, 64


def _about_invalid(error: ssl.SSLCertVerificationError, place: Place) -> tuple[str, str]:
    """Return what is wrong with the certificate, and what to do."""
    code, host = error.verify_code, place.host
    if code == _EXPIRED:
        return (
            f"The certificate of {host} has expired.",
            "Renew it, and find out why that did not happen by itself: see the log of Caddy or "
            "certbot. Reload the proxy if the file on disk is newer.",
        )
    if code == _NOT_YET_VALID:
        return (
            f"The certificate of {host} is not valid yet.",
            "Correct this machine's clock, or wait until the certificate is valid.",
        )
    if code in (_OTHER_HOST, _OTHER_ADDRESS):
        return (
            f"The certificate at {place} is for another name than {host}.",
            f"Get one that includes {host}, and let the proxy use it for this name.",
        )
    if code in (_SELF_SIGNED, _SELF_SIGNED_CHAIN):
        return (
            f"The certificate of {host} is self-signed: Twilio refuses it.",
            "Get one from a public authority such as Let's Encrypt.",
        )
    if code in (_NO_ISSUER, _NO_ISSUER_OF_LEAF):
        return (
            f"The certificate of {host} comes without its chain, or from an unknown authority.",
            "Let the proxy serve the whole chain (fullchain.pem, not cert.pem), from a public "
            "authority.",
        )
    return (
        f"The certificate of {host} is not valid ({error.verify_message}).",
        "Replace it, and reload the proxy.",
    )


def _days_left(certificate: dict[str, Any]) -> int:
    until = datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)
    return (until - datetime.now(UTC)).days


CERTIFICATE = Check(
    "certificate",
    "Certificate",
    "Whether each public URL has a certificate for its name, with its chain, and when it expires.",
    _certificate,
    subjects=(PUBLIC, ENGINE, MEDIA),
)


def _asked(name: str, **headers: str) -> dict[str, Any] | None:
    """Return the facts of the process behind a URL, or None if it is none of ours.

    Raises what :func:`request` raises.
    """
    challenge = self_check.new_challenge()
    response = request(_url(name), "POST", {self_check.HEADER: challenge, **headers}, b"")
    return self_check.read_answer(response.body, challenge)


def _web(name: str, options: Options) -> Iterable[Finding]:
    try:
        facts = _asked(name)
        page = request(_url(name) + "/")
    except (Unreachable, ssl.SSLError) as error:
        yield from _no_response(name, error)
        return
    if facts is None:
        yield _about_stranger(_url(name), page.status, "web process", "PORT")
        return
    yield ok(f"It reaches a process of kind {facts['process']!r} of this installation.")
    yield from _about(facts)
    if page.status >= 400:
        yield failed(
            f"{_url(name)}/ returns status {page.status}.",
            "Correct ALLOWED_HOSTS, which must include the host of PUBLIC_URL, or what the "
            "process's log names.",
        )


WEB = Check(
    "web",
    "Pages",
    "Whether `PUBLIC_URL` reaches a process of this installation, of this release.",
    _web,
    subjects=(PUBLIC,),
    needs=("SECRET_KEY",),
)


def _voice(name: str, options: Options) -> Iterable[Finding]:
    url = _url(name)
    try:
        facts = _asked(name)
        response = request(url, "POST", {"Content-Type": "application/x-www-form-urlencoded"}, b"")
    except (Unreachable, ssl.SSLError) as error:
        yield from _no_response(name, error)
        return
    if facts is None:
        yield _about_stranger(url, response.status, "engine", "PORT")
        return
    if facts["process"] != "engine":
        yield failed(
            f"{url} reaches a process of kind {facts['process']!r}, not an engine.",
            "Let the proxy route /voice, and everything below it, to the engines.",
        )
    elif response.status != 400 or b"CallSid is missing" not in response.body:
        yield failed(
            f"{url} returns status {response.status} to a POST without a CallSid, instead of 400.",
            "Let the proxy pass on every POST to /voice and below it unchanged, without a sign-in, "
            "a redirect or a cache.",
        )
    else:
        yield ok(f"Twilio's requests to {url} reach an engine of this installation.")
    yield from _about(facts)


VOICE = Check(
    "voice",
    "Twilio's webhook",
    "Whether `ENGINE_URL` with `/voice` reaches an engine of this installation.",
    _voice,
    subjects=(ENGINE,),
    needs=("SECRET_KEY",),
)


def _about_stranger(url: str, status: int, kind: str, port: str) -> Finding:
    """Say that a response did not come from a process of ours."""
    if status in _NOBODY_BEHIND:
        return failed(
            f"{url} returns status {status}: the proxy finds no {kind}.",
            f"Start one, and let the proxy route {url} to its {port}. The proxy's log says what it "
            "tries.",
        )
    return failed(
        f"What responds at {url} (status {status}) is no {kind} of this installation.",
        f"Let the proxy route {url} to the {port} of this installation's processes. If it does, "
        "they have another SECRET_KEY: give every process the same environment, and restart them.",
    )


def _no_response(name: str, error: Exception) -> Iterable[Finding]:
    place = Place.of(_url(name))
    if isinstance(error, ssl.SSLError):
        yield skipped(f"{place} does not speak TLS: see its certificate.")
    elif isinstance(error, NoResponse):
        yield failed(
            f"{place} {error}.",
            "The proxy accepts connections, but nothing behind it responds. Look at its log, and "
            "at the log of the process that it should reach.",
        )
    else:
        yield skipped(f"There is no connection to {place}: see its address.")


def _about(facts: dict[str, Any]) -> Iterable[Finding]:
    """Say what is wrong with the process that gave the facts."""
    if facts["version"] != VERSION:
        yield warning(
            f"The process there has version {facts['version']}, and this is {VERSION}.",
            "Fine during a deployment. Otherwise restart it, or run the doctor of its release.",
        )
    ahead = facts["time"] - time.time()
    if abs(ahead) > MOST_OFF_S:
        yield failed(
            f"The clock of the process there is {abs(ahead):.0f} seconds "
            f"{'ahead of' if ahead > 0 else 'behind'} this machine's.",
            CLOCK_REMEDY,
        )


def _media(name: str, options: Options) -> Iterable[Finding]:
    url, challenge = _url(name), self_check.new_challenge()
    headers = {self_check.HEADER: challenge, "X-Forwarded-For": _FORGED}
    try:
        response = first_message(url, headers)
    except (Unreachable, ssl.SSLError) as error:
        yield from _no_response(name, error)
        return
    facts = self_check.read_answer(response.body, challenge)
    if response.status != UPGRADED and response.status not in _NOBODY_BEHIND:
        yield failed(
            f"{url} returns status {response.status} instead of opening a WebSocket.",
            "Let the proxy route the path of MEDIA_URL to the MEDIA_PORT of the engines (PORT + 1, "
            "not PORT), over HTTP/1.1, and pass on the headers Upgrade and Connection.",
        )
        return
    if facts is None:
        yield _about_stranger(url, response.status, "engine", "MEDIA_PORT")
        return
    yield ok(f"{url} opens a WebSocket to an engine of this installation.")
    yield from _about(facts)
    yield from _about_forwarded(facts["forwarded_for"], facts["client"])
    if facts["files"] < FEWEST_FILES:
        yield failed(
            f"The engine may open {facts['files']} files, and a call takes two.", FILES_REMEDY
        )
    if settings.ENVIRONMENT.is_good("DATABASE_URL") and not _is_known(facts["engine_id"]):
        yield failed(
            "The engine there does not write its heartbeat into this database.",
            "Give the engine and this shell the same DATABASE_URL.",
        )


def _is_known(engine_id: str) -> bool:
    """Return True if the engine is in the database, or if nobody can say."""
    try:
        return Process.objects.filter(pk=engine_id).exists()
    except Exception:
        return True


SOCKET = Check(
    "media",
    "Media socket",
    "Whether `MEDIA_URL` opens a WebSocket to an engine of this installation.",
    _media,
    subjects=(MEDIA,),
    needs=("SECRET_KEY",),
)


def _proxy(name: str, options: Options) -> Iterable[Finding]:
    forged = {"X-Forwarded-For": _FORGED, "X-Forwarded-Proto": "http"}
    try:
        plain, facts = _asked(name), _asked(name, **forged)
    except (Unreachable, ssl.SSLError):
        plain = facts = None
    if plain is None or facts is None:
        yield skipped("It needs a process of this installation behind the URL: see above.")
        return
    found = list(_about_forwarded(facts["forwarded_for"], facts["client"]))
    found += _about_host(plain["host"], name)
    if Place.of(_url(name)).is_encrypted:
        found += _about_scheme(plain["is_secure"], facts["is_secure"])
    yield from found
    if not found:
        yield ok("It passes on the host, and replaces or extends forged headers.")


def _about_forwarded(forwarded_for: str, client: str) -> Iterable[Finding]:
    """Compare what arrived of a forged X-Forwarded-For with ``TRUSTED_PROXIES``."""
    trusted = settings.TRUSTED_PROXIES
    entries = [entry.strip() for entry in forwarded_for.split(",") if entry.strip()]
    passes_on = _FORGED in entries
    added = len(entries) - entries.index(_FORGED) - 1 if passes_on else len(entries)
    if client == _FORGED:
        yield failed(
            f"A client can forge its address: {_proxies(added)} appended to X-Forwarded-For, and "
            f"TRUSTED_PROXIES is {trusted}.",
            "Let the proxy append its client's address to X-Forwarded-For ($proxy_add_x_forwarded_"
            f"for in nginx), or set TRUSTED_PROXIES to {added}."
            if added
            else "Let the proxy append its client's address to X-Forwarded-For: "
            "$proxy_add_x_forwarded_for in nginx; Caddy does it by itself.",
        )
    elif not added and trusted:
        yield failed(
            "X-Forwarded-For does not arrive: all clients look like one, and share its limits on "
            "sign-ins.",
            "Let the proxy append its client's address to X-Forwarded-For.",
        )
    elif added > trusted:
        yield failed(
            f"All clients look like one, your own proxy: {_proxies(added)} appended to "
            f"X-Forwarded-For, and TRUSTED_PROXIES is {trusted}.",
            f"Set TRUSTED_PROXIES to {added}, if all of them are your own.",
        )


def _proxies(count: int) -> str:
    return {0: "no proxy", 1: "1 proxy"}.get(count, f"{count} proxies")


def _about_scheme(is_secure: bool, is_secure_if_forged: bool) -> Iterable[Finding]:
    if not is_secure:
        yield failed(
            "Encrypted requests arrive as unencrypted ones, so every page redirects to itself.",
            "Let the proxy set X-Forwarded-Proto to the scheme of the request: proxy_set_header "
            "X-Forwarded-Proto $scheme in nginx.",
        )
    elif not is_secure_if_forged:
        yield failed(
            "The proxy passes on the client's X-Forwarded-Proto, so unencrypted requests can pass "
            "as encrypted.",
            "Let the proxy replace X-Forwarded-Proto with the scheme of the request: "
            "proxy_set_header X-Forwarded-Proto $scheme in nginx.",
        )


def _about_host(host: str, name: str) -> Iterable[Finding]:
    expected = Place.of(_url(name)).url.netloc
    if host != expected:
        yield failed(
            f"Requests for {expected} arrive as requests for {host!r}: forms, and Twilio's "
            "signatures, are refused.",
            "Let the proxy pass on the Host of the request: proxy_set_header Host $http_host in "
            "nginx.",
        )


PROXY = Check(
    "proxy",
    "Proxy",
    "Whether the proxy passes on `Host`, sets `X-Forwarded-Proto` and appends to "
    "`X-Forwarded-For`, and whether a client can forge them; `TRUSTED_PROXIES`.",
    _proxy,
    subjects=(PUBLIC, ENGINE),
    needs=("SECRET_KEY", "TRUSTED_PROXIES"),
)
