"""From a closed spool batch to rows and stored files: the whole story, in order.

Run twice, side by side, or killed anywhere, it ends in the same state: the spool entry lives until the commit, files
are linked and never overwritten, and every insert leaves what is there.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from django.conf import settings
from django.db import DataError, Error, transaction

from apps.archive.compare import same_content
from apps.archive.header import Header, UnreadableError, read_header
from apps.archive.models import Conflict, Instance
from apps.archive.upsert import fetch, insert_instances, patient_key, upsert_patients, upsert_series, upsert_studies
from apps.core.leader import lock_key
from apps.storage.durable import sync_folder
from apps.storage.files import Adopted, adopt, keep_aside, writable_volume
from apps.storage.models import Volume
from apps.storage.paths import instance_path
from apps.storage.spool import BATCH_FILES, Batch, Spool

logger = logging.getLogger(__name__)


class Outcome(Enum):
    """What became of one file."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Ingested:
    """One file of a batch, what became of it, and why where that is a question."""

    path: Path
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Item:
    path: Path
    header: Header


def store_batch(name: str) -> list[Ingested]:
    """Store one closed batch, and with it the oldest others that wait, up to the size of a full batch.

    So a backlog of small batches costs no more than one of full ones. A batch that another worker has, or that is done
    already, is passed over. Raises OSError or RetryableError when the store cannot take it now: then nothing changed
    and the spool sweep asks again.
    """
    spool = Spool(settings.SPOOL_DIR)
    batches = _gather(spool, name)
    try:
        results = _store_locked(spool, batches)
    except DataError:
        logger.exception("batch %s: the database refused a value, storing its files one by one", name)
        alone = [{batch: [path]} for batch, paths in batches.items() for path in paths]
        results = [result for one in alone for result in _store_alone(spool, one)]
    if results:
        counts = Counter(result.outcome.value for result in results)
        logger.info("batch %s: %s", name, ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())))
    return results


def store_open_batch(batch: Batch) -> list[Ingested]:
    """Store the files of a batch that this process holds open, and close it: for import, which reports on each file.

    No worker sees an open batch; when this process dies, the spool sweep hands it over. Raises as `store_batch`.
    """
    paths = batch.files()
    try:
        with transaction.atomic():
            results = _store_files(paths)
    except DataError:
        logger.exception("batch %s: the database refused a value, storing its files one by one", batch.name)
        results = [result for path in paths for result in _store_path(path)]
    for path in paths:
        path.unlink()
    batch.close()
    return results


_Batches = dict[str, list[Path]]


def _gather(spool: Spool, name: str) -> _Batches:
    batches, count = {name: spool.files(name)}, len(spool.files(name))
    for other in spool.closed_batches():
        if count >= BATCH_FILES:
            break
        if other not in batches:
            batches[other] = spool.files(other)
            count += len(batches[other])
    return batches


def _store_locked(spool: Spool, batches: _Batches) -> list[Ingested]:
    with _locked(batches) as mine:
        paths = [path for name in mine for path in batches[name] if path.exists()]
        with transaction.atomic():
            results = _store_files(paths)
        for name in mine:
            spool.remove(name, batches[name])
    return results


@contextmanager
def _locked(names: Iterable[str]) -> Iterator[list[str]]:
    """Those of the names that nobody else has. The locks outlive the commit: a batch is free when it is unlinked."""
    keys = {lock_key(f"batch {name}"): name for name in names}
    taken = fetch("SELECT key FROM unnest(%s::bigint[]) AS key WHERE pg_try_advisory_lock(key)", [list(keys)])
    try:
        yield [keys[key] for (key,) in taken]
    finally:
        with suppress(Error):  # a broken connection has given them back by itself
            fetch("SELECT pg_advisory_unlock(key) FROM unnest(%s::bigint[]) AS key", [[key for (key,) in taken]])


def _store_alone(spool: Spool, batch: _Batches) -> list[Ingested]:
    try:
        return _store_locked(spool, batch)
    except DataError:
        ((name, (path,)),) = batch.items()
        result = _hold_unfit(path)
        spool.remove(name, [path])
        return [result]


