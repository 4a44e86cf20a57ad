"""What compose.yaml starts, from the image, in a network of its own; and a call through it.

Each service has an address of its own, by the names that Compose gives them, and its commands and
variables are those of compose.yaml. PostgreSQL is the embedded one and Caddy is Debian's, with
certificates of its internal authority. Twilio, OpenAI, Stripe and the customer's backend are
stand-ins with TLS of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import requests
import yaml

from devtools.attack import namespace
from devtools.attack.certificates import AUTHORITY, server_context
from devtools.attack.internet import Internet
from devtools.attack.session import end_in_time
from devtools.attack.tls_proxy import TlsProxy
from devtools.image.container import Container, Image
from devtools.postgres import server_of
from devtools.processes import ROOT, Failed

DOMAIN = "app.example.com"
NUMBER = "+14152000001"
_STAND_INS = ("backend.example.com", "twilio.example.com", "openai.example.com")
_SANDBOX_PORT = 9002
_ADDRESSES = {
    "postgres": "127.0.1.1",
    "web": "127.0.1.2",
    "engine-1": "127.0.1.3",
    "engine-2": "127.0.1.4",
    "worker": "127.0.1.5",
}
_HEALTH_CHECK = ("python", "deploy/health.py")
_READY_WITHIN_S = 90.0
# dj-stripe's 62 tables alone take most of a minute.
_MIGRATED_WITHIN_S = 900.0

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]


def main() -> None:
    try:
        asyncio.run(_play())
    except asyncio.CancelledError:
        sys.exit(143)
    except (Failed, requests.RequestException) as failure:
        sys.exit(f"bin/image: {failure}")


async def _play() -> None:
    end_in_time()
    folder = Path(os.environ["ATTACK_FOLDER"])
    names = [(_ADDRESSES[name], name) for name in _ADDRESSES]
    names += [(namespace.BACKEND, host) for host in (*_STAND_INS, "api.stripe.com")]
    namespace.set_up([*names, (namespace.PRODUCT, DOMAIN)], folder)
    internet = Internet()
    ports = await internet.start()
    proxy = TlsProxy(
        server_context(folder),
        {**dict.fromkeys(_STAND_INS, _SANDBOX_PORT), "api.stripe.com": ports["stripe"]},
    )
    await proxy.start(address=namespace.BACKEND, traps=())
    try:
        await asyncio.to_thread(_run, folder)
    finally:
        await proxy.close()
        await internet.close()


def _run(folder: Path) -> None:
    image = _image(folder)
    environment = _environment(folder)
    with ExitStack() as stack:
        stack.enter_context(_postgres(environment["POSTGRES_PASSWORD"]))
        _migrate(image, environment)
        containers = {
            name: _container(stack, image, name, environment)
            for name in ("web", "engine-1", "engine-2", "worker")
        }
        for name, container in containers.items():
            _wait(f"{name} healthy", partial(container.is_healthy, _HEALTH_CHECK))
        for name in ("web", "engine-1", "engine-2"):
            _wait(f"{name} ready", partial(_is_ready, name))
        trusted = stack.enter_context(_caddy(folder))
        stack.enter_context(_sandbox(environment, trusted))
        _look_at_a_page(trusted)
        _call(image, environment, trusted)
        _stop(containers)


def _is_ready(name: str) -> bool:
    return requests.get(f"http://{_ADDRESSES[name]}:8000/readyz", timeout=5).ok


def _image(folder: Path) -> Image:
    root = Path(os.environ["IMAGE_ROOT"])
    for name in ("hosts", "resolv.conf"):  # whatever runs containers makes these
        (root / "etc" / name).touch()
    prefix = "IMAGE_ENV_"
    variables = {
        name.removeprefix(prefix): value
        for name, value in os.environ.items()
        if name.startswith(prefix)
    }
    return Image(root, folder, variables, Path(os.environ["ATTACK_LOGS"]))


def _environment(folder: Path) -> dict[str, str]:
    """Return the variables of ``bin/new-env``, with our stand-ins."""
    path = folder / "env"
    subprocess.run(
        [ROOT / "bin" / "new-env", DOMAIN, "--file", path],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    found = re.findall(r"^(\w+)=(.+)$", path.read_text(), re.MULTILINE)
    return dict(found) | {
        "STRIPE_SECRET_KEY": f"sk_test_{secrets.token_hex(24)}",
        "TWILIO_API_URL": "https://twilio.example.com/twilio",
        "OPENAI_REALTIME_URL": "wss://openai.example.com/openai/v1/realtime",
    }


def _variables(name: str, environment: dict[str, str]) -> dict[str, str]:
    """Return what compose.yaml gives a service; each has an address instead of a network."""
    own = {key: str(value) for key, value in COMPOSE[name]["environment"].items()}
    address = _ADDRESSES.get(name, "127.0.0.1")
    return {**environment, **own, "HOST": address, "METRICS_HOST": address}


def _container(stack: ExitStack, image: Image, name: str, environment: dict[str, str]) -> Container:
    container = image.run(name, COMPOSE[name]["command"], **_variables(name, environment))
    stack.callback(container.kill)
    return container


def _migrate(image: Image, environment: dict[str, str]) -> None:
    """Migrate twice at once, and again."""
    began = time.monotonic()
    variables = _variables("migrate", environment)
    together = [image.run(f"migrate-{number}", ["migrate"], **variables) for number in (1, 2)]
    try:
        for container in together:
            container.succeeds(_MIGRATED_WITHIN_S)
    finally:
        for container in together:
            container.kill()
    image.run("migrate-3", ["migrate"], **variables).succeeds(60)
    _say("migrated, twice at once and once more", began)


@contextmanager
def _postgres(password: str) -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        base = Path(folder)
        base.chmod(0o755)  # the server has another user
        server = server_of(base)
        server.base.mkdir(parents=True, exist_ok=True)
        server.start()
        socket = server.socket_folder()
        with psycopg.connect(f"postgresql://postgres@/postgres?host={socket}") as connection:
            connection.autocommit = True
            connection.execute(f"CREATE ROLE switchhook LOGIN PASSWORD '{password}'")
            connection.execute("CREATE DATABASE switchhook OWNER switchhook")
        server.stop()
        allowed = server.data / "pg_hba.conf"
        allowed.write_text("local all all trust\nhost all all 127.0.0.0/8 scram-sha-256\n")
        options = f"-h {_ADDRESSES['postgres']} -k {server.data} -c fsync=off"
        server.run("pg_ctl", "start", "--wait", f"--log={server.log}", f"--options={options}")
        try:
            yield
        finally:
            server.stop()
            if server.base != base:
                shutil.rmtree(server.base, ignore_errors=True)


@contextmanager
def _caddy(folder: Path) -> Iterator[str]:
    """Run Debian's Caddy; yield the authorities that a client of this network trusts."""
    known = COMPOSE["caddy"]["environment"].items()
    own = {name: text for name, text in known if "OPTIONS" not in name}  # those are for newer ones
    options = f"local_certs\nskip_install_trust\nadmin off\ndefault_bind {namespace.PRODUCT}"
    process = subprocess.Popen(
        [
            shutil.which("caddy") or "caddy",
            "run",
            "--config",
            ROOT / "deploy/Caddyfile",
            "--adapter",
            "caddyfile",
        ],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "XDG_DATA_HOME": str(folder / "caddy"),
            **own,
            "PUBLIC_URL": f"https://{DOMAIN}",
            "CADDY_OPTIONS": options,
        },
        stdin=subprocess.DEVNULL,
        stdout=(log := (Path(os.environ["ATTACK_LOGS"]) / "caddy.log").open("wb")),
        stderr=log,
    )
    try:
        certificate = folder / "caddy/caddy/pki/authorities/local/root.crt"
        _wait("caddy's certificate", certificate.exists)
        authorities = folder / "trusted.pem"
        authorities.write_text((folder / AUTHORITY).read_text() + certificate.read_text())
        trusted = str(authorities)
        _wait("caddy", lambda: requests.get(_url("/"), verify=trusted, timeout=5).ok)
        yield trusted
    finally:
        process.terminate()
        process.wait(20)
        log.close()


