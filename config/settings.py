"""All settings, from the environment. docs/environment-variables.md lists every variable."""

from __future__ import annotations

import os
import re
import secrets
import warnings
from datetime import timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

from config.environment import Environment
from config.unsafe import (
    NEW_KEY,
    bad_address,
    bad_country,
    bad_dsn,
    bad_email,
    bad_host,
    bad_model_host,
    bad_sender,
    bad_webhook,
    leaky_mail_server,
    weak_key,
    weak_webhook_secret,
    wide_host,
)
from core import request_limits
from core.logs import configure_logging
from core.version import VERSION

BASE_DIR = Path(__file__).resolve().parent.parent
LOCAL_DIR = BASE_DIR / ".local"

env = Environment(os.environ)

DEBUG = env.debug
STRIPE_SECRET_KEY = env.text("STRIPE_SECRET_KEY")
STRIPE_LIVE_MODE = STRIPE_SECRET_KEY.startswith("sk_live_")
SANDBOX = env.flag("SANDBOX", default=DEBUG and not STRIPE_LIVE_MODE)
if SANDBOX and not DEBUG:
    env.refuse(
        "SANDBOX",
        "must not be 1 when DEBUG is off: it puts stand-ins in the place of Stripe, Twilio and "
        "OpenAI. Unset it.",
    )
if SANDBOX and STRIPE_LIVE_MODE:
    env.refuse("SANDBOX", "must not be 1 with a live STRIPE_SECRET_KEY. Unset one of them.")
SANDBOX = SANDBOX and env.is_good("SANDBOX")


def _generated_key() -> str:
    """Return a key that development keeps in a file."""
    path = LOCAL_DIR / "secret_key"
    try:
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(50))
        return path.read_text()
    except PermissionError:
        env.refuse(
            "SECRET_KEY",
            f"is not set, and {path} belongs to another user. Run this as that user, or set "
            "SECRET_KEY and DATABASE_URL.",
        )
        return secrets.token_urlsafe(50)


SECRET_KEY = env.text("SECRET_KEY")
if SECRET_KEY:
    env.refuse_in_production("SECRET_KEY", weak_key(SECRET_KEY))
elif DEBUG and env.is_good("DEBUG"):
    SECRET_KEY = _generated_key()
else:
    SECRET_KEY = secrets.token_urlsafe(50)
    env.refuse_in_production("SECRET_KEY", f"is not set. {NEW_KEY}")
SECRET_KEY_FALLBACKS = env.texts("SECRET_KEY_FALLBACKS")
# Values that an old key signed or sealed stay valid.
for _key in SECRET_KEY_FALLBACKS:
    env.refuse_in_production("SECRET_KEY_FALLBACKS", weak_key(_key))

# For gunicorn, and for what a process calls itself.
PROCESS = env.choice("PROCESS", ("web", "engine", "worker"), "engine")
# Gunicorn reads it itself.
WEB_CONCURRENCY = env.number("WEB_CONCURRENCY", 1, least=1)

# Addresses

PORT = env.number("PORT", 8000, least=1, most=65_533)
MEDIA_PORT = env.number("MEDIA_PORT", PORT + 1, least=1, most=65_535)
SANDBOX_PORT = env.number("SANDBOX_PORT", PORT + 2, least=1, most=65_535)
# A client that reaches a port directly bypasses the proxy, and can forge its address.
_host_fault = partial(bad_host, only_loopback=DEBUG and env.is_good("DEBUG"))
HOST = env.checked("HOST", _host_fault, "127.0.0.1")
# Off unless set. Never on a port that a proxy serves.
METRICS_PORT = env.number("METRICS_PORT", 0, most=65_535)
METRICS_HOST = env.checked("METRICS_HOST", _host_fault, HOST)
if METRICS_PORT in (PORT, MEDIA_PORT):
    env.refuse("METRICS_PORT", f"must differ from PORT and MEDIA_PORT (it is {METRICS_PORT}).")

PUBLIC_URL = env.own_address("PUBLIC_URL", "https", f"http://127.0.0.1:{PORT}")
ENGINE_URL = env.own_address("ENGINE_URL", "https", f"http://127.0.0.1:{PORT}", takes_path=True)
MEDIA_STREAM_URL = env.own_address(
    "MEDIA_URL", "wss", f"ws://127.0.0.1:{MEDIA_PORT}/media", takes_path=True
)

