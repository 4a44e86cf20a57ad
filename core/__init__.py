"""What every app stands on: HTTP, errors, ids, secrets, the queue, the database."""
