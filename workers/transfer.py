"""Tasks of the transfer queue."""

from celery import shared_task

from apps.core.queue import RUN_RETRIEVE
from apps.transfer import retrieve


@shared_task(name=RUN_RETRIEVE)
def run_retrieve(job_id: int) -> None:
    """Fetch one study. Delivered twice, it fetches once: the service claims the job."""
    retrieve.run_retrieve(job_id)
