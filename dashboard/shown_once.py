"""Secrets that a form created: shown on the page that it redirects to, and only there.

A response to the POST itself could show them too, but reloading it would send the form again.
On the way to the page the secret is in the session, sealed, for minutes at most.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from django.contrib.sessions.backends.base import SessionBase
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from core.sealing import CannotUnseal, seal, unseal

VALID_FOR = timedelta(minutes=5)

_NAME = "shown_once"


@sensitive_variables()
def put(session: SessionBase, what: str, secret: Any) -> None:
    """Keep a secret for the page that shows ``what``; it replaces any other.

    :param secret: anything that JSON can hold.
    """
    sealed = seal(json.dumps(secret).encode(), purpose=_purpose(what))
    session[_NAME] = {
        "what": what,
        "sealed": sealed.decode(),
        "until": (timezone.now() + VALID_FOR).timestamp(),
    }


@sensitive_variables()
def take(session: SessionBase, what: str) -> Any:
    """Return the secret, which the session then no longer has; None if there is none."""
    kept = session.get(_NAME)
    if kept is None or kept["what"] != what:
        return None
    del session[_NAME]
    if timezone.now().timestamp() >= kept["until"]:
        return None
    try:
        return json.loads(unseal(kept["sealed"].encode(), purpose=_purpose(what)))
    except CannotUnseal:  # SECRET_KEY was replaced in the meantime
        return None


def _purpose(what: str) -> str:
    return f"shown once: {what}"
