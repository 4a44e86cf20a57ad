"""A client that is generated from the document works with a running server."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_django.live_server_helper import LiveServer

from accounts.models import Account
from core.schema import DOCUMENT

PACKAGE = "switchhook_client"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Generate the package, and let it be imported; a warning of the generator's is an error."""
    folder = tmp_path_factory.mktemp("generated")
    configuration = folder / "config.yml"
    configuration.write_text("post_hooks: []\n")
    subprocess.run(
        [
            *(sys.executable, "-m", "openapi_python_client", "generate", "--meta=none"),
            *(f"--path={DOCUMENT}", f"--output-path={folder / PACKAGE}"),
            *(f"--config={configuration}", "--fail-on-warning"),
        ],
        check=True,
        timeout=60,
    )
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


def api(name: str) -> Any:
    return importlib.import_module(f"{PACKAGE}.api.{name}").sync


@pytest.mark.usefixtures("client", "transactional_db")
def test_it_works(live_server: LiveServer) -> None:
    models: Any = importlib.import_module(f"{PACKAGE}.models")
    package: Any = importlib.import_module(PACKAGE)
    registration = models.RegistrationRequest(
        email="you@company.com", password="a long walk in the rain", company_name="Your Company"
    )

    with package.Client(live_server.url) as anonymous:
        registered = api("account.register")(client=anonymous, body=registration)
        assert registered.account.company_name == "Your Company"
        assert registered.account.status is models.AccountStatus.INACTIVE

        again = api("account.register")(client=anonymous, body=registration)
        assert isinstance(again, models.Error)
        assert again.code == "email_taken"

    with package.AuthenticatedClient(live_server.url, registered.api_key) as customer:
        number = models.PhoneNumberRegistrationRequest(
            phone_number="+15551234567",
            on_call_start_url="https://your-backend.com/calls/start",
            on_call_end_url="https://your-backend.com/calls/end",
        )
        refusal = api("phone_numbers.register_phone_number")(client=customer, body=number)
        assert refusal.code == "payment_required"

        Account.objects.update(status=Account.Status.ACTIVE)
        account = api("account.get_account")(client=customer).account
        assert account.status is models.AccountStatus.ACTIVE
        assert account.field_count.api_keys == 1  # `_count`: no name for a Python attribute

        added = api("phone_numbers.register_phone_number")(client=customer, body=number)
        assert added.phone_number.phone_number == "+15551234567"
        assert added.phone_number.on_error_url is None
        listed = api("phone_numbers.list_phone_numbers")(client=customer)
        assert listed.phone_numbers == [added.phone_number]

        calls = api("calls.list_calls")(client=customer, live=True)
        assert (calls.calls, calls.limit, calls.has_more) == ([], 50, False)

        usage = api("usage.list_usage")(client=customer, limit=1000)
        assert (usage.records, usage.total, usage.limit) == ([], 0, 100)
        current = api("usage.get_current_usage")(client=customer)
        assert (current.all_time.minutes, current.current_month.estimated_cost) == (0, 0)