def _of_sandbox(environment: dict[str, str], trusted: str) -> dict[str, str]:
    """Return the variables of the stand-ins and of who calls, who are no part of the image."""
    return {
        "PATH": os.environ["PATH"],
        "DEBUG": "1",
        "SANDBOX": "1",
        "SECRET_KEY": secrets.token_urlsafe(50),
        "DATABASE_URL": environment["DATABASE_URL"],
        "PUBLIC_URL": environment["PUBLIC_URL"],
        "ENGINE_URL": environment["ENGINE_URL"],
        "SANDBOX_PORT": str(_SANDBOX_PORT),
        "SSL_CERT_FILE": trusted,
        "REQUESTS_CA_BUNDLE": trusted,
    }


@contextmanager
def _sandbox(environment: dict[str, str], trusted: str) -> Iterator[None]:
    with (Path(os.environ["ATTACK_LOGS"]) / "sandbox.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "sandbox"],
            cwd=ROOT,
            env=_of_sandbox(environment, trusted),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            _wait("the sandbox", lambda: requests.get(_of_backend("callbacks"), timeout=5).ok)
            yield
        finally:
            process.terminate()
            process.wait(20)


def _look_at_a_page(trusted: str) -> None:
    """A page comes with its styles, which are kept for a year; HTTP leads to HTTPS."""
    page = requests.get(_url("/"), verify=trusted, timeout=10)
    styles = re.findall(r'href="(/static/[^"]+\.css)"', page.text)
    _expect(bool(styles), "The page has no style.")
    for style in styles:
        answer = requests.get(_url(style), verify=trusted, timeout=10)
        _expect(
            answer.ok and "immutable" in answer.headers["Cache-Control"], f"{style} is not kept."
        )
        _expect(answer.headers.get("Content-Encoding") == "gzip", f"{style} is not compressed.")
    plain = requests.get(f"http://{DOMAIN}/", allow_redirects=False, timeout=10)
    _expect(plain.headers.get("Location") == _url("/"), "HTTP does not lead to HTTPS.")


def _call(image: Image, environment: dict[str, str], trusted: str) -> None:
    """Register as a customer does, and be called."""
    began = time.monotonic()
    email = "you@company.com"
    registered = _ask("register", trusted, "", email=email, password=secrets.token_urlsafe(20))
    image.run("activate", ["activate", email], **_variables("web", environment)).succeeds(60)
    backend = "https://backend.example.com/backend/calls"
    _ask(
        "number",
        trusted,
        registered["apiKey"],
        phoneNumber=NUMBER,
        onCallStartUrl=f"{backend}/start",
        onCallEndUrl=f"{backend}/end",
        onErrorUrl=f"{backend}/error",
    )
    called = subprocess.run(
        [
            *(sys.executable, "manage.py", "simulate_call", "--number", NUMBER),
            *("--say", "Where is my order A-1001?", "--say", "Thank you, goodbye."),
        ],
        cwd=ROOT,
        env=_of_sandbox(environment, trusted),
        capture_output=True,
        text=True,
        check=False,
    )
    _expect(called.returncode == 0, f"The call failed: {called.stdout[-1500:]}{called.stderr}")
    _wait("onCallEnd", lambda: "onCallEnd" in _callbacks())
    _expect("onToolCall" in _callbacks(), "The backend's tool was not called.")
    _say("a call through Caddy's TLS, with a tool and onCallEnd", began)


def _stop(containers: dict[str, Container]) -> None:
    """End each process as Compose does: it ends by itself, with status 0."""
    began = time.monotonic()
    for container in containers.values():
        container.stop(within=30)
    _say("each process ended by itself", began)


def _ask(what: str, trusted: str, key: str, **body: str) -> dict[str, Any]:
    paths = {"register": "/api/auth/register", "number": "/api/phone-numbers"}
    answer = requests.post(
        _url(paths[what]),
        json=body,
        headers={"Authorization": f"Bearer {key}"} if key else {},
        verify=trusted,
        timeout=30,
    )
    _expect(answer.status_code in (200, 201), f"{paths[what]}: {answer.status_code} {answer.text}")
    return dict(answer.json())


def _callbacks() -> list[str]:
    answer = requests.get(_of_backend("callbacks"), timeout=10).json()
    return [each["callback"] for each in answer["callbacks"]]


def _url(path: str) -> str:
    return f"https://{DOMAIN}{path}"


def _of_backend(path: str) -> str:
    return f"http://127.0.0.1:{_SANDBOX_PORT}/backend/{path}"


def _expect(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise Failed(otherwise)


def _wait(what: str, is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    while True:
        with contextlib.suppress(requests.RequestException):
            if is_so():
                return
        if time.monotonic() > deadline:
            raise Failed(
                f"Waited {_READY_WITHIN_S:.0f} s for {what}. See {os.environ['ATTACK_LOGS']}."
            )
        time.sleep(0.2)


def _say(what: str, began: float) -> None:
    sys.stdout.write(f"  {what}: {time.monotonic() - began:.0f} s\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
