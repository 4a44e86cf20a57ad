"""The ``web`` process: REST API, pages, admin."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

application = get_wsgi_application()

from core.boundary import BoundedWSGIRequest  # noqa: E402 (needs the settings)

application.request_class = BoundedWSGIRequest