# Pages of the operators' own, which our pages and emails link to. Unless set, they are not shown.

TERMS_URL = env.link("TERMS_URL")
PRIVACY_URL = env.link("PRIVACY_URL")
SUPPORT_URL = env.link("SUPPORT_URL")
SUPPORT_EMAIL = env.checked("SUPPORT_EMAIL", bad_email)
STATUS_URL = env.link("STATUS_URL")

ALLOWED_HOSTS = env.texts(
    "ALLOWED_HOSTS",
    [
        *{str(urlsplit(url).hostname) for url in (PUBLIC_URL, ENGINE_URL)},
        *(["127.0.0.1", "localhost", "[::1]", "testserver"] if DEBUG else []),
    ],
)
for _host in ALLOWED_HOSTS:
    env.refuse_in_production("ALLOWED_HOSTS", wide_host(_host))
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]

# External services. A URL that is set overrides the sandbox's.

_SANDBOX_URL = f"127.0.0.1:{SANDBOX_PORT}"
TWILIO_API_URL = env.address(
    "TWILIO_API_URL",
    "https",
    f"http://{_SANDBOX_URL}/twilio" if SANDBOX else "https://api.twilio.com",
)
OPENAI_REALTIME_URL = env.address(
    "OPENAI_REALTIME_URL",
    "wss",
    f"ws://{_SANDBOX_URL}/openai/v1/realtime" if SANDBOX else "wss://api.openai.com/v1/realtime",
)
OPENAI_LIVE_URL = env.address(
    "OPENAI_LIVE_URL", "wss", f"{OPENAI_REALTIME_URL.removesuffix('/realtime')}/live/sessions"
)
# Where a customer's configuration may have the model instead.
OPENAI_HOSTS = env.texts("OPENAI_HOSTS", [".openai.azure.com", "eu.api.openai.com"])
for _host in OPENAI_HOSTS:
    env.refuse("OPENAI_HOSTS", bad_model_host(_host))

CALLBACK_ALLOW_PRIVATE = env.flag("CALLBACK_ALLOW_PRIVATE", default=DEBUG)
if CALLBACK_ALLOW_PRIVATE:
    env.refuse_in_production(
        "CALLBACK_ALLOW_PRIVATE",
        "must not be 1 when DEBUG is off: it lets customers reach this network. Unset it.",
    )

# Stripe. Without a key, the payments sandbox replaces it, in development only.

STRIPE_SANDBOX = SANDBOX and not STRIPE_SECRET_KEY
if STRIPE_SANDBOX:
    STRIPE_SECRET_KEY = "sk_test_" + "sandbox" * 4
if not re.fullmatch(r"sk_(test|live)_[a-zA-Z0-9]{24,}", STRIPE_SECRET_KEY):
    env.refuse(
        "STRIPE_SECRET_KEY",
        "must be a secret key from Stripe, sk_live_… or sk_test_… "
        f"({'another value is' if STRIPE_SECRET_KEY else 'it is not'} set).",
    )
# Secrets that setup_stripe created need no variable. Separate several by commas.
STRIPE_WEBHOOK_SECRETS = env.texts("STRIPE_WEBHOOK_SECRET")
for _secret in STRIPE_WEBHOOK_SECRETS:
    env.refuse_in_production("STRIPE_WEBHOOK_SECRET", weak_webhook_secret(_secret))
# Pinned, for requests and for events alike: the one that dj-stripe is made for.
STRIPE_API_VERSION = "2026-05-27.dahlia"

# Its admin, which is not shown, has a form that Django finds old-fashioned.
warnings.filterwarnings("ignore", message="The default scheme will be changed")
DJSTRIPE_FOREIGN_KEY_TO_FIELD = "id"
# Billing's own table maps customers to accounts, whatever is edited in Stripe.
DJSTRIPE_SUBSCRIBER_CUSTOMER_KEY = ""
# Its migrations take most of a minute, creating its tables a second (see ``migrate``).
MIGRATION_MODULES = {"djstripe": None} if DEBUG else {}