def _store_path(path: Path) -> list[Ingested]:
    try:
        with transaction.atomic():
            return _store_files([path])
    except DataError:
        return [_hold_unfit(path)]


@transaction.atomic
def _hold_unfit(path: Path) -> Ingested:
    return _hold(path, Conflict.Kind.UNREADABLE, "a value in its header does not fit the database")


def _store_files(paths: list[Path]) -> list[Ingested]:
    results: list[Ingested] = []
    waiting: list[_Item] = []
    for path in paths:
        try:
            waiting.append(_Item(path, read_header(path)))
        except UnreadableError as error:
            results.append(_hold(path, Conflict.Kind.UNREADABLE, str(error)))
    while waiting:  # one turn stores every new UID; a UID met again, or won by another worker, takes a further turn
        settled, waiting = _store_round(waiting)
        results += settled
    return results


def _store_round(items: list[_Item]) -> tuple[list[Ingested], list[_Item]]:
    """Settle what is known, store one file of each new SOP Instance UID; returns (settled, to be looked at again)."""
    settled, unknown = _settle_known(items)
    first: dict[str, _Item] = {}
    again: list[_Item] = []
    for item in unknown:
        if first.setdefault(item.header.sop_instance_uid, item) is not item:
            again.append(item)
    stored, lost = _store_new(list(first.values()))
    return settled + stored, again + lost


def _settle_known(items: list[_Item]) -> tuple[list[Ingested], list[_Item]]:
    known = _known_instances(item.header.sop_instance_uid for item in items)
    settled, unknown = [], []
    for item in items:
        instance = known.get(item.header.sop_instance_uid)
        if instance is None:
            unknown.append(item)
        elif _is_same(item, instance):
            settled.append(Ingested(item.path, Outcome.DUPLICATE))
        else:
            settled.append(
                _hold_item(item, Conflict.Kind.INSTANCE, "this SOP Instance UID is stored with other content")
            )
    return settled, unknown


def _known_instances(uids: Iterable[str]) -> dict[str, Instance]:
    rows = Instance.objects.filter(sop_instance_uid__in=list(uids)).select_related("series__study", "volume")
    return {row.sop_instance_uid: row for row in rows}


def _is_same(item: _Item, instance: Instance) -> bool:
    return bytes(instance.dataset_sha256) == item.header.dataset_sha256 or same_content(item.path, instance.path)


def _store_new(items: list[_Item]) -> tuple[list[Ingested], list[_Item]]:
    settled, fitting = _refuse_misplaced(items)
    if not fitting:
        return settled, []
    patients = upsert_patients(item.header for item in fitting)
    studies = upsert_studies((item.header for item in fitting), patients)
    fits, others = _split(fitting, lambda h: studies[h.study_instance_uid][1] == patients[patient_key(h)])
    settled += [_hold_item(item, Conflict.Kind.STUDY, _OTHER_PATIENT) for item in others]
    series = upsert_series((item.header for item in fits), studies) if fits else {}
    fits, others = _split(fits, lambda h: series[h.series_instance_uid][1] == studies[h.study_instance_uid][0])
    settled += [_hold_item(item, Conflict.Kind.SERIES, _OTHER_STUDY) for item in others]
    stored, lost = _store_instances(fits, series)
    return settled + stored, lost


_OTHER_PATIENT = "this Study Instance UID belongs to another patient"
_OTHER_STUDY = "this Series Instance UID belongs to another study"


