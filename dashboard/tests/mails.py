"""Emails that the pages have sent: the queue's jobs, run here."""

from __future__ import annotations

import json
import re
from typing import Any

from django.core import mail
from django.core.mail import EmailMessage
from django.db import connection

from accounts.tasks import send_mail, send_password_reset

_TASKS: dict[str, Any] = {
    "accounts.tasks.send_mail": send_mail,
    "accounts.tasks.send_password_reset": send_password_reset,
}


def jobs(*tasks: str) -> list[tuple[str, dict[str, Any]]]:
    """Take the queued jobs of these tasks out of the queue: task and arguments, oldest first."""
    with connection.cursor() as cursor:
        cursor.execute(
            "with taken as (delete from procrastinate_jobs where task_name = any(%s) returning *)"
            " select task_name, args::text from taken order by id",
            [list(tasks)],
        )
        return [(task, json.loads(arguments)) for task, arguments in cursor.fetchall()]


def sent() -> list[EmailMessage]:
    """Do the queued jobs; return what was sent by them."""
    mail.outbox.clear()
    for task, arguments in jobs(*_TASKS):
        _TASKS[task](**arguments)
    return list(mail.outbox)


def path_in(message: EmailMessage) -> str:
    """Return the path of the one link of ours that a mail holds."""
    [path] = re.findall(r"^https?://[^/\s]+(/\S+)$", str(message.body), re.MULTILINE)
    return str(path)
