"""Signing out everywhere: ends all sessions and tokens of an account, including this one."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth import logout
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.views.decorators.http import require_POST

from accounts.services import account_sign_out_everywhere
from dashboard.access import PageRequest, for_customer


@for_customer
@require_POST
def sign_out_everywhere(request: PageRequest) -> HttpResponse:
    account_sign_out_everywhere(account=request.user)
    logout(request)
    messages.success(request, "You are signed out everywhere. Your API keys keep working.")
    return redirect("log-in")


urlpatterns = [
    path("dashboard/settings/sign-out-everywhere", sign_out_everywhere, name="sign-out-everywhere"),
]
