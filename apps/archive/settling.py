"""Deciding file by file: new, duplicate, conflict or unreadable. Called in one transaction for all files of a batch."""

import logging
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from apps.archive.compare import same_content
from apps.archive.doubts import apply_decisions, note_doubts
from apps.archive.following import follow_patients, follow_series
from apps.archive.header import Header, UnreadableError, read_header
from apps.archive.holding import Ingested, Item, Outcome, file_digest, flag_strangers, hold_item, hold_unreadable
from apps.archive.models import Conflict, Instance
from apps.archive.rulebook import current_rules
from apps.archive.upsert import (
    KnownStudy,
    home_key,
    insert_instances,
    known_series,
    known_studies,
    known_uids,
    lock_homes,
    lock_studies,
    note_arrivals,
    patient_key,
    resolve_patients,
    upsert_series,
    upsert_studies,
)
from apps.storage.durable import sync_folder
from apps.storage.files import Adopted, Shelves, adopt, writable_volume
from apps.storage.models import Volume
from apps.storage.paths import file_name, instance_path, series_folder

logger = logging.getLogger(__name__)

_OTHER_CONTENT = "this SOP Instance UID is stored with other content"
_OTHER_PATIENT = "this Study Instance UID belongs to another patient"
_OTHER_STUDY = "this Series Instance UID belongs to another study"

Settled = tuple[list[Ingested], list[Item]]  # what is decided, and what is left


def store_files(paths: Iterable[Path]) -> list[Ingested]:
    """Store every file, or say why not; one result a file. Raises OSError, NoVolumeError and database errors."""
    results: list[Ingested] = []
    waiting: list[Item] = []
    rules = current_rules()
    for path in paths:
        try:
            waiting.append(Item(path, rules.coerced(read_header(path))))
        except UnreadableError as error:
            results.append(hold_unreadable(path, str(error)))
    settled, waiting = _store_into_known(waiting)
    results += settled
    while waiting:  # one turn stores every new UID; a UID met again, or won by another worker, takes a further turn
        settled, waiting = _store_round(waiting)
        results += settled
    return results


def _store_round(items: list[Item]) -> Settled:
    settled, unknown = _settle_known(items)
    first: dict[str, Item] = {}
    again: list[Item] = []
    for item in unknown:
        if first.setdefault(item.header.sop_instance_uid, item) is not item:
            again.append(item)
    stored, lost = _store_new(list(first.values()))
    return settled + stored, again + lost


# --- The usual case: one more instance of a series


def _store_into_known(items: list[Item]) -> Settled:
    """In two statements: files whose series is stored, in the same study of the same patient, and whose name is free.

    Whatever is not as plain as that is left. All known studies of the batch are locked here, before anything else, so
    that two workers never wait for each other.
    """
    homes = lock_homes(item.header for item in items)
    plain: dict[str, Item] = {}
    for item in items:
        if home_key(item.header) in homes and not item.header.texts:
            plain.setdefault(item.header.sop_instance_uid, item)
    if not plain:
        return [], items
    volume = writable_volume()
    with closing(Shelves(Path(volume.root))) as shelves:
        new = [item for item in plain.values() if shelves.put(item.path, *_place(item.header))]
        shelves.sync()
        series = {home[0]: keys for home, keys in homes.items()}
        inserted = insert_instances([item.header for item in new], series, volume.pk)
        for item in new:
            if item.header.sop_instance_uid not in inserted:
                shelves.drop(*_place(item.header))
    stored = {item.path for item in new if item.header.sop_instance_uid in inserted}
    settled = [Ingested(item.path, Outcome.STORED) for item in new if item.path in stored]
    return settled, [item for item in items if item.path not in stored]


def _place(header: Header) -> tuple[str, str]:
    """Folder below the volume's root, and name in it."""
    return series_folder(header.study_instance_uid, header.series_instance_uid), file_name(header.sop_instance_uid)


# --- What is known already


