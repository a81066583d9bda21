"""Asking for a study, stopping and repeating that, and telling workers what is due."""

import re

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.db.models.functions import Now

from apps.accounts.models import User
from apps.core.queue import RUN_RETRIEVE, enqueue
from apps.nodes.models import RemoteNode
from apps.transfer.errors import RetrieveRefusedError
from apps.transfer.models import RetrieveJob

State = RetrieveJob.State
DUE_JOBS_MAX = 500
_UID = re.compile(r"[0-9A-Za-z._-]{1,64}")  # broader than PS3.5 9: what a PACS calls a UID; never a list or a wildcard


def request_retrieve(user: User, node: RemoteNode, study_instance_uid: str, expected: int | None = None) -> RetrieveJob:
    """Ask for one study; where it is being fetched from there already, that job.

    expected is the number of instances as far as known. Raises RetrieveRefusedError.
    """
    if not (node.is_active and node.may_be_retrieved_from):
        raise RetrieveRefusedError(f"{node.name} is not set up for retrieving. An administrator can allow it.")
    if not _UID.fullmatch(study_instance_uid):
        raise RetrieveRefusedError("This is not a Study Instance UID.")
    key = {"node": node, "study_instance_uid": study_instance_uid}
    try:
        with transaction.atomic():
            job = RetrieveJob.objects.create(**key, requested_by=user, expected_count=expected)
            enqueue(RUN_RETRIEVE, job.pk)
    except IntegrityError:  # one live job for a node and study
        return RetrieveJob.objects.filter(**key).latest("pk")
    return job


def retry_retrieve(job_id: int) -> bool:
    """Start a failed or cancelled job again; False when it is neither, or another job fetches the study now."""
    try:
        with transaction.atomic():
            restarted = RetrieveJob.objects.filter(pk=job_id, state__in=[State.FAILED, State.CANCELLED]).update(
                state=State.QUEUED,
                attempts=0,
                next_attempt_at=Now(),
                told_at=Now(),
                cancel_requested_at=None,
                last_error="",
                started_at=None,
                finished_at=None,
                remaining_count=0,
                completed_count=0,
                failed_count=0,
                warning_count=0,
            )
            if restarted:
                enqueue(RUN_RETRIEVE, job_id)
    except IntegrityError:
        return False
    return bool(restarted)


def cancel_retrieve(job_id: int) -> bool:
    """Stop a job: at once where nobody works on it, else its worker is asked to. False when it had ended already."""
    idle = Q(state=State.QUEUED) | Q(state=State.RUNNING, lease_until__lt=Now())
    job = RetrieveJob.objects.filter(pk=job_id)
    if job.filter(idle).update(state=State.CANCELLED, claimed_by="", lease_until=None, finished_at=Now()):
        return True
    return bool(job.filter(state=State.RUNNING).update(cancel_requested_at=Now()))


@transaction.atomic
def enqueue_due_work() -> int:
    """Tell workers of jobs whose time has come or whose worker is gone; returns how many. Safe to run side by side."""
    untold = RetrieveJob.objects.untold().order_by("pk").select_for_update(skip_locked=True)
    due = list(untold.values_list("pk", flat=True)[:DUE_JOBS_MAX])
    RetrieveJob.objects.filter(pk__in=due).update(told_at=Now())
    for job_id in due:
        enqueue(RUN_RETRIEVE, job_id)
    return len(due)
