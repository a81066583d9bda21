"""Tasks of the printing queue."""

from celery import shared_task

from apps.core.queue import DRAIN_PRINTER
from apps.printing.services import run_printer


@shared_task(name=DRAIN_PRINTER)
def drain_printer(printer_id: int) -> None:
    """Print what is due on one printer, in order. Delivered twice, it prints once: the service claims each row."""
    run_printer(printer_id)
