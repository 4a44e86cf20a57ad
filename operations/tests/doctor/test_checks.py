"""The doctor finds what is wrong with an installation, one thing at a time, and says what to do."""

from __future__ import annotations

import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest
import stripe
from django.core.wsgi import get_wsgi_application
from django.db import connection, connections
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from accounts.models import Account
from billing.tests.setting_up import set_up_stripe
from billing.tests.watched import WatchedStripe
from core.queue.connection import DIRECT
from core.replica import REPLICA
from core.tests.bouncer import pgbouncer
from core.tests.long import only_in_all
from core.version import VERSION
from devtools.tests.own_postgres import OwnPostgres, own_postgres
from operations.doctor.checks import CHECKS
from operations.doctor.checks.processes import PROCESSES
from operations.doctor.findings import Finding, Options, Status
from operations.tests.doctor.stand_ins import (
    ENGINE_ID,
    Authority,
    MailServer,
    Site,
    SocketProxy,
    appends_address,
    media_socket,
    sets_scheme,
    static,
)
from telephony.models import Process
from telephony.processes import Identity, process_beat

pytestmark = pytest.mark.django_db

OTHER_KEY = "another-" + "y" * 50


class Installation:
    """One in which all is well: what runs, and where."""

    def __init__(self, authority: Authority, stack: ExitStack) -> None:
        self.authority = authority
        product = get_wsgi_application()
        here = authority.context()
        self.web = stack.enter_context(Site(product, here))
        self.engine = stack.enter_context(Site(product, here))
        self.twilio = stack.enter_context(Site(static("401 Unauthorized"), here))
        self.openai = stack.enter_context(Site(static("404 Not Found"), here))
        self.mail = stack.enter_context(MailServer(here))
        port = stack.enter_context(media_socket())
        self.media = stack.enter_context(SocketProxy(here, port))

    def reset(self) -> None:
        for server in (self.web, self.engine, self.twilio, self.openai, self.media, self.mail):
            server.reset()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with ExitStack() as stack:
        yield Installation(Authority(tmp_path_factory.mktemp("certificates")), stack)


@pytest.fixture
def installation(
    servers: Installation, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Installation]:
    """The servers, each as it should be, and settings that name them."""
    monkeypatch.setenv("SSL_CERT_FILE", str(servers.authority.path))
    settings.PUBLIC_URL, settings.ENGINE_URL = servers.web.url, servers.engine.url
    settings.MEDIA_STREAM_URL = servers.media.url + "/media"
    settings.ALLOWED_HOSTS = ["localhost"]
    settings.TRUSTED_PROXIES = 1
    settings.TWILIO_API_URL = servers.twilio.url
    settings.OPENAI_REALTIME_URL = servers.openai.url.replace("https:", "wss:")
    settings.OPENAI_LIVE_URL = settings.OPENAI_REALTIME_URL
    settings.SENDS_MAIL = True
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "localhost", servers.mail.port
    settings.EMAIL_USE_TLS, settings.EMAIL_USE_SSL = True, False
    settings.EMAIL_HOST_USER, settings.EMAIL_HOST_PASSWORD = "switchhook", "a-password-of-mail"
    settings.DEFAULT_FROM_EMAIL = "Switchhook <no-reply@switchhook.example>"
    for kind in Process.Kind:
        process_beat(Identity(kind, host="one", pid=7))
    Process.objects.create(pk=ENGINE_ID, kind=Process.Kind.ENGINE, version=VERSION)
    yield servers
    servers.reset()


@pytest.fixture
def paid(monkeypatch: pytest.MonkeyPatch, installation: Installation) -> WatchedStripe:
    """Stripe, after ``setup_stripe``."""
    watched = WatchedStripe()
    monkeypatch.setattr(stripe, "default_http_client", watched)
    monkeypatch.setattr(stripe, "max_network_retries", 0)
    set_up_stripe()
    return watched


@pytest.fixture
def pooler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """A function that puts a PgBouncer with a pool mode in front of the database."""
    if not (program := shutil.which("pgbouncer")):
        pytest.skip("pgbouncer is not installed")
    with ExitStack() as stack:

        def start(mode: str) -> None:
            port = stack.enter_context(pgbouncer(program, tmp_path, mode))
            in_front = {"HOST": "127.0.0.1", "PORT": str(port), "OPTIONS": {}}
            for name, value in in_front.items():
                monkeypatch.setitem(connection.settings_dict, name, value)

        yield start


