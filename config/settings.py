"""All settings, from the environment. docs/environment-variables.md lists every variable."""

from __future__ import annotations

import re
import secrets
import warnings
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

from config.unsafe import (
    bad_address,
    bad_email,
    bad_host,
    bad_link,
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

env = environ.Env()


def _flag(name: str, *, default: bool) -> bool:
    """Return True if the variable is on; raise for a value that is neither on nor off."""
    text = str(env.str(name, default="")).strip().lower()
    if text not in ("", *_ON, *_OFF):
        raise ImproperlyConfigured(f"{name} must be 1 or 0 (it is {text!r}).")
    return text in _ON if text else default


_ON = ("1", "true", "yes", "on")
_OFF = ("0", "false", "no", "off")

DEBUG = _flag("DEBUG", default=False)
STRIPE_SECRET_KEY = env.str("STRIPE_SECRET_KEY", default="")
STRIPE_LIVE_MODE = STRIPE_SECRET_KEY.startswith("sk_live_")
SANDBOX = _flag("SANDBOX", default=DEBUG and not STRIPE_LIVE_MODE)
if SANDBOX and not DEBUG:
    raise ImproperlyConfigured(
        "SANDBOX=1 puts stand-ins in the place of Stripe, Twilio and OpenAI; it is refused when "
        "DEBUG is off. Unset it."
    )
if SANDBOX and STRIPE_LIVE_MODE:
    raise ImproperlyConfigured(
        "SANDBOX=1 is refused beside a live STRIPE_SECRET_KEY: unset one of them."
    )

Number = TypeVar("Number", int, Decimal)


def _refuse_in_production(name: str, fault: str) -> None:
    """Raise if the variable's value is unsafe, unless this is development."""
    if fault and not DEBUG:
        raise ImproperlyConfigured(f"{name} {fault}")


def _number(
    name: str,
    default: Number,
    *,
    least: int = 0,
    most: int | None = None,
    decimals: int | None = None,
) -> Number:
    """Return the variable's value, of the default's type and in the range."""
    text = env.str(name, default=str(default))
    try:
        number = type(default)(text)
        is_in_range = number >= least and number <= (10**9 if most is None else most)
        is_exact = decimals is None or number == round(number, decimals)
    except (ValueError, ArithmeticError):
        is_in_range = is_exact = False
    if not (is_in_range and is_exact):
        kind = "whole number" if isinstance(default, int) else "number"
        limits = f"of at least {least}" if most is None else f"from {least} to {most}"
        precision = "" if decimals is None else f" with at most {decimals} decimals"
        raise ImproperlyConfigured(f"{name} must be a {kind} {limits}{precision} (it is {text!r}).")
    return number


def _secret_key() -> str:
    if key := env.str("SECRET_KEY", default=""):
        return key
    if not DEBUG:
        raise ImproperlyConfigured(
            "SECRET_KEY is not set. Set it to 50 random characters or more, or DEBUG=1 on a "
            "development machine."
        )
    path = LOCAL_DIR / "secret_key"
    try:
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(50))
        return path.read_text()
    except PermissionError:
        raise ImproperlyConfigured(
            f"{path} belongs to another user: run this as that user, or set SECRET_KEY and "
            "DATABASE_URL."
        ) from None


SECRET_KEY = _secret_key()
_refuse_in_production("SECRET_KEY", weak_key(SECRET_KEY))
SECRET_KEY_FALLBACKS = env.list("SECRET_KEY_FALLBACKS", default=[])
# Values that an old key signed or sealed stay valid.
for _key in SECRET_KEY_FALLBACKS:
    _refuse_in_production("SECRET_KEY_FALLBACKS", weak_key(_key))

# Addresses

PORT = _number("PORT", 8000, least=1, most=65_533)
MEDIA_PORT = _number("MEDIA_PORT", PORT + 1, least=1, most=65_535)
SANDBOX_PORT = _number("SANDBOX_PORT", PORT + 2, least=1, most=65_535)
# A client that reaches a port directly bypasses the proxy, and can forge its address.
HOST = env.str("HOST", default="127.0.0.1")
if fault := bad_host(HOST, only_loopback=DEBUG):
    raise ImproperlyConfigured(f"HOST {fault}")


