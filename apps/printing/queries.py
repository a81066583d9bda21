"""What the print pages ask."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db.models import Count, QuerySet

from apps.printing.models import Printer, PrintJob, SheetPrint
from apps.printing.progress import Progress

if TYPE_CHECKING:
    from apps.accounts.models import User


@dataclass(frozen=True)
class JobLine:
    """One job with how far it is; `trouble` is the sheet that waits for another try, or that has failed."""

    job: PrintJob
    progress: Progress
    trouble: SheetPrint | None


def jobs_of(user: User, is_mine_only: bool) -> QuerySet[PrintJob]:
    """Jobs of studies that this user may see, the newest first."""
    jobs = PrintJob.objects.visible_to(user)
    jobs = jobs.filter(requested_by=user) if is_mine_only else jobs
    return jobs.select_related("printer", "study__patient", "requested_by")


def lines_of(jobs: Iterable[PrintJob]) -> list[JobLine]:
    """These jobs with their progress; two queries."""
    listed = list(jobs)
    pks = [job.pk for job in listed]
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    rows = SheetPrint.objects.filter(job__in=pks).order_by().values_list("job", "state").annotate(count=Count("pk"))
    for pk, state, count in rows:
        counts[pk][state] = count
    troubled = SheetPrint.objects.filter(job__in=pks).exclude(last_error="").order_by("-position", "-copy")
    troubles = {row.job_id: row for row in troubled.exclude(state__in=SheetPrint.SETTLED)}
    return [JobLine(job, _progress(counts[job.pk]), troubles.get(job.pk)) for job in listed]


def sheets_of(job: PrintJob) -> QuerySet[SheetPrint]:
    """The job's sheets in order, with their rasters."""
    return job.sheet_prints.select_related("raster", "sheet")


def active_printers() -> QuerySet[Printer]:
    """Printers that take jobs, in the order in which they are offered."""
    return Printer.objects.filter(is_active=True)


def _progress(states: Counter[str]) -> Progress:
    groups = {name: sum(states[state] for state in group) for name, group in SheetPrint.GROUPS.items()}
    return Progress(states.total(), **groups)
