"""One worker's hold on a RetrieveJob: every change is a conditional update, which nobody else's hold matches."""

from __future__ import annotations

import os
import socket
from dataclasses import asdict, dataclass
from datetime import timedelta
from uuid import uuid4

from django.db.models import F, Value
from django.db.models.functions import Coalesce, Greatest, Now

from apps.core.errors import DicomsysError
from apps.transfer.models import RetrieveJob

State = RetrieveJob.State
BACK_OFF_S = (10, 60, 300)
MAX_ATTEMPTS = len(BACK_OFF_S) + 1


class ClaimLostError(DicomsysError):
    """The lease lapsed and another worker may hold the job now: stop, and change nothing."""


@dataclass(frozen=True)
class Counts:
    """Sub-operations of one C-MOVE response (PS3.7 9.1.4.1.7 to 9.1.4.1.10)."""

    remaining_count: int = 0
    completed_count: int = 0
    failed_count: int = 0
    warning_count: int = 0

    @property
    def total(self) -> int:
        """All sub-operations of the operation."""
        return self.remaining_count + self.completed_count + self.failed_count + self.warning_count


@dataclass(frozen=True)
class Claim:
    """The hold of `holder` on one job, for `lease_s` from each renewal."""

    job_id: int
    holder: str
    lease_s: float

    @classmethod
    def take(cls, job_id: int, lease_s: float) -> Claim | None:
        """Claim a due job; None when it is not due, done, or held by another worker. Counts as an attempt."""
        claim = cls(job_id, f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}", lease_s)
        taken = (
            RetrieveJob.objects.due()
            .filter(pk=job_id)
            .update(
                state=State.RUNNING,
                claimed_by=claim.holder,
                lease_until=claim._lease_end(),
                attempts=F("attempts") + 1,
                started_at=Coalesce("started_at", Now()),
            )
        )
        return claim if taken else None

    def renew(self, counts: Counts | None = None) -> None:
        """Hold on, and write the counts where they are new. Raises ClaimLostError."""
        values = asdict(counts) if counts else {}
        if counts:
            values["expected_count"] = Greatest(Coalesce("expected_count", Value(0)), Value(counts.total))
        self._update(lease_until=self._lease_end(), **values)

    def is_cancel_requested(self) -> bool:
        """Whether a person asked to stop."""
        return RetrieveJob.objects.filter(pk=self.job_id, cancel_requested_at__isnull=False).exists()

    def finish(self, state: RetrieveJob.State, error: str = "") -> None:
        """The end of the job. Raises ClaimLostError."""
        self._release(state=state, last_error=error[:500], finished_at=Now())

    def retry_later(self, error: str) -> None:
        """Wait and try again: 10 s, 1 min, 5 min; then the job has failed. Raises ClaimLostError."""
        attempts = RetrieveJob.objects.values_list("attempts", flat=True).get(pk=self.job_id)
        if self.is_cancel_requested():
            self.finish(State.CANCELLED)
        elif attempts >= MAX_ATTEMPTS:
            self.finish(State.FAILED, f"Given up after {attempts} attempts. {error}")
        else:
            pause = timedelta(seconds=BACK_OFF_S[attempts - 1])
            self._release(state=State.QUEUED, last_error=error[:500], next_attempt_at=Now() + pause)

    def _release(self, **values: object) -> None:
        self._update(claimed_by="", lease_until=None, **values)

    def _update(self, **values: object) -> None:
        mine = RetrieveJob.objects.filter(pk=self.job_id, state=State.RUNNING, claimed_by=self.holder)
        if not mine.update(**values):
            raise ClaimLostError(f"retrieve job {self.job_id} is no longer held by {self.holder}")

    def _lease_end(self) -> object:
        return Now() + timedelta(seconds=self.lease_s)