class Another(Protocol):
    def __call__(self, alias: str, **change: Any) -> None: ...


@pytest.fixture
def another() -> Iterator[Another]:
    """A function that sets up another database, which differs from the default by a change."""
    added = []

    def add(alias: str, **change: Any) -> None:
        known = connection.settings_dict
        connections.settings[alias] = {**known, "OPTIONS": dict(known["OPTIONS"]), **change}
        added.append(alias)

    yield add
    for alias in added:
        del connections.settings[alias]
        del connections[alias]


def findings(key: str, subject: str = "", **processes: int) -> list[Finding]:
    [check] = [check for check in CHECKS if check.key == key]
    assert subject in check.subjects
    return list(check.run(subject, Options(processes)))


def problem(key: str, subject: str = "", **processes: int) -> Finding:
    """Return the one finding that is no good news."""
    found = findings(key, subject, **processes)
    [only] = [each for each in found if each.status in (Status.FAILED, Status.WARNING)]
    assert only.action
    return only


def assert_fails(finding: Finding, message: str, action: str) -> None:
    assert finding.status is Status.FAILED
    assert message in finding.message
    assert action in finding.action


ALL_IS_WELL = [
    (check.key, subject)
    for check in CHECKS
    for subject in check.subjects
    # DEBUG is on in tests, which has its own test.
    # Stripe and static files have theirs, too.
    if check.key not in ("settings", "names", "stripe", "django")
]


@pytest.mark.parametrize(("key", "subject"), ALL_IS_WELL)
def test_it_works(installation: Installation, key: str, subject: str) -> None:
    found = findings(key, subject)
    assert {each.status for each in found} <= {Status.OK, Status.WARNING, Status.SKIPPED}
    assert found