# Email. Without a server, the sandbox keeps emails in its mailbox, development without it logs
# them, and production sends none.

_EMAIL_URL = env.checked(
    "EMAIL_URL",
    partial(leaky_mail_server, allows_local=DEBUG),
    "consolemail://" if DEBUG else "",
)
SENDS_MAIL = bool(_EMAIL_URL)
vars().update(environ.Env.email_url_config(_EMAIL_URL or "dummymail://"))
if SANDBOX and not env.text("EMAIL_URL"):
    EMAIL_BACKEND = "sandbox.mail.backend.MailboxBackend"
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.checked(
    "EMAIL_FROM", bad_sender, "Switchhook <no-reply@localhost>"
)
EMAIL_TIMEOUT = 20

# Where errors are reported to: nowhere unless set.
SENTRY_DSN = env.checked("SENTRY_DSN", partial(bad_dsn, allows_http=DEBUG))
# Who is told that something needs attention (``operations.incidents``).
OPERATOR_EMAILS = env.texts("OPERATOR_EMAILS")
for _address in OPERATOR_EMAILS:
    env.refuse("OPERATOR_EMAILS", bad_email(_address))
if OPERATOR_EMAILS and not SENDS_MAIL:
    env.refuse("OPERATOR_EMAILS", "needs a mail server. Set EMAIL_URL.")
OPERATOR_WEBHOOK_URL = env.checked("OPERATOR_WEBHOOK_URL", partial(bad_webhook, allows_http=DEBUG))

# Where traces are exported to: nowhere unless set. The exporter itself reads the headers.
OTEL_EXPORTER_OTLP_ENDPOINT = env.checked(
    "OTEL_EXPORTER_OTLP_ENDPOINT", partial(bad_address, schemes=("http", "https"))
).rstrip("/")
env.text("OTEL_EXPORTER_OTLP_HEADERS")

# Limits and prices

ALLOWED_COUNTRIES = env.texts("ALLOWED_COUNTRIES", ["US", "CA"])
for _country in ALLOWED_COUNTRIES:
    env.refuse("ALLOWED_COUNTRIES", bad_country(_country))
MAX_CONCURRENT_CALLS = env.number("MAX_CONCURRENT_CALLS", 50)
# Of one number at a time. Forged ones count too, and real ones last under a second each.
MAX_UNVERIFIED_RINGS = env.number("MAX_UNVERIFIED_RINGS", 20, least=1)
# How many days calls and what belongs to them are kept; 0 for always (``telephony.retention``).
RETAIN_CALLS_DAYS = env.number("RETAIN_CALLS_DAYS", 0)
RETAIN_TIMELINES_DAYS = env.number("RETAIN_TIMELINES_DAYS", 0)
RETAIN_CALLBACKS_DAYS = env.number("RETAIN_CALLBACKS_DAYS", 0)
# In US dollars. Stripe charges whole cents, but the price of a minute may have fractions.
MONTHLY_BASE = env.number("MONTHLY_BASE", Decimal(5), decimals=2)
PER_MINUTE_RATE = env.number("PER_MINUTE_RATE", Decimal("0.05"), decimals=6)

# The number of reverse proxies that append to X-Forwarded-For. Production has at least one, which
# terminates TLS.
TRUSTED_PROXIES = env.number("TRUSTED_PROXIES", 0 if DEBUG else 1, least=0 if DEBUG else 1)
# In development, everybody has the same address: people, the demo, the tests.
_PATIENCE = 100 if DEBUG else 1
LOGINS_PER_ADDRESS = env.number("LOGINS_PER_ADDRESS", 30 * _PATIENCE, least=1)
LOGIN_FAILURES_PER_EMAIL = env.number("LOGIN_FAILURES_PER_EMAIL", 10 * _PATIENCE, least=1)
REGISTRATIONS_PER_ADDRESS = env.number("REGISTRATIONS_PER_ADDRESS", 10 * _PATIENCE, least=1)
REGISTRATIONS_PER_EMAIL = env.number("REGISTRATIONS_PER_EMAIL", 5 * _PATIENCE, least=1)
MAILS_PER_ADDRESS = env.number("MAILS_PER_ADDRESS", 20 * _PATIENCE, least=1)
MAILS_PER_EMAIL = env.number("MAILS_PER_EMAIL", 5 * _PATIENCE, least=1)
# Seconds for which a password reset link is valid.
PASSWORD_RESET_TIMEOUT = 3600

