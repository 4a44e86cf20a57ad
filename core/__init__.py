"""Infrastructure that every app uses: HTTP, errors, ids, secrets, the queue, the database."""
