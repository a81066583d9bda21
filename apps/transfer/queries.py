"""What pages and workers ask about transfers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils import timezone

from apps.archive.models import Study
from apps.nodes.models import RemoteNode
from apps.transfer.find import FoundStudy
from apps.transfer.models import RetrieveJob

if TYPE_CHECKING:
    from apps.accounts.models import User

STORING_S = 120  # after a fetch its images may still be on their way through ingest


@dataclass(frozen=True)
class StudyLine:
    """How far one study of a node is here.

    expected is what the node counts, None where it does not tell; stored is what is here, for everybody to know; study
    is the stored study only where this user may see it; job is the newest fetch from this node; found is what the node
    said of the study.
    """

    node: RemoteNode
    study_instance_uid: str
    expected: int | None
    stored: int
    study: Study | None = None
    job: RetrieveJob | None = None
    found: FoundStudy | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all images are here, as far as the node tells how many there are."""
        return bool(self.stored and self.expected and self.stored >= self.expected)

    @property
    def is_storing(self) -> bool:
        """Whether a fetch has just ended and fewer images are stored than were sent."""
        job = self.job
        if job is None or job.finished_at is None or job.state != RetrieveJob.State.DONE:
            return False
        is_recent = (timezone.now() - job.finished_at).total_seconds() < STORING_S
        return is_recent and self.stored < job.completed_count + job.warning_count

    @property
    def is_moving(self) -> bool:
        """Whether a page should look again."""
        return self.is_storing or (self.job is not None and self.job.is_live)


def stored_counts(study_instance_uids: Iterable[str]) -> dict[str, int]:
    """How many instances of each study are stored here now; studies that are not here are left out.

    Counts only: whoever may fetch a study may know how much of it is here, not what it shows.
    """
    studies = Study.objects.filter(study_instance_uid__in=list(study_instance_uids))
    return dict(studies.values_list("study_instance_uid", "instance_count"))


def lines_of_found(user: User, node: RemoteNode, found: Sequence[FoundStudy]) -> list[StudyLine]:
    """One line for each study that a node was found to have."""
    uids = [study.study_instance_uid for study in found]
    stored, visible, newest = stored_counts(uids), _visible_studies(user, uids), newest_jobs(node, uids)
    return [
        StudyLine(node, uid, each.instance_count, stored.get(uid, 0), visible.get(uid), newest.get(uid), each)
        for uid, each in zip(uids, found, strict=True)
    ]


def lines_of_jobs(user: User, jobs: Sequence[RetrieveJob]) -> list[StudyLine]:
    """One line for each job."""
    uids = [job.study_instance_uid for job in jobs]
    stored, visible = stored_counts(uids), _visible_studies(user, uids)
    return [
        StudyLine(job.node, uid, job.expected_count, stored.get(uid, 0), visible.get(uid), job)
        for uid, job in zip(uids, jobs, strict=True)
    ]


def newest_jobs(node: RemoteNode, study_instance_uids: Iterable[str]) -> dict[str, RetrieveJob]:
    """The newest job of each of these studies at this node, by Study Instance UID."""
    jobs = RetrieveJob.objects.filter(node=node, study_instance_uid__in=list(study_instance_uids))
    newest = jobs.order_by("study_instance_uid", "-pk").distinct("study_instance_uid").select_related("node")
    return {job.study_instance_uid: job for job in newest}


def _visible_studies(user: User, study_instance_uids: list[str]) -> dict[str, Study]:
    studies = Study.objects.visible_to(user).filter(study_instance_uid__in=study_instance_uids)
    return {study.study_instance_uid: study for study in studies.select_related("patient")}
