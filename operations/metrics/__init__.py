"""Metrics for Prometheus: ``/metrics`` of each process, on a port of its own.

``exporting`` starts the exporter of a gunicorn or a worker; ``exporter`` is what it runs.
``measuring`` subscribes to facts (``core.observers``) in each process that does the work.
``meters`` has every metric but those of ``figures``, which a worker reads from the database.

A process stores its values in files (prometheus_client's multiprocess mode), so that any number of
gunicorn's workers add up, and that no scrape, however slow, takes time from a call or needs the
database.
"""
