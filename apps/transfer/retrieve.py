"""Fetching one study: C-MOVE to our own AE (PS3.4 C.4.2), followed response by response.

The images come to the receiver like any others; here only the counts are kept. The network is read by a thread of its
own, so that the lease is renewed and a cancel is seen while the node says nothing, as it may (PS3.4 C.4.2.3.1).
"""

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from pydicom.dataset import Dataset
from pydicom.uid import UID

from apps.core.errors import DicomsysError, PermanentError, RetryableError
from apps.nodes.associations import PeerAssociation, associate
from apps.nodes.errors import DimseStatusError, PeerUnavailableError, peer_error
from apps.nodes.models import RemoteNode
from apps.nodes.status import CANCELLED, MOVE_DESTINATION_UNKNOWN, MOVE_WITH_FAILURES, PENDING, SUCCESS
from apps.transfer.claim import MAX_ATTEMPTS, Claim, ClaimLostError, Counts
from apps.transfer.models import RetrieveJob
from apps.transfer.queries import stored_counts

logger = logging.getLogger(__name__)

STUDY_ROOT_MOVE = UID("1.2.840.10008.5.1.4.1.2.2.2")
MESSAGE_ID = 1
READ_S = 24 * 3600.0  # the DIMSE time-out of the reading thread: `Pace.silence_s` is what counts
State = RetrieveJob.State


@dataclass(frozen=True)
class Pace:
    """Times of one run, in seconds."""

    commit_s: float = 0.5  # counts are written at most this often, a cancel is seen this soon
    renew_s: float = 5.0
    lease_s: float = 30.0
    silence_s: float = 300.0  # without a response and without a new instance here: some nodes read from tape first
    cancel_s: float = 10.0  # how long a node may take to confirm C-CANCEL


@dataclass(frozen=True)
class Final:
    """The last response: its status and its counts; `counts` is None where it carried none."""

    status: int
    counts: Counts | None


def run_retrieve(job_id: int, pace: Pace = Pace()) -> None:  # noqa: B008  # frozen
    """Fetch what one job asks for, if it is due and nobody else does.

    Delivered twice, it runs once. On an error that may pass, the job waits for its next attempt; the node's failed
    sub-operations end it as FAILED, to be started again by a person. Never raises for what peers or the network do.
    """
    try:
        claim = Claim.take(job_id, pace.lease_s)
        if claim is not None:
            _run(claim, RetrieveJob.objects.select_related("node").get(pk=job_id), pace)
    except ClaimLostError as error:
        logger.warning("%s", error)
    except (OperationalError, InterfaceError) as error:
        connection.close()
        logger.warning("retrieve job %d waits for the database (%s)", job_id, type(error).__name__)


def _run(claim: Claim, job: RetrieveJob, pace: Pace) -> None:
    try:
        _refuse_if_pointless(job)
        if job.cancel_requested_at:
            claim.finish(State.CANCELLED)
            return
        final = _Move(claim, job, pace).run()
        if final.counts and final.counts.total:
            claim.renew(final.counts)
        _conclude(claim, job, final)
    except RetryableError as error:
        logger.info("retrieve job %d, attempt %d: %s", job.pk, job.attempts, error)
        claim.retry_later(str(error))
    except PermanentError as error:
        logger.warning("retrieve job %d failed: %s", job.pk, error)
        claim.finish(State.FAILED, str(error))


def _refuse_if_pointless(job: RetrieveJob) -> None:
    if job.attempts > MAX_ATTEMPTS:
        raise PermanentError(f"The work was interrupted {job.attempts - 1} times. See the worker's log.")
    if not (job.node.is_active and job.node.may_be_retrieved_from):
        raise PermanentError(f"{job.node.name} is no longer set up for retrieving.")


def _conclude(claim: Claim, job: RetrieveJob, final: Final) -> None:
    """From the final status (PS3.4 table C.4-2) to the state of the job. Raises the error of a failure status."""
    counts = final.counts or Counts()
    if final.status == CANCELLED:
        claim.finish(State.CANCELLED, "" if claim.is_cancel_requested() else f"{job.node.name} stopped by itself.")
    elif final.status == MOVE_WITH_FAILURES or (final.status == SUCCESS and counts.failed_count):
        claim.finish(State.FAILED, _partly_text(job.node, counts))
    elif final.status != SUCCESS:
        raise _explain(job.node, DimseStatusError("C-MOVE", final.status))
    elif final.counts and not counts.total and not stored_counts([job.study_instance_uid]):
        claim.finish(State.FAILED, f"{job.node.name} found nothing to send. The study may have been moved or deleted.")
    else:
        claim.finish(State.DONE)


def _partly_text(node: RemoteNode, counts: Counts) -> str:
    return (
        f"{node.name} could not send {counts.failed_count or 'some'} of {counts.total or 'the'} images. "
        "Those that came are kept; retry to fetch the rest. Its log may tell why."
    )