def _settle_known(items: list[Item]) -> Settled:
    known = _known_instances(item.header.sop_instance_uid for item in items)
    settled, unknown = [], []
    for item in items:
        instance = known.get(item.header.sop_instance_uid)
        if instance is None:
            unknown.append(item)
        else:
            settled.append(_settle_against(item, instance))
    return settled, unknown


def _known_instances(uids: Iterable[str]) -> dict[str, Instance]:
    known = known_uids(uids)
    if not known:
        return {}
    rows = Instance.objects.filter(sop_instance_uid__in=known).select_related("series__study", "volume")
    return {row.sop_instance_uid: row for row in rows}


def _settle_against(item: Item, instance: Instance) -> Ingested:
    """A duplicate only when the stored copy is really there: the sender may delete its own after our Success."""
    is_equal = bytes(instance.dataset_sha256) == item.header.dataset_sha256
    if not instance.path.is_file():
        return _restore(item, instance) if is_equal else _hold_other(item, "stored, but its file is missing")
    if file_digest(instance.path) != bytes(instance.file_sha256):
        return _hold_other(item, "stored, but its file is damaged")
    if is_equal or same_content(item.path, instance.path):
        return Ingested(item.path, Outcome.DUPLICATE)
    return hold_item(item, Conflict.Kind.INSTANCE, _OTHER_CONTENT)


def _restore(item: Item, instance: Instance) -> Ingested:
    if adopt(item.path, instance.path) is Adopted.OCCUPIED:
        return _hold_other(item, "stored, but its file is damaged")
    sync_folder(instance.path.parent)
    digests = {"file_sha256": item.header.file_sha256, "size_bytes": item.header.size_bytes}
    Instance.objects.filter(pk=instance.pk).update(**digests)
    logger.error("the file of %s was missing from the store: restored from what was sent", instance.sop_instance_uid)
    return Ingested(item.path, Outcome.DUPLICATE, "the stored file was missing and is restored")


def _hold_other(item: Item, trouble: str) -> Ingested:
    logger.error("%s is %s", item.header.sop_instance_uid, trouble)
    return hold_item(item, Conflict.Kind.INSTANCE, f"this SOP Instance UID is {trouble}")


# --- What is new


def _store_new(items: list[Item]) -> Settled:
    if not items:
        return [], []
    settled: list[Ingested] = []
    known = known_studies(item.header.study_instance_uid for item in items)
    items = apply_decisions(items, known)
    items = [as_its_study_came(item, known.get(_study(item))) for item in items]
    items = follow_patients(items, known)
    fits = _hold_others(settled, items, lambda h: _is_of_its_study(h, known), Conflict.Kind.STUDY, _OTHER_PATIENT)
    homes = known_series(item.header.series_instance_uid for item in fits)
    fits = follow_series(fits, homes, known)
    fits = _hold_others(settled, fits, lambda h: _is_of_its_series(h, homes), Conflict.Kind.SERIES, _OTHER_STUDY)
    fits, again = _split_by_patient(fits)
    resolved = resolve_patients(item.header for item in fits if item.header.study_instance_uid not in known)
    patients = resolved.patients | {uid: study.patient_pk for uid, study in known.items()}
    studies = upsert_studies((item.header for item in fits), patients)
    # Another worker has just made the study for another patient: to be judged against that
    again += [item for item in fits if studies[_study(item)][1] != patients[_study(item)]]
    fits = [item for item in fits if item not in again]
    # From here on no other worker stores into these studies: what it stored is committed, or it is gone. Series come
    # after that: else one worker could hold a series that another, who holds the study, waits for.
    lock_studies({studies[_study(item)][0] for item in fits})
    note_arrivals(resolved.arrived_as)
    flag_strangers(resolved.strangers)
    series = upsert_series((item.header for item in fits), studies)
    fits = _hold_others(
        settled, fits, lambda h: _is_in_its_study(h, series, studies), Conflict.Kind.SERIES, _OTHER_STUDY
    )
    stored, lost = _store_instances(fits, series)
    return settled + stored, again + lost


