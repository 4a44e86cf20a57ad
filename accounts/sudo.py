"""Sudo mode: who does something that hurts proves again that it is still them.

A proof holds for some minutes (``accounts.proofs``). The page that asks for one comes in the place
of the answer, under the same address. It carries what was posted, and posts it again with the
proof, so that nothing is lost and nothing is kept elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.cache import add_never_cache_headers
from django.utils.http import urlencode

from accounts.audit import Action, audit
from accounts.models import Account
from accounts.proof_form import ProofForm
from accounts.proofs import is_proven_anew, owes_second_factor, prove_anew
from core.pages import error_page, page

View = Callable[..., HttpResponseBase]

# Which request the page stands in for.
_INSTEAD_OF = f"{ProofForm.prefix}-instead-of"


def needs_sudo(view: View) -> View:
    """Serve whoever has proven in the last minutes that it is them; have others do so first."""

    @wraps(view)
    def served(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if _looks_as_somebody_else(request):
            return error_page(
                request, 403, "You are looking as an operator, and can change nothing here."
            )
        account = cast(Account, request.user)
        is_owed = owes_second_factor(request, account)
        if _INSTEAD_OF in request.POST:
            form = ProofForm(request, account, data=request.POST, takes_password=not is_owed)
            if not form.is_valid():
                return _ask(request, form, request.POST[_INSTEAD_OF])
            prove_anew(request.session, second_factor=form.is_second_factor)
            audit(account=account, action=Action.SUDO_ENTERED, page=request.path)
            if request.POST[_INSTEAD_OF] != "POST":
                return HttpResponseRedirect(request.get_full_path())
            _take_proof_out(request)
        elif is_owed or not is_proven_anew(request.session):
            form = ProofForm(request, account, data=None, takes_password=not is_owed)
            return _ask(request, form, request.method or "GET")
        return view(request, *args, **kwargs)

    return served


def needs_second_factor(view: View) -> View:
    """Send those away to show the second factor who owe it; for what asks for a password itself."""

    @wraps(view)
    def served(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if owes_second_factor(request, cast(Account, request.user)):
            return to_second_step(request)
        return view(request, *args, **kwargs)

    return served


def to_second_step(request: HttpRequest) -> HttpResponseRedirect:
    """Return the way to where the second factor is asked for, and back to the page it is for."""
    return redirect(f"{reverse('second-step')}?{urlencode({'next': request.get_full_path()})}")


def _looks_as_somebody_else(request: HttpRequest) -> bool:
    return getattr(request, "operator", None) is not None


def _ask(request: HttpRequest, form: ProofForm, instead_of: str) -> HttpResponse:
    carried = [
        (name, value)
        for name, values in request.POST.lists()
        if not _is_of_proof(name)
        for value in values
    ]
    context = {
        "form": form,
        "carried": carried,
        "instead_of": (_INSTEAD_OF, instead_of),
    }
    response = page(request, "dashboard/sudo.html", context, status=400 if form.is_bound else 200)
    add_never_cache_headers(response)
    return response


def _take_proof_out(request: HttpRequest) -> None:
    """Leave what was posted at first: the view knows nothing of the page in between."""
    sent = request.POST.copy()
    for name in list(sent):
        if _is_of_proof(name):
            del sent[name]
    request.POST = sent  # type: ignore[assignment]


def _is_of_proof(name: str) -> bool:
    return name == "csrfmiddlewaretoken" or name.startswith(f"{ProofForm.prefix}-")