def _refuse_misplaced(items: list[_Item]) -> tuple[list[Ingested], list[_Item]]:
    """Keep aside what would join a known study of another patient or a known series of another study.

    The same is true again after the inserts, where it holds against workers side by side; asking first only spares the
    tables a patient or a study without images.
    """
    studies = {
        uid: (issuer, patient_id, only_study)
        for uid, issuer, patient_id, only_study in fetch(
            "SELECT s.study_instance_uid, p.issuer, p.patient_id, p.only_study_uid FROM archive_study s"
            " JOIN archive_patient p ON p.id = s.patient_id WHERE s.study_instance_uid = ANY(%s::text[])",
            [sorted({item.header.study_instance_uid for item in items})],
        )
    }
    series = dict(
        fetch(
            "SELECT r.series_instance_uid, s.study_instance_uid FROM archive_series r"
            " JOIN archive_study s ON s.id = r.study_id WHERE r.series_instance_uid = ANY(%s::text[])",
            [sorted({item.header.series_instance_uid for item in items})],
        )
    )
    fits, others = _split(items, lambda h: studies.get(h.study_instance_uid, patient_key(h)) == patient_key(h))
    settled = [_hold_item(item, Conflict.Kind.STUDY, _OTHER_PATIENT) for item in others]
    fits, others = _split(
        fits, lambda h: series.get(h.series_instance_uid, h.study_instance_uid) == h.study_instance_uid
    )
    return settled + [_hold_item(item, Conflict.Kind.SERIES, _OTHER_STUDY) for item in others], fits


def _store_instances(items: list[_Item], series: dict[str, tuple[int, int]]) -> tuple[list[Ingested], list[_Item]]:
    if not items:
        return [], []
    volume = writable_volume()
    settled: list[Ingested] = []
    adopted: list[tuple[_Item, Adopted]] = []
    for item in items:
        found = adopt(item.path, _target(volume, item.header))
        if found is Adopted.OCCUPIED:
            reason = "the store holds other content under this SOP Instance UID"
            settled.append(_hold_item(item, Conflict.Kind.INSTANCE, reason))
        else:
            adopted.append((item, found))
    for folder in sorted({_target(volume, item.header).parent for item, _ in adopted}):
        sync_folder(folder)
    inserted = insert_instances((item.header for item, _ in adopted), series, volume.pk)
    stored, lost = _split([item for item, _ in adopted], lambda h: h.sop_instance_uid in inserted)
    _unlink_strays(volume, [item for item, found in adopted if found is Adopted.NEW and item in lost])
    return settled + [Ingested(item.path, Outcome.STORED) for item in stored], lost


def _unlink_strays(volume: Volume, lost: list[_Item]) -> None:
    """Another worker stored the same UID first: our new link goes, unless it is the very file that worker stored."""
    winners = _known_instances(item.header.sop_instance_uid for item in lost)
    for item in lost:
        target = _target(volume, item.header)
        winner = winners.get(item.header.sop_instance_uid)
        if winner is not None and winner.path != target:
            target.unlink(missing_ok=True)


def _target(volume: Volume, header: Header) -> Path:
    return Path(volume.root) / instance_path(
        header.study_instance_uid, header.series_instance_uid, header.sop_instance_uid
    )


def _split(items: list[_Item], holds: Callable[[Header], bool]) -> tuple[list[_Item], list[_Item]]:
    fits: list[_Item] = []
    others: list[_Item] = []
    for item in items:
        (fits if holds(item.header) else others).append(item)
    return fits, others


def _hold_item(item: _Item, kind: Conflict.Kind, reason: str) -> Ingested:
    header = item.header
    row = Conflict(
        kind=kind,
        reason=reason,
        file_sha256=header.file_sha256,
        sop_instance_uid=header.sop_instance_uid,
        series_instance_uid=header.series_instance_uid,
        study_instance_uid=header.study_instance_uid,
        calling_ae_title=header.calling_ae_title,
    )
    return _keep(item.path, row, Outcome.CONFLICT)


def _hold(path: Path, kind: Conflict.Kind, reason: str) -> Ingested:
    with path.open("rb") as file:
        row = Conflict(kind=kind, reason=reason[:300], file_sha256=_digest(file))
    return _keep(path, row, Outcome.UNREADABLE)


def _digest(file: BinaryIO) -> bytes:
    digest = sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.digest()


def _keep(path: Path, row: Conflict, outcome: Outcome) -> Ingested:
    """Keep the file aside under its digest: the same file sent again adds nothing."""
    row.held_file = f"{bytes(row.file_sha256).hex()}.dcm"
    row.size_bytes = path.stat().st_size
    keep_aside(path, row.held_file)
    Conflict.objects.bulk_create([row], ignore_conflicts=True)
    logger.warning("kept aside as %s: %s", row.kind, row.reason)
    return Ingested(path, outcome, row.reason)
