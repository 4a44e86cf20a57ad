"""Indexes for the worker's statements (``core.queue.worker``).

Procrastinate's own indexes lead past every job that waits for a later time, in every lane.
"""

from django.db import migrations

_INDEXES = {
    "queue_at_once": "(queue_name, id) WHERE status = 'todo' AND scheduled_at IS NULL",
    "queue_by_time": (
        "(queue_name, scheduled_at, id) WHERE status = 'todo' AND scheduled_at IS NOT NULL"
    ),
    "queue_doing": "(id) WHERE status = 'doing'",
}


class Migration(migrations.Migration):
    atomic = False  # jobs go on while the indexes are built

    dependencies = [
        ("accounts", "0008_texts_and_ascii_emails"),
        ("procrastinate", "0041_post_retry_failed_job"),
    ]

    operations = [
        migrations.RunSQL(
            f"CREATE INDEX CONCURRENTLY {name} ON procrastinate_jobs {definition}", f"DROP INDEX {name}"
        )
        for name, definition in _INDEXES.items()
    ]