def _address(name: str, encrypted: str, default: str, *, takes_path: bool = True) -> str:
    """Return a URL without a trailing slash; unencrypted ones are only allowed with DEBUG."""
    address = str(env.str(name, default=default)).rstrip("/")
    schemes = (encrypted.removesuffix("s"), encrypted) if DEBUG else (encrypted,)
    if fault := bad_address(address, schemes, takes_path=takes_path):
        raise ImproperlyConfigured(f"{name} {fault}")
    return address


def _own_address(name: str, encrypted: str, default: str, *, takes_path: bool = False) -> str:
    """Return one of our public URLs, which production must set."""
    return _address(name, encrypted, default if DEBUG else "", takes_path=takes_path)


PUBLIC_URL = _own_address("PUBLIC_URL", "https", f"http://127.0.0.1:{PORT}")
ENGINE_URL = _own_address("ENGINE_URL", "https", f"http://127.0.0.1:{PORT}", takes_path=True)
MEDIA_STREAM_URL = _own_address(
    "MEDIA_URL", "wss", f"ws://127.0.0.1:{MEDIA_PORT}/media", takes_path=True
)

# Pages of the operators' own, which our pages and emails link to. Unless set, they are not shown.


def _link(name: str) -> str:
    """Return the https:// URL of a page, or "" if the variable is empty."""
    url = str(env.str(name, default=""))
    if url and (fault := bad_link(url)):
        raise ImproperlyConfigured(f"{name} {fault}")
    return url


TERMS_URL = _link("TERMS_URL")
PRIVACY_URL = _link("PRIVACY_URL")
SUPPORT_URL = _link("SUPPORT_URL")
SUPPORT_EMAIL = env.str("SUPPORT_EMAIL", default="")
if SUPPORT_EMAIL and (fault := bad_email(SUPPORT_EMAIL)):
    raise ImproperlyConfigured(f"SUPPORT_EMAIL {fault}")
STATUS_URL = _link("STATUS_URL")

ALLOWED_HOSTS = env.list(
    "ALLOWED_HOSTS",
    default=[
        *{str(urlsplit(url).hostname) for url in (PUBLIC_URL, ENGINE_URL)},
        *(["127.0.0.1", "localhost", "[::1]", "testserver"] if DEBUG else []),
    ],
)
for _host in ALLOWED_HOSTS:
    _refuse_in_production("ALLOWED_HOSTS", wide_host(_host))
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]

# External services. A URL that is set overrides the sandbox's.

_SANDBOX_URL = f"127.0.0.1:{SANDBOX_PORT}"
TWILIO_API_URL = _address(
    "TWILIO_API_URL",
    "https",
    f"http://{_SANDBOX_URL}/twilio" if SANDBOX else "https://api.twilio.com",
)
OPENAI_REALTIME_URL = _address(
    "OPENAI_REALTIME_URL",
    "wss",
    f"ws://{_SANDBOX_URL}/openai/v1/realtime" if SANDBOX else "wss://api.openai.com/v1/realtime",
)

CALLBACK_ALLOW_PRIVATE = _flag("CALLBACK_ALLOW_PRIVATE", default=DEBUG)
if CALLBACK_ALLOW_PRIVATE and not DEBUG:
    raise ImproperlyConfigured(
        "CALLBACK_ALLOW_PRIVATE=1 lets customers reach this network; it is refused when DEBUG is "
        "off. Unset it."
    )

# Stripe. Without a key, the payments sandbox replaces it, in development only.

STRIPE_SANDBOX = SANDBOX and not STRIPE_SECRET_KEY
if STRIPE_SANDBOX:
    STRIPE_SECRET_KEY = "sk_test_" + "sandbox" * 4
if not re.fullmatch(r"sk_(test|live)_[a-zA-Z0-9]{24,}", STRIPE_SECRET_KEY):
    raise ImproperlyConfigured(
        "STRIPE_SECRET_KEY must be a secret key from Stripe, sk_live_… or sk_test_… "
        f"({'another value is' if STRIPE_SECRET_KEY else 'it is not'} set)."
    )
# Secrets that setup_stripe created need no variable. Separate several by commas.
STRIPE_WEBHOOK_SECRETS = env.list("STRIPE_WEBHOOK_SECRET", default=[])
for _secret in STRIPE_WEBHOOK_SECRETS:
    _refuse_in_production("STRIPE_WEBHOOK_SECRET", weak_webhook_secret(_secret))
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

