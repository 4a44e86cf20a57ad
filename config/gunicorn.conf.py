"""Gunicorn's configuration: ``PROCESS=web`` or ``PROCESS=engine``, the default.

``web`` serves the API and the pages with threads. ``engine`` serves Twilio, and all the rest too,
so that one process is enough where there is little to do.
"""

import os
import resource
import sys
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from core.logs import name_process
from core.static_files import fault_of_static_files
from operations.metrics.exporting import export, is_exported
from operations.tracing import trace

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
try:
    # Here, in the arbiter: a setting that is missing ends it, instead of one worker after another.
    host = f"[{settings.HOST}]" if ":" in settings.HOST else settings.HOST
    bind = f"{host}:{settings.PORT}"
except ImproperlyConfigured as error:
    sys.exit(str(error))
if fault := fault_of_static_files():
    sys.exit(fault)

process = settings.PROCESS
if process == "web":
    wsgi_app = "config.wsgi:application"
    worker_class = "core.serving.web_worker.WebWorker"
    threads = 8
    graceful_timeout = 30
elif process == "engine":
    wsgi_app = "config.asgi:application"
    worker_class = "core.serving.engine_worker.EngineWorker"
    # A call lasts four hours at most, and stays if there is no other engine that it can move to.
    graceful_timeout = 3 if settings.DEBUG else 4 * 3600
    # A call has two sockets, and the usual soft limit is 1,024 files.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = 65_536 if hard == resource.RLIM_INFINITY else min(65_536, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, files), hard))
else:
    sys.exit(f"PROCESS must be web or engine (it is {process!r}).")
name_process(process)

keepalive = 5
limit_request_line = 4094
logger_class = "core.serving.engine_worker.GunicornLogger"
# There is no access log: addresses hold signed links. The one control socket of a user's home would
# be fought over by the two processes.
accesslog = None
control_socket_disable = True
# The heartbeat's file: a disk that is slow for a while must not look like a worker that hangs.
memory = "/dev/shm"  # noqa: S108 # nosec B108 # gunicorn makes a file there that has no name
worker_tmp_dir = memory if os.path.isdir(memory) else None


def on_starting(server: Any) -> None:
    """Begin to serve ``/metrics``."""
    export(process)


def post_worker_init(worker: Any) -> None:
    """Let no request wait long for the database, and begin what a process does beside them."""
    from core.connections import serve_requests
    from operations.watching import Watcher
    from telephony.heartbeat import ThreadsHeartbeat
    from telephony.models import Process

    serve_requests()
    if is_exported():
        from operations.metrics.measuring import measure

        measure()
    trace()
    if process == "web":
        worker.beside = [ThreadsHeartbeat(Process.Kind.WEB), Watcher("processes", "rest")]
    else:  # an engine's heartbeat begins with its media listener
        worker.beside = [Watcher("processes")]


def worker_exit(server: Any, worker: Any) -> None:
    """End what a process does beside its requests."""
    for each in getattr(worker, "beside", ()):
        each.stop()
