"""``manage.py activate``"""

from __future__ import annotations

import pytest
from django.core.management import CommandError, call_command

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("email", ["carol@example.org", " Carol@Example.ORG"])
def test_it_works(carol, capsys, email):
    call_command("activate", email)
    carol.refresh_from_db()
    assert carol.effective_status == "ACTIVE"
    assert capsys.readouterr().out == "carol@example.org is active.\n"


def test_it_can_be_done_again(alice):
    call_command("activate", alice.email)
    alice.refresh_from_db()
    assert alice.effective_status == "ACTIVE"


def test_an_unknown_address_is_refused(db):
    with pytest.raises(CommandError, match="No account has"):
        call_command("activate", "nobody@example.org")


def test_an_operators_suspension_is_not_lifted_by_it(carol):
    carol.suspended_by_operator = True
    carol.save()
    with pytest.raises(CommandError, match="suspended by an operator"):
        call_command("activate", carol.email)
    carol.refresh_from_db()
    assert carol.status == "INACTIVE"


def test_the_address_is_required():
    with pytest.raises(CommandError, match="EMAIL"):
        call_command("activate")
