"""The mailbox, ``/sandbox/mail/``."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from core.pages import page
from sandbox.mail.models import Mail

SHOWN = 50


@never_cache
@require_safe
def mailbox(request: HttpRequest) -> HttpResponse:
    """Show the newest emails; ``?to=`` filters by address."""
    mails = Mail.objects.order_by("-id")
    if to := request.GET.get("to", ""):
        mails = mails.filter(to=to)
    context = {"mails": mails[:SHOWN], "to": to, "shown": SHOWN}
    return page(request, "sandbox/mail/mailbox.html", context)


urlpatterns = [path("", mailbox, name="sandbox-mail")]
