"""When a study is complete: what was expected is there, or no image came any more. Late images open it again.

No sender says reliably that a study is whole, so complete is what is known until an image says otherwise. The counters'
statement of ingest (`upsert.insert_instances`) opens a study and completes one that has what was expected; beat
completes those that have become quiet.
"""

from collections.abc import Callable
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from apps.archive.models import ExpectedStudy
from apps.archive.upsert import fetch, log_status

CHUNK = 500  # studies whose rows are held at once
MAX_CHUNKS = 100  # of one run; the next run goes on
EXPECTED_KEPT = timedelta(days=7)

# Rows that ingest holds are passed over: an image is arriving there this moment
_COMPLETE_QUIET = """
UPDATE archive_study SET status = 'complete', completed_at = now() WHERE id IN (
    SELECT s.id FROM archive_study AS s
    WHERE s.status = 'receiving' AND s.updated_at <= now() - make_interval(secs => (
        SELECT COALESCE(max(COALESCE(n.study_quiet_s, %s::int)), %s::int) FROM archive_series AS r
        LEFT JOIN nodes_remotenode AS n ON n.ae_title = r.calling_ae_title WHERE r.study_id = s.id))
    ORDER BY s.id LIMIT %s::int FOR NO KEY UPDATE OF s SKIP LOCKED)
RETURNING study_instance_uid
"""

# What was said is moved to the study as soon as both are there
_TAKE_EXPECTED = """
WITH known AS (
    SELECT s.id, s.status = 'receiving' AND s.instance_count >= e.instance_count AS is_last, e.id AS expected_id,
        e.instance_count AS expected
    FROM archive_study AS s JOIN archive_expectedstudy AS e USING (study_instance_uid)
    ORDER BY s.id LIMIT %s::int FOR NO KEY UPDATE OF s SKIP LOCKED FOR UPDATE OF e SKIP LOCKED
), taken AS (
    DELETE FROM archive_expectedstudy WHERE id IN (SELECT expected_id FROM known)
)
UPDATE archive_study AS s SET expected_instance_count = known.expected,
    status = CASE WHEN known.is_last THEN 'complete' ELSE s.status END,
    completed_at = CASE WHEN known.is_last THEN now() ELSE s.completed_at END
FROM known WHERE s.id = known.id
RETURNING s.study_instance_uid, known.is_last
"""


def expect_instances(study_instance_uid: str, count: int) -> None:
    """The sender says that the study has `count` instances in all: with as many it is complete at once.

    For storage commitment and MPPS, which may speak before the first instance is stored and after the last. The newest
    number counts. When fewer come, the quiet time ends the waiting all the same, and pages say how many are missing.
    """
    with transaction.atomic():
        ExpectedStudy.objects.update_or_create(
            study_instance_uid=study_instance_uid, defaults={"instance_count": count}
        )
        _take_expected()


def complete_studies() -> None:
    """Complete what has what was expected or has become quiet, in pieces that hold few rows, and those not for long."""
    ExpectedStudy.objects.filter(told_at__lt=timezone.now() - EXPECTED_KEPT).delete()
    _repeat(_take_expected)
    _repeat(_complete_quiet)


def _repeat(step: Callable[[], int]) -> None:
    for _ in range(MAX_CHUNKS):
        if step() < CHUNK:
            break


def _take_expected() -> int:
    rows = fetch(_TAKE_EXPECTED, [CHUNK])
    log_status((uid, "complete") for uid, is_last in rows if is_last)
    return len(rows)


def _complete_quiet() -> int:
    rows = fetch(_COMPLETE_QUIET, [settings.STUDY_QUIET_S, settings.STUDY_QUIET_S, CHUNK])
    log_status((uid, "complete") for (uid,) in rows)
    return len(rows)
