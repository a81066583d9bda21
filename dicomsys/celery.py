"""The Celery application: which modules hold tasks, and nothing more (settings are Django's)."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dicomsys.settings")

app = Celery("dicomsys")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(
    ["workers.ingest", "workers.transfer", "workers.printing", "workers.maintenance"], related_name=None
)