_EMAIL_URL = env.str("EMAIL_URL", default="consolemail://" if DEBUG else "")
SENDS_MAIL = bool(_EMAIL_URL)
_refuse_in_production("EMAIL_URL", leaky_mail_server(_EMAIL_URL))
vars().update(env.email_url_config(_EMAIL_URL or "dummymail://"))
if SANDBOX and not env.str("EMAIL_URL", default=""):
    EMAIL_BACKEND = "sandbox.mail.backend.MailboxBackend"
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.str("EMAIL_FROM", default="Switchhook <no-reply@localhost>")
EMAIL_TIMEOUT = 20

# Limits and prices

ALLOWED_COUNTRIES = env.list("ALLOWED_COUNTRIES", default=["US", "CA"])
MAX_CONCURRENT_CALLS = _number("MAX_CONCURRENT_CALLS", 50)
# Of one number at a time. Forged ones count too, and real ones last under a second each.
MAX_UNVERIFIED_RINGS = _number("MAX_UNVERIFIED_RINGS", 20, least=1)
# In US dollars. Stripe charges whole cents, but the price of a minute may have fractions.
MONTHLY_BASE = _number("MONTHLY_BASE", Decimal(5), decimals=2)
PER_MINUTE_RATE = _number("PER_MINUTE_RATE", Decimal("0.05"), decimals=6)

# The number of reverse proxies that append to X-Forwarded-For. Production has at least one, which
# terminates TLS.
TRUSTED_PROXIES = _number("TRUSTED_PROXIES", 0 if DEBUG else 1, least=0 if DEBUG else 1)
# In development, everybody has the same address: people, the demo, the tests.
_PATIENCE = 100 if DEBUG else 1
LOGINS_PER_ADDRESS = _number("LOGINS_PER_ADDRESS", 30 * _PATIENCE, least=1)
LOGIN_FAILURES_PER_EMAIL = _number("LOGIN_FAILURES_PER_EMAIL", 10 * _PATIENCE, least=1)
REGISTRATIONS_PER_ADDRESS = _number("REGISTRATIONS_PER_ADDRESS", 10 * _PATIENCE, least=1)
REGISTRATIONS_PER_EMAIL = _number("REGISTRATIONS_PER_EMAIL", 5 * _PATIENCE, least=1)
MAILS_PER_ADDRESS = _number("MAILS_PER_ADDRESS", 20 * _PATIENCE, least=1)
MAILS_PER_EMAIL = _number("MAILS_PER_EMAIL", 5 * _PATIENCE, least=1)
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
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
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
    if url := env.str("DATABASE_URL", default=""):
        return str(url)
    from devtools.postgres import embedded_url

    return embedded_url(LOCAL_DIR)


def _database(url: str) -> dict[str, Any]:
    if urlsplit(url).scheme not in ("postgres", "postgresql"):
        raise ImproperlyConfigured("DATABASE_URL must be a postgresql:// address.")
    return dict(env.db_url_config(url))


# Connections come from a pool, so that a thread holds one only while it queries: a call that waits
# for a customer's backend holds none.
DATABASES = {
    "default": {
        **_database(_database_url()),
        "ENGINE": "core.database",
        "CONN_MAX_AGE": 0,
    }
}
# DATABASE_URL overrides these. All of them are client-side: a PgBouncer sees none of them.
# The timeout of a query depends on the caller (``core.connections``).
DATABASES["default"]["OPTIONS"] = {
    "connect_timeout": 2,  # seconds, libpq's least
    # For a machine or a network that is gone; the kernel's default is two hours.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # milliseconds
    **DATABASES["default"].get("OPTIONS", {}),
    "pool": {
        "min_size": 1,
        "max_size": _number("DATABASE_POOL_SIZE", 10, least=1),
        # Psycopg's own tries after 1, 2, 4, … s, for 5 minutes, and nobody is connected meanwhile
        # although the database may be back. After two seconds it is whoever needs a connection that
        # tries again.
        "reconnect_timeout": 2,
    },
}

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
    _address("PASSWORD_BREACH_CHECK_URL", "https", "")
    if env.str("PASSWORD_BREACH_CHECK_URL", default="")
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

# Served in place: there is no collectstatic step.
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = DEBUG
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
LOGGING_CONFIG = None
configure_logging(json=not DEBUG)