# Django

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
ASGI_APPLICATION = "config.asgi.application"
AUTH_USER_MODEL = "accounts.Account"
SESSION_ENGINE = "accounts.sessions"
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
LOGIN_URL = "log-in"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
APPEND_SLASH = False
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
FORMAT_MODULE_PATH = "config.formats"

INSTALLED_APPS = [
    "operations.apps.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "procrastinate.contrib.django",
    "rest_framework",
    "drf_spectacular",
    "djstripe",
    "allauth.account",  # the base of its second factors, otherwise unused
    "allauth.mfa",
    "accounts",
    "usage",
    "billing",
    "telephony",
    "dashboard",
    "operations.apps.OperationsConfig",
    "docs",
    "django_htmx",
    *(["sandbox", "sandbox.mail", "sandbox.payments"] if SANDBOX else []),
]

MIDDLEWARE = [
    "core.middleware.RequestIdMiddleware",
    "core.boundary.BoundaryMiddleware",
    "core.health.health_checks",
    "core.self_check.self_checks",
    "django.middleware.security.SecurityMiddleware",
    "core.static_files.StaticFilesMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "accounts.middleware.ActorMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "operations.impersonation.viewing",
            ],
            "libraries": {
                "forms": "core.templatetags.forms",
                "inline_markdown": "core.templatetags.inline_markdown",
                "installation": "core.templatetags.installation",
                "times": "core.templatetags.times",
            },
        },
    },
]


def _database_url() -> str:
    if url := env.text("DATABASE_URL"):
        return url
    if not DEBUG:
        env.refuse(
            "DATABASE_URL", "is not set. Set it to postgresql://user:password@host:5432/name."
        )
    elif not env.problems:  # otherwise nobody needs a server now
        from devtools.postgres import embedded_url

        try:
            return embedded_url(LOCAL_DIR)
        except ImproperlyConfigured as error:
            env.refuse(
                "DATABASE_URL", f"is not set, and the embedded server failed to start. {error}"
            )
    return "postgresql://127.0.0.1:1/none"


# Connections come from a pool, so that a thread holds one only while it queries: a call that waits
# for a customer's backend holds none.
DATABASE_POOL_SIZE = env.number("DATABASE_POOL_SIZE", 10, least=1)


