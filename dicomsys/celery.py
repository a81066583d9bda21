"""The Celery application: which modules hold tasks, and nothing more (settings are Django's)."""

import os

from celery import Celery
from celery.signals import worker_init

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dicomsys.settings")

app = Celery("dicomsys")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(
    ["workers.ingest", "workers.transfer", "workers.printing", "workers.maintenance"], related_name=None
)


@worker_init.connect
def check_queues(**kwargs: object) -> None:
    """A worker refuses to start without its queues."""
    from apps.core.broker import refuse_to_work_without_queues

    refuse_to_work_without_queues()
