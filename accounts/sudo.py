"""Sudo mode: sensitive actions ask people to confirm their identity again.

A confirmation is valid for some minutes (``accounts.proofs``). The page that asks for it replaces
the response, at the same URL. It carries the posted fields and posts them again with the proof, so
that nothing is lost and nothing is stored.
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
from core.errors import ApiError
from core.pages import page

View = Callable[..., HttpResponseBase]

# The method of the request that the page replaces.
_INSTEAD_OF = f"{ProofForm.prefix}-instead-of"


def needs_sudo(view: View) -> View:
    """Serve those who confirmed their identity in the last minutes; ask others to do so first."""

    @wraps(view)
    def served(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if _looks_as_somebody_else(request):
            raise view_only()
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
    """Redirect to the second factor if it is missing; for views that ask for a password."""

    @wraps(view)
    def served(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if owes_second_factor(request, cast(Account, request.user)):
            return to_second_step(request)
        return view(request, *args, **kwargs)

    return served


def to_second_step(request: HttpRequest) -> HttpResponseRedirect:
    """Redirect to the second-factor step, which leads back to this page."""
    return redirect(f"{reverse('second-step')}?{urlencode({'next': request.get_full_path()})}")


VIEW_ONLY = "view_only"


def view_only() -> ApiError:
    """Return the refusal of what an operator may not do while viewing as a customer."""
    return ApiError(403, VIEW_ONLY, "Changes are not allowed while you view as a customer.")


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
    """Restore the original POST, so that the view does not see the proof."""
    sent = request.POST.copy()
    for name in list(sent):
        if _is_of_proof(name):
            del sent[name]
    request.POST = sent  # type: ignore[assignment]


def _is_of_proof(name: str) -> bool:
    return name == "csrfmiddlewaretoken" or name.startswith(f"{ProofForm.prefix}-")
