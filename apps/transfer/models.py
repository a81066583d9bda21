"""What we fetch from other systems."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from apps.nodes.models import RemoteNode

TELL_AGAIN_S = 900  # a message is not lost; this is for the case that one was


class RetrieveJobQuerySet(models.QuerySet["RetrieveJob"]):
    """Jobs by what is due; the database's clock decides."""

    def live(self) -> RetrieveJobQuerySet:
        """Waiting or running: at most one for a node and study."""
        return self.filter(state__in=RetrieveJob.LIVE)

    def due(self) -> RetrieveJobQuerySet:
        """Waiting jobs whose time has come, and running ones whose holder is gone."""
        waiting = Q(state=RetrieveJob.State.QUEUED, next_attempt_at__lte=Now())
        abandoned = Q(state=RetrieveJob.State.RUNNING, lease_until__lt=Now())
        return self.filter(waiting | abandoned)

    def untold(self) -> RetrieveJobQuerySet:
        """Due jobs that no worker was told of since they became due, or so long ago that the message may be lost."""
        since_due = Q(state=RetrieveJob.State.QUEUED, told_at__lt=F("next_attempt_at")) | Q(
            state=RetrieveJob.State.RUNNING, told_at__lt=F("lease_until")
        )
        return self.due().filter(since_due | Q(told_at__lt=Now() - timedelta(seconds=TELL_AGAIN_S)))


class RetrieveJob(models.Model):
    """One study to be fetched from one node by C-MOVE to our own AE (PS3.4 C.4.2).

    A worker claims it by a conditional update and renews `lease_until` while it works; when the lease lapses, any
    worker may claim it again. Counts are those of the last response (PS3.7 9.1.4.1); what is stored is another number.
    """

    class State(models.TextChoices):
        """QUEUED → RUNNING → DONE, FAILED or CANCELLED; back to QUEUED when a retry may help."""

        QUEUED = "QUEUED", "Waiting"
        RUNNING = "RUNNING", "Running"
        DONE = "DONE", "Done"
        FAILED = "FAILED", "Failed"
        CANCELLED = "CANCELLED", "Cancelled"

    LIVE = (State.QUEUED, State.RUNNING)

    node = models.ForeignKey(RemoteNode, on_delete=models.PROTECT, related_name="retrieve_jobs")
    study_instance_uid = models.CharField("Study Instance UID", max_length=64, db_collation="C")
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    state = models.CharField(max_length=16, choices=State.choices, default=State.QUEUED)
    expected_count = models.PositiveIntegerField(null=True, help_text="Instances, as the node counts them.")
    remaining_count = models.PositiveIntegerField(default=0)
    completed_count = models.PositiveIntegerField(default=0)
    failed_count = models.PositiveIntegerField(default=0)
    warning_count = models.PositiveIntegerField(default=0)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(db_default=Now())
    told_at = models.DateTimeField(db_default=Now(), help_text="When a worker was last told.")
    cancel_requested_at = models.DateTimeField(null=True)
    last_error = models.CharField(max_length=500, blank=True)
    claimed_by = models.CharField(max_length=100, blank=True)
    lease_until = models.DateTimeField(null=True)
    created_at = models.DateTimeField(db_default=Now())
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects = RetrieveJobQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        permissions = [("query_node", "Can query remote nodes")]
        constraints = [
            models.UniqueConstraint(
                fields=["node", "study_instance_uid"],
                condition=Q(state__in=["QUEUED", "RUNNING"]),
                name="retrieve_one_live_job",
            ),
            models.CheckConstraint(
                condition=~Q(state="RUNNING") | (Q(lease_until__isnull=False) & ~Q(claimed_by="")),
                name="retrieve_running_is_claimed",
            ),
        ]
        indexes = [
            models.Index("next_attempt_at", condition=Q(state__in=["QUEUED", "RUNNING"]), name="retrieve_live"),
            models.Index("node", "study_instance_uid", F("id").desc(), name="retrieve_of_study"),
        ]

    def __str__(self) -> str:
        return f"{self.study_instance_uid} from {self.node_id}: {self.get_state_display()}"

    @property
    def is_live(self) -> bool:
        """Whether it waits or runs."""
        return self.state in self.LIVE

    @property
    def is_retryable(self) -> bool:
        """Whether a person may start it again."""
        return self.state in (self.State.FAILED, self.State.CANCELLED)

    @property
    def sent_count(self) -> int:
        """Instances that the node is done with, whatever came of them."""
        return self.completed_count + self.failed_count + self.warning_count