def _connections(known: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a database, of which its URL has set some."""
    # The URL overrides these. All of them are client-side: a PgBouncer sees none of them. The
    # timeout of a query depends on the caller (``core.connections``).
    options = {
        "connect_timeout": 2,  # seconds, libpq's least
        # For a machine or a network that is gone; the kernel's default is two hours.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,  # milliseconds
        **known.get("OPTIONS", {}),
        "pool": {
            "min_size": 1,
            "max_size": DATABASE_POOL_SIZE,
            # Psycopg's own tries after 1, 2, 4, … s, for 5 minutes, and nobody is connected
            # meanwhile although the database may be back. After two seconds it is whoever needs a
            # connection that tries again.
            "reconnect_timeout": 2,
        },
    }
    return {**known, "ENGINE": "core.database", "CONN_MAX_AGE": 0, "OPTIONS": options}


DATABASES = {"default": _connections(env.database("DATABASE_URL", _database_url()))}
# What cannot go through a PgBouncer in transaction mode: a worker's LISTEN (``core.queue``).
if _url := env.text("DATABASE_DIRECT_URL"):
    DATABASES["direct"] = _connections(env.database("DATABASE_DIRECT_URL", _url))
# Lists are read from it (``core.replica``).
if _url := env.text("DATABASE_REPLICA_URL"):
    DATABASES["replica"] = _connections(env.database("DATABASE_REPLICA_URL", _url))
for _alias in DATABASES.keys() - {"default"}:
    DATABASES[_alias]["TEST"] = {"MIRROR": "default"}

PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 8},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "accounts.password_rules.NotTheAccountsOwn"},
    {"NAME": "accounts.password_rules.MoreThanOneCharacter"},
    {"NAME": "accounts.breaches.NotBreached"},
    {"NAME": "accounts.passwords.ChangesAreAudited"},
]
# Off by default. The URL above all ranges: https://…/range
PASSWORD_BREACH_CHECK_URL = (
    env.address("PASSWORD_BREACH_CHECK_URL", "https", "")
    if env.text("PASSWORD_BREACH_CHECK_URL")
    else ""
)

# Second factors (``accounts.second_factors``)

MFA_ADAPTER = "accounts.mfa_adapter.SealingAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_TOTP_ISSUER = "Switchhook"
MFA_TOTP_TOLERANCE = 1  # 30 seconds, for phones whose clocks are off
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]

# No form has a file or many fields.
DATA_UPLOAD_MAX_MEMORY_SIZE = FILE_UPLOAD_MAX_MEMORY_SIZE = request_limits.BODY
DATA_UPLOAD_MAX_NUMBER_FIELDS = 300
DATA_UPLOAD_MAX_NUMBER_FILES = 0

# Development serves the sources in place. Production serves what collectstatic made of them.
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = env.text("STATIC_ROOT", str(BASE_DIR / "staticfiles"))
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": (
            "django.contrib.staticfiles.storage.StaticFilesStorage"
            if DEBUG
            else "core.static_files.HashedFiles"
        )
    },
}
WHITENOISE_USE_FINDERS = WHITENOISE_AUTOREFRESH = DEBUG
WHITENOISE_ALLOW_ALL_ORIGINS = False
# They are small, so the ASGI server may read them at once.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous")

# The reverse proxy terminates TLS, and sets a header that clients cannot forge.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_SSL_REDIRECT = not DEBUG
SECURE_HSTS_SECONDS = 0 if DEBUG else 365 * 24 * 3600
CSRF_FAILURE_VIEW = "core.csrf.csrf_failure"
SESSION_COOKIE_SECURE = not DEBUG
CSRF_COOKIE_SECURE = not DEBUG
SILENCED_SYSTEM_CHECKS = [
    "security.W005",  # HSTS for all subdomains: they are not ours
    "security.W021",  # HSTS in browsers' lists, which takes in all subdomains: the same
]

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["accounts.authentication.BearerAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["core.api.JsonParser"],
    "EXCEPTION_HANDLER": "core.errors.exception_handler",
    "DEFAULT_METADATA_CLASS": "core.api.AllowedMethods",
    "DEFAULT_SCHEMA_CLASS": "core.openapi.AutoSchema",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}

SPECTACULAR_SETTINGS = {
    "OAS_VERSION": "3.1.0",
    "TITLE": "Switchhook",
    "VERSION": VERSION,
    "DESCRIPTION": (BASE_DIR / "docs" / "openapi" / "introduction.md").read_text(encoding="utf-8"),
    "COMPONENT_SPLIT_REQUEST": True,
    "DISABLE_DOCSTRING_DESCRIPTIONS": True,
    "COMPONENT_SPLIT_PATCH": False,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "ENUM_SUFFIX": "",
    "ENUM_NAME_OVERRIDES": {
        "AccountStatus": "accounts.models.Account.Status",
        "CallStatus": "telephony.models.Call.Status",
        "CallDirection": "telephony.models.Call.Direction",
        "CallbackKind": "telephony.models.CallbackDelivery.Kind",
        "CallbackState": "telephony.models.CallbackDelivery.State",
    },
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "telephony.callbacks.schema.add_webhooks",
        "core.openapi.finish",
    ],
    "SERVE_INCLUDE_SCHEMA": False,
}

SIMPLE_JWT = {
    "ACCESS_TOKEN_LIFETIME": timedelta(hours=12),
}

PROCRASTINATE_IMPORT_PATHS = ["core.queue.jobs", "billing.metering.tasks", "telephony.voice.tasks"]

DEFAULT_EXCEPTION_REPORTER_FILTER = "core.errors.WithoutValues"
# After all that reads a variable: the process ends here, and names everything that is wrong.
ENVIRONMENT = env
env.raise_problems()

LOGGING_CONFIG = None
configure_logging(json=not DEBUG)
if SENTRY_DSN:
    from core.error_reports import report_errors

    report_errors(SENTRY_DSN)