class TestAddresses:
    def test_a_name_without_an_address(self, installation: Installation, settings: Any) -> None:
        settings.PUBLIC_URL = "https://switchhook.invalid"
        assert_fails(problem("address", "PUBLIC_URL"), "has no address", "DNS record")
        assert [each.status for each in findings("web", "PUBLIC_URL")] == [Status.SKIPPED]

    def test_nothing_listens(self, installation: Installation, settings: Any) -> None:
        with socket.create_server(("127.0.0.1", 0)) as unused:
            port = unused.getsockname()[1]
        settings.ENGINE_URL = f"https://localhost:{port}"
        assert_fails(problem("address", "ENGINE_URL"), "Connection refused", "proxy")

    def test_an_address_that_is_not_public(self, installation: Installation) -> None:
        found = problem("address", "PUBLIC_URL")
        assert found.status is Status.WARNING
        assert "not public" in found.message

    @pytest.mark.parametrize(
        ("name", "days", "message", "action"),
        [
            ("localhost", -1, "has expired", "Renew it"),
            ("other.example", 60, "for another name than localhost", "includes localhost"),
        ],
    )
    def test_a_wrong_certificate(
        self, installation: Installation, name: str, days: int, message: str, action: str
    ) -> None:
        installation.engine.use(installation.authority.context(name, days=days))
        assert_fails(problem("certificate", "ENGINE_URL"), message, action)

    def test_a_certificate_that_expires_soon(self, installation: Installation) -> None:
        installation.web.use(installation.authority.context(days=5))
        found = problem("certificate", "PUBLIC_URL")
        assert found.status is Status.WARNING
        assert "expires in 5 days" in found.message

    def test_a_certificate_of_an_unknown_authority(
        self, installation: Installation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("SSL_CERT_FILE")
        assert_fails(problem("certificate", "PUBLIC_URL"), "without its chain", "fullchain.pem")


class TestProcesses:
    def test_a_page_of_somebody_else(self, installation: Installation) -> None:
        installation.web.app = static("200 OK", b"It works!")
        assert_fails(
            problem("web", "PUBLIC_URL"), "is no web process of this", "Let the proxy route"
        )

    def test_another_key(self, installation: Installation, settings: Any) -> None:
        """As a process with another SECRET_KEY would, the server takes us for a stranger."""
        product = installation.engine.app
        own = settings.SECRET_KEY

        def with_another_key(environ: Any, start: Any) -> Any:
            settings.SECRET_KEY = OTHER_KEY
            try:
                return product(environ, start)
            finally:
                settings.SECRET_KEY = own

        installation.engine.app = with_another_key
        assert_fails(problem("voice", "ENGINE_URL"), "is no engine of this", "SECRET_KEY")

    def test_voice_at_a_web_process(self, installation: Installation, settings: Any) -> None:
        settings.PROCESS = "web"
        found = problem("voice", "ENGINE_URL")
        assert_fails(found, "process of kind 'web', not an engine", "route /voice")

    def test_a_proxy_that_answers_twilio_itself(self, installation: Installation) -> None:
        product = installation.engine.app

        def signs_in(environ: Any, start: Any) -> Any:
            is_ours = "HTTP_X_SWITCHHOOK_CHECK" in environ
            return (product if is_ours else static("302 Found"))(environ, start)

        installation.engine.app = signs_in
        assert_fails(problem("voice", "ENGINE_URL"), "returns status 302", "without a sign-in")

    def test_hosts_that_are_not_allowed(self, installation: Installation, settings: Any) -> None:
        settings.ALLOWED_HOSTS = ["switchhook.example"]
        assert_fails(problem("web", "PUBLIC_URL"), "returns status 400", "ALLOWED_HOSTS")

    @pytest.mark.parametrize("kind", ["engine", "worker"])
    def test_none_runs(self, installation: Installation, kind: str) -> None:
        Process.objects.filter(kind=kind).delete()
        assert_fails(problem("processes", kind), "None is running", "Start one")

    def test_one_was_killed(self, installation: Installation) -> None:
        Process.objects.filter(kind="worker").update(
            last_seen_at=timezone.now() - timedelta(hours=1)
        )
        silent = [each.message for each in findings(PROCESSES.key, "worker")]
        assert "worker one:7" in silent[1]

    def test_another_release(self, installation: Installation) -> None:
        Process.objects.filter(kind="worker").update(version="0.9.0")
        assert "processes of 0.9.0" in problem("versions").message


class TestMediaSocket:
    def test_no_upgrade(self, installation: Installation, settings: Any) -> None:
        settings.MEDIA_STREAM_URL = f"{installation.web.url.replace('https', 'wss')}/media"
        found = problem("media", "MEDIA_URL")
        assert_fails(found, "instead of opening a WebSocket", "Upgrade and Connection")

    def test_no_engine_behind_the_proxy(self, installation: Installation, settings: Any) -> None:
        installation.web.app = static("502 Bad Gateway")
        settings.MEDIA_STREAM_URL = f"{installation.web.url.replace('https', 'wss')}/media"
        assert_fails(problem("media", "MEDIA_URL"), "finds no engine", "to its MEDIA_PORT")

    def test_the_wrong_path(self, installation: Installation, settings: Any) -> None:
        """The engine's own path is what follows the host in MEDIA_URL, so only a proxy is wrong."""
        settings.MEDIA_STREAM_URL = f"{installation.engine.url.replace('https', 'wss')}/other"
        assert "instead of opening a WebSocket" in problem("media", "MEDIA_URL").message

    def test_an_engine_of_another_installation(
        self, installation: Installation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It opens the socket, and says nothing: we are strangers to it."""
        monkeypatch.setattr("operations.doctor.network.RESPOND_WITHIN_S", 0.2)
        monkeypatch.setattr("core.self_check.is_ours", lambda challenge: False)
        assert_fails(problem("media", "MEDIA_URL"), "(status 101) is no engine", "SECRET_KEY")

    def test_an_engine_of_another_database(self, installation: Installation) -> None:
        Process.objects.filter(pk=ENGINE_ID).delete()
        assert_fails(problem("media", "MEDIA_URL"), "into this database", "same DATABASE_URL")

    def test_an_address_that_is_forged(self, installation: Installation) -> None:
        installation.media.appends = False
        assert_fails(problem("media", "MEDIA_URL"), "can forge its address", "append")


class TestProxy:
    def test_forged_addresses_pass(self, installation: Installation) -> None:
        installation.web.proxy = sets_scheme
        assert_fails(problem("proxy", "PUBLIC_URL"), "can forge its address", "append")

    def test_more_trust_than_proxies(self, installation: Installation, settings: Any) -> None:
        settings.TRUSTED_PROXIES = 2
        found = problem("proxy", "PUBLIC_URL")
        assert_fails(found, "1 proxy appended", "set TRUSTED_PROXIES to 1")

    def test_more_proxies_than_trust(self, installation: Installation) -> None:
        def two(environ: Any) -> None:
            sets_scheme(environ)
            appends_address(environ)
            appends_address(environ)

        installation.web.proxy = two
        assert_fails(problem("proxy", "PUBLIC_URL"), "look like one", "Set TRUSTED_PROXIES to 2")

    def test_it_drops_addresses(self, installation: Installation) -> None:
        def drops(environ: Any) -> None:
            sets_scheme(environ)
            environ.pop("HTTP_X_FORWARDED_FOR", None)

        installation.web.proxy = drops
        assert_fails(problem("proxy", "PUBLIC_URL"), "does not arrive", "append")

    def test_it_replaces_addresses(self, installation: Installation) -> None:
        def replaces(environ: Any) -> None:
            sets_scheme(environ)
            environ["HTTP_X_FORWARDED_FOR"] = "192.0.2.1"

        installation.web.proxy = replaces
        assert [each.status for each in findings("proxy", "PUBLIC_URL")] == [Status.OK]

    def test_it_does_not_say_that_it_was_encrypted(self, installation: Installation) -> None:
        def forgets(environ: Any) -> None:
            appends_address(environ)
            environ.pop("HTTP_X_FORWARDED_PROTO", None)

        installation.web.proxy = forgets
        found = problem("proxy", "PUBLIC_URL")
        assert_fails(found, "redirects to itself", "X-Forwarded-Proto $scheme")

    def test_a_forged_scheme_passes(self, installation: Installation) -> None:
        def trusts(environ: Any) -> None:
            appends_address(environ)
            environ.setdefault("HTTP_X_FORWARDED_PROTO", "https")

        installation.web.proxy = trusts
        found = problem("proxy", "PUBLIC_URL")
        assert_fails(found, "passes on the client's X-Forwarded-Proto", "replace")

    def test_it_changes_the_host(self, installation: Installation) -> None:
        def renames(environ: Any) -> None:
            sets_scheme(environ)
            appends_address(environ)
            environ["HTTP_HOST"] = "127.0.0.1:8000"

        installation.engine.proxy = renames
        found = problem("proxy", "ENGINE_URL")
        assert_fails(found, "as requests for '127.0.0.1:8000'", "proxy_set_header Host")


class TestDatabase:
    def test_a_migration_is_missing(self) -> None:
        MigrationRecorder.Migration.objects.filter(app="usage").latest("id").delete()
        assert_fails(problem("migrations"), "1 migration is not applied", "manage.py migrate")

    def test_a_newer_release_has_migrated(self) -> None:
        MigrationRecorder.Migration.objects.create(app="usage", name="0999_of_tomorrow")
        found = problem("migrations")
        assert found.status is Status.WARNING
        assert "usage 0999_of_tomorrow" in found.message

    def test_too_few_connections(self) -> None:
        found = problem("connections", web=2, engine=200, worker=1)
        assert_fails(found, "engine: 200", "lower DATABASE_POOL_SIZE")
        needed = 2 * 10 + 200 * 11 + 13
        assert f"may open {needed} connections" in found.message

    def test_another_secret_key(self, alice: Account, settings: Any) -> None:
        assert findings("secret-key")[0].status is Status.OK
        own, settings.SECRET_KEY = settings.SECRET_KEY, OTHER_KEY
        found = problem("secret-key")
        assert_fails(found, "the newest webhook secret", "SECRET_KEY_FALLBACKS")
        settings.SECRET_KEY_FALLBACKS = [own]
        assert findings("secret-key")[0].status is Status.OK

    @pytest.mark.parametrize(
        ("change", "message", "action"),
        [
            ({"NAME": "nobody_made_it"}, "does not exist", "createdb"),
            ({"HOST": "127.0.0.1", "PORT": "1", "OPTIONS": {}}, "refused", "Start PostgreSQL"),
            ({"HOST": "db.invalid", "OPTIONS": {}}, "resolve", "name server"),
        ],
    )
    def test_no_connection(
        self, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], message: str, action: str
    ) -> None:
        for name, value in change.items():
            monkeypatch.setitem(connection.settings_dict, name, value)
        found = problem("database")
        assert_fails(found, message, action)
        assert found.message.startswith("No connection: ")

    def test_a_pooler_that_shares_connections(self, pooler: Callable[[str], None]) -> None:
        pooler("transaction")
        assert_fails(problem("pooler"), "share", "pool_mode = session")
        assert "A pooler limits" in findings("connections")[0].message

    def test_a_pooler_that_lets_no_transaction_pass(
        self, pooler: Callable[[str], None], another: Another
    ) -> None:
        another(DIRECT)
        pooler("statement")
        assert_fails(problem("pooler"), "no transaction", "pool_mode = transaction")

    def test_statements_that_a_pooler_may_forget(
        self, pooler: Callable[[str], None], another: Another
    ) -> None:
        another(DIRECT)
        pooler("transaction")
        connection.settings_dict["OPTIONS"]["prepare_threshold"] = 5
        assert "prepared statements" in problem("pooler").message

    def test_a_direct_connection_to_another_database(self, another: Another) -> None:
        another(DIRECT, NAME="template1")
        assert_fails(problem("pooler"), "is not the database", "the same database")

    def test_no_direct_connection(self, another: Another) -> None:
        another(DIRECT, HOST="127.0.0.1", PORT="1", OPTIONS={})
        assert_fails(problem("pooler"), "refused", "host and port in DATABASE_DIRECT_URL")

    def test_no_replica(self, another: Another) -> None:
        another(REPLICA, HOST="127.0.0.1", PORT="1", OPTIONS={})
        assert_fails(problem("replica"), "refused", "host and port in DATABASE_REPLICA_URL")

    def test_a_replica_that_is_a_primary(self, another: Another) -> None:
        another(REPLICA)
        assert_fails(problem("replica"), "it is a primary", "streaming replica, or remove it")

    def test_a_replica_of_another_database(self, another: Another) -> None:
        another(REPLICA, NAME="template1")
        assert_fails(problem("replica"), "but another one", "replica of that server")

    @only_in_all("a PostgreSQL and its replica")
    def test_a_replica_that_stops_replaying(
        self, monkeypatch: pytest.MonkeyPatch, another: Another
    ) -> None:
        def at(server: OwnPostgres) -> dict[str, Any]:
            return {"NAME": "postgres", "OPTIONS": {"host": str(server.socket_folder)}}

        with own_postgres() as primary, primary.replica() as replica:
            for name, value in at(primary).items():
                monkeypatch.setitem(connection.settings_dict, name, value)
            another(REPLICA, **at(replica))
            assert [each.status for each in findings("replica")] == [Status.OK]
            with (
                psycopg.connect(primary.url, autocommit=True) as written,
                psycopg.connect(replica.url, autocommit=True) as stopped,
            ):
                stopped.execute("SELECT pg_wal_replay_pause()")
                written.execute("CREATE TABLE a ()")
                assert "bytes of the log behind" in problem("replica").message


class TestStripe:
    def test_it_works(self, paid: WatchedStripe) -> None:
        paid.requests.clear()
        found = findings("stripe")
        assert {each.status for each in found} == {Status.OK, Status.WARNING}
        assert {request.method for request in paid.requests} == {"get"}

    @pytest.mark.parametrize(
        ("kind", "message"),
        [
            ("webhook_endpoint", "There is no webhook endpoint for https://"),
            ("v2.core.event_destination", "There is no event destination for https://"),
            ("billing.meter", "The meter switchhook_minutes is missing."),
        ],
    )
    def test_something_is_missing(self, paid: WatchedStripe, kind: str, message: str) -> None:
        for thing in paid.all(kind):
            del paid.things[thing["id"]]
        failures = [each for each in findings("stripe") if each.status is Status.FAILED]
        assert_fails(failures[0], message, "setup_stripe")

    def test_another_price(self, paid: WatchedStripe, settings: Any) -> None:
        settings.PER_MINUTE_RATE *= 2
        found = [each for each in findings("stripe") if each.status is Status.FAILED]
        assert_fails(found[0], "differs from the price of a minute, 0.1 USD", "setup_stripe")

    def test_a_key_that_stripe_does_not_know(self, paid: WatchedStripe) -> None:
        def refuse(request: Any) -> Any:
            return 401, {"error": {"message": "Invalid API Key provided", "type": "x"}}

        paid.before = refuse
        assert_fails(problem("stripe"), "does not accept STRIPE_SECRET_KEY", "API keys")


class TestMail:
    def test_it_works(self, installation: Installation) -> None:
        [found] = findings("mail")
        assert found.status is Status.OK
        assert "no-reply@switchhook.example, over TLS" in found.message

    @pytest.mark.parametrize(
        ("refuses", "message", "action"),
        [
            ("AUTH", "refuses the user or the password", "EMAIL_URL"),
            ("MAIL", "refuses emails from no-reply@switchhook.example", "EMAIL_FROM"),
        ],
    )
    def test_it_refuses(
        self, installation: Installation, refuses: str, message: str, action: str
    ) -> None:
        installation.mail.refuses = refuses
        found = problem("mail")
        assert_fails(found, message, action)
        assert "a-password-of-mail" not in found.message

    def test_nothing_listens(self, installation: Installation, settings: Any) -> None:
        settings.EMAIL_PORT = 1
        assert_fails(problem("mail"), "does not accept connections", "587")

    def test_no_encryption(self, installation: Installation) -> None:
        installation.mail.has_starttls = False
        assert_fails(problem("mail"), "does not offer STARTTLS", "smtp+ssl://")

    def test_a_sender_of_this_machine(self, installation: Installation, settings: Any) -> None:
        settings.DEFAULT_FROM_EMAIL = "Switchhook <no-reply@localhost>"
        assert "EMAIL_FROM" in problem("mail").action

    def test_no_server(self, installation: Installation, settings: Any) -> None:
        settings.SENDS_MAIL = False
        assert "no email is sent" in problem("mail").message


class TestSurroundings:
    def test_a_service_behind_a_firewall_that_reads_along(
        self, installation: Installation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("SSL_CERT_FILE")
        assert_fails(problem("services", "TWILIO_API_URL"), "is not trusted here", "inspects TLS")

    def test_a_clock_that_is_off(self, installation: Installation) -> None:
        for site in (installation.twilio, installation.openai, installation.web):
            site.app = static("200 OK", clock_ahead=timedelta(minutes=10))
        found = findings("clock")
        assert len(found) == 3
        for each in found:
            assert_fails(each, "seconds behind that of localhost", "chrony")

    def test_a_server_whose_clock_is_off(self, installation: Installation) -> None:
        installation.twilio.app = static("200 OK", clock_ahead=-timedelta(minutes=10))
        found = problem("clock")
        assert_fails(found, "agrees with all others", "Correct the clock of localhost")

    def test_variables_that_look_like_ours(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ENGIN_URL", "https://engine.switchhook.example")
        monkeypatch.setenv("ENGINE_URI", secrets.token_hex())
        messages = [each.message for each in findings("names")]
        assert (
            "ENGIN_URL is set, and means nothing to Switchhook. Did you mean ENGINE_URL?"
            in messages
        )
        assert len(messages) == 2

    def test_static_files_that_were_not_collected(self, settings: Any, tmp_path: Path) -> None:
        settings.STATIC_ROOT = str(tmp_path)
        assert_fails(findings("django")[0], "There are no static files", "collectstatic")

    def test_debug(self, settings: Any) -> None:
        settings.DEBUG = True
        assert_fails(problem("settings"), "DEBUG is on", "Unset DEBUG")

    def test_listening_for_everybody(self, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        settings.HOST = "0.0.0.0"  # noqa: S104
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        monkeypatch.setattr("operations.doctor.checks.environment._CONTAINER_FILES", ())
        assert "can forge" in problem("listening").message