def _explain(node: RemoteNode, error: DimseStatusError) -> DicomsysError:
    we = f"our AE title {settings.AE_TITLE}"
    if error.status == MOVE_DESTINATION_UNKNOWN:
        advice = f"{node.name} does not know {we}: have it added there, with this machine's address and port"
        text = f"{advice} {settings.DICOM_PORT} (status 0xA801)."
    elif error.status in range(0xC000, 0xD000) or error.status == 0xA702:
        text = (
            f"{node.name} could not send the images (status 0x{error.status:04X}). Check there that it knows {we} "
            f"with this machine's address and port {settings.DICOM_PORT}, and that the study still exists."
        )
    else:
        text = f"{node.name}: {error}."
    failure = peer_error(text, error)
    failure.__cause__ = error
    return failure


class _Move:
    """One C-MOVE, from request to final response."""

    def __init__(self, claim: Claim, job: RetrieveJob, pace: Pace) -> None:
        self.claim, self.job, self.pace = claim, job, pace
        self.responses: SimpleQueue[tuple[Dataset, Dataset | None]] = SimpleQueue()
        self.counts: Counts | None = None  # of the newest response
        self.written: Counts | None = None
        self.stored = 0
        self.last_sign = self.last_renewal = time.monotonic()
        self.cancel_deadline: float | None = None

    def run(self) -> Final:
        """Send the request and follow it to its end. Raises RetryableError, PermanentError or ClaimLostError."""
        try:
            with associate(self.job.node, [STUDY_ROOT_MOVE], dimse_timeout_s=READ_S) as link:
                association = link.ready("C-MOVE")
                answers = association.send_c_move(_identifier(self.job), settings.AE_TITLE, STUDY_ROOT_MOVE, MESSAGE_ID)
                threading.Thread(target=_pump, args=(answers, self.responses), daemon=True, name="c-move").start()
                return self._follow(link)
        finally:
            self._keep_hold()

    def _follow(self, link: PeerAssociation) -> Final:
        while True:
            final = self._read_until(link, time.monotonic() + self.pace.commit_s)
            if final is not None:
                return final
            self._keep_hold()
            self._cancel_if_asked(link)
            if self.cancel_deadline and time.monotonic() > self.cancel_deadline:
                link.abort()
                return Final(CANCELLED, self.counts)
            if time.monotonic() - self.last_sign > self.pace.silence_s:
                raise _silent(self.job.node, self.pace)

    def _read_until(self, link: PeerAssociation, deadline: float) -> Final | None:
        """Take responses as they come; the final one ends the wait."""
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                answer, _ = self.responses.get(timeout=left_s)
            except Empty:
                return None
            status = link.status_of("C-MOVE", answer)
            self.last_sign = time.monotonic()
            self.counts = _counts_of(answer) or self.counts
            if status not in PENDING:
                return Final(status, _counts_of(answer))
        return None

    def _keep_hold(self) -> None:
        """Write new counts and renew the lease; instances that were stored meanwhile are a sign of life, too."""
        now = time.monotonic()
        if now - self.last_renewal >= self.pace.renew_s:
            stored = stored_counts([self.job.study_instance_uid]).get(self.job.study_instance_uid, 0)
            self.last_sign = now if stored > self.stored else self.last_sign
            self.stored = stored
        elif self.counts == self.written:
            return
        self.claim.renew(self.counts)
        self.written, self.last_renewal = self.counts, now

    def _cancel_if_asked(self, link: PeerAssociation) -> None:
        if self.cancel_deadline is None and self.claim.is_cancel_requested():
            self.cancel_deadline = time.monotonic() + self.pace.cancel_s
            if link.association.is_established:
                link.association.send_c_cancel(MESSAGE_ID, query_model=STUDY_ROOT_MOVE)


def _identifier(job: RetrieveJob) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.StudyInstanceUID = job.study_instance_uid
    return identifier


def _pump(
    answers: Iterator[tuple[Dataset, Dataset | None]], responses: SimpleQueue[tuple[Dataset, Dataset | None]]
) -> None:
    for answer in answers:
        responses.put(answer)


def _counts_of(answer: Dataset) -> Counts | None:
    """The counts of a response; None where it carries none."""
    names = ("Remaining", "Completed", "Failed", "Warning")
    values = [answer.get(f"NumberOf{name}Suboperations") for name in names]
    if all(value is None for value in values):
        return None
    return Counts(*(int(value or 0) for value in values))


def _silent(node: RemoteNode, pace: Pace) -> PeerUnavailableError:
    return PeerUnavailableError(
        f"{node.name} neither answered nor sent an image for {pace.silence_s:g} s. It may be overloaded; try again."
    )