def _split_by_patient(items: list[Item]) -> tuple[list[Item], list[Item]]:
    """The first file of each study names its patient; files of the study that name another wait until it is known."""
    ids: dict[str, tuple[str, ...]] = {}
    for item in items:
        ids.setdefault(_study(item), patient_key(item.header)[:2])
    fits = [item for item in items if patient_key(item.header)[:2] == ids[_study(item)]]
    return fits, [item for item in items if item not in fits]


def _is_of_its_series(header: Header, homes: dict[str, str]) -> bool:
    return homes.get(header.series_instance_uid, header.study_instance_uid) == header.study_instance_uid


def _study(item: Item) -> str:
    return item.header.study_instance_uid


def _is_of_its_study(header: Header, known: dict[str, KnownStudy]) -> bool:
    """Within one study the Patient ID decides: another spelling of the name is a correction, not another person."""
    study = known.get(header.study_instance_uid)
    return study is None or patient_key(header)[:2] == study[:2]


def as_its_study_came(item: Item, study: KnownStudy | None) -> Item:
    """Where the coercion rules of today speak of another patient than the study's, those that the study came by count.

    So a new rule, a changed and a withdrawn one split no study.
    """
    if study is None or patient_key(item.header)[:2] == study[:2]:
        return item
    rules = current_rules(needed=study.coerced_by.values())
    return replace(item, header=rules.as_study_came(item.header, study.coerced_by))


def _is_in_its_study(header: Header, series: dict[str, tuple[int, int]], studies: dict[str, tuple[int, int]]) -> bool:
    return series[header.series_instance_uid][1] == studies[header.study_instance_uid][0]


def _hold_others(
    settled: list[Ingested], items: list[Item], fits: Callable[[Header], bool], kind: Conflict.Kind, reason: str
) -> list[Item]:
    """The items that fit; the others are held and added to `settled`."""
    settled += [hold_item(item, kind, reason) for item in items if not fits(item.header)]
    return [item for item in items if fits(item.header)]


def _store_instances(items: list[Item], series: dict[str, tuple[int, int]]) -> Settled:
    if not items:
        return [], []
    volume = writable_volume()
    with closing(Shelves(Path(volume.root))) as shelves:
        return _store_on(shelves, volume, items, series)


def _store_on(shelves: Shelves, volume: Volume, items: list[Item], series: dict[str, tuple[int, int]]) -> Settled:
    settled: list[Ingested] = []
    lost: list[Item] = []
    adopted: list[tuple[Item, Adopted]] = []
    for item in items:
        found = shelves.adopt(item.path, *_place(item.header))
        if found is not Adopted.OCCUPIED:
            adopted.append((item, found))
        elif _known_instances([item.header.sop_instance_uid]):
            lost.append(item)
        elif orphan := _equal_orphan(item, _target(volume, item.header)):
            adopted.append((orphan, Adopted.REPLAYED))
        else:
            settled.append(hold_item(item, Conflict.Kind.INSTANCE, "the store holds other content under this UID"))
    shelves.sync()
    inserted = insert_instances([item.header for item, _ in adopted], series, volume.pk)
    note_doubts((item.header for item, _ in adopted if item.header.sop_instance_uid in inserted), series)
    beaten = [(item, found) for item, found in adopted if item.header.sop_instance_uid not in inserted]
    for item, found in beaten:  # another worker stored the same UID first, elsewhere: nobody knows of our new link
        if found is Adopted.NEW:
            shelves.drop(*_place(item.header))
    settled += [Ingested(item.path, Outcome.STORED) for item, _ in adopted if item.header.sop_instance_uid in inserted]
    return settled, lost + [item for item, _ in beaten]


def _equal_orphan(item: Item, target: Path) -> Item | None:
    """A file without a row, left by a worker that was killed: it serves, when its data set is the very same."""
    try:
        orphan = read_header(target)
    except UnreadableError:
        return None
    return Item(item.path, orphan) if orphan.dataset_sha256 == item.header.dataset_sha256 else None


def _target(volume: Volume, header: Header) -> Path:
    return Path(volume.root) / instance_path(
        header.study_instance_uid, header.series_instance_uid, header.sop_instance_uid
    )
