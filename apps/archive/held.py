"""Held files: into the store where a person says that they belong, in place of a stored one, and back.

Every function belongs into the caller's transaction. A held file stays in the quarantine whatever is decided; stored
files are linked there, never moved and never overwritten.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from django.db import transaction
from django.db.models import Count, Max, Sum

from apps.archive.doubts import apply_decisions
from apps.archive.following import follow_patients, follow_series
from apps.archive.header import Header, UnreadableError, read_header
from apps.archive.holding import Item, Outcome, case_key, file_digest, named_patient
from apps.archive.models import AcceptedSender, Conflict, Decision, Instance, Series, Study
from apps.archive.patients import DecisionError
from apps.archive.rulebook import current_rules
from apps.archive.settling import as_its_study_came, store_files
from apps.archive.upsert import known_studies, lock_studies, patient_key
from apps.storage.durable import sync_folder
from apps.storage.files import Adopted, adopt, keep_aside, writable_volume

VARIANT_DIGITS = 12


def header_of(conflict: Conflict) -> Header:
    """The header of the held file, as ingest takes it today. Raises DecisionError where it cannot be read."""
    path = conflict.held_path
    try:
        if path is not None:
            return current_rules().coerced(read_header(path))
    except (OSError, UnreadableError) as error:
        raise DecisionError("The held file cannot be read. Ask an administrator to look at the quarantine.") from error
    raise DecisionError("There is no held file.")


# --- Into the store


def accept_sender(decision: Decision, study: Study, header: Header) -> None:
    """Data sets like this one belong to the study from now on, whatever patient and study they name."""
    AcceptedSender.objects.get_or_create(
        study=study,
        named_study_uid=header.study_instance_uid,
        named_patient=named_patient(header),
        defaults={"decision": decision},
    )


def store_held(conflicts: Sequence[Conflict]) -> tuple[list[Conflict], list[int]]:
    """Store held files as ingest does. Returns the conflicts that are settled by it, and the keys of new instances.

    A file that is in the way of another one, because its SOP Instance UID is stored with other content, stays open as
    such a conflict. Raises DecisionError where not one file could be stored.
    """
    by_path = {path: conflict for conflict in conflicts if (path := conflict.held_path)}
    try:
        results = store_files(by_path)
    except OSError as error:
        raise DecisionError("A held file or the store cannot be read or written. Nothing was done.") from error
    settled = [by_path[r.path] for r in results if r.outcome in (Outcome.STORED, Outcome.DUPLICATE)]
    if not settled:
        raise DecisionError(f"None of the files could be stored: {results[0].reason}." if results else "No files.")
    for result in results:
        if by_path[result.path] not in settled:
            _ask_again(by_path[result.path])
    uids = [by_path[r.path].sop_instance_uid for r in results if r.outcome is Outcome.STORED]
    return settled, list(Instance.objects.filter(sop_instance_uid__in=uids).values_list("pk", flat=True))


def _ask_again(conflict: Conflict) -> None:
    """As what stands in its way now: it is not to be offered for the same decision for ever."""
    header = header_of(conflict)
    if Instance.objects.filter(sop_instance_uid=header.sop_instance_uid).exists():
        conflict.kind = Conflict.Kind.INSTANCE
        conflict.reason = "this SOP Instance UID is stored with other content"
        conflict.case_key = case_key(
            conflict.kind, header.study_instance_uid, header.series_instance_uid, named_patient(header)
        )
        conflict.save(update_fields=["kind", "reason", "case_key"])


def check_stored(instances: Sequence[int]) -> None:
    """Raise DecisionError where something builds on these instances, so that they cannot be taken out again."""
    last = Instance.objects.filter(pk__in=instances).values_list("series__study").annotate(Max("pk")).order_by()
    for study, newest in last:
        if Instance.objects.filter(series__study_id=study, pk__gt=newest).exists():
            raise DecisionError(
                "More images of the study have been stored since, perhaps because of this decision."
                " It stays; the whole study can still be given to another patient."
            )
    for relation in Instance._meta.related_objects:
        users: Any = relation.related_model
        if users.objects.filter(**{f"{relation.field.name}__in": instances}).exists():
            raise DecisionError("A film sheet was made with these images. It stays as it is.")


def take_out(instances: Sequence[int], conflicts: Sequence[Conflict]) -> None:
    """Take instances out of the archive that a decision stored; they are still held. Raises DecisionError."""
    if not instances:
        return
    found = list(Instance.objects.filter(pk__in=instances).select_related("series__study", "volume"))
    studies = sorted({instance.series.study_id for instance in found})
    lock_studies(studies)
    check_stored(instances)
    if any(path is None or not path.is_file() for path in (conflict.held_path for conflict in conflicts)):
        raise DecisionError("A held file is missing, so the stored one stays. Ask an administrator.")
    series = {instance.series_id for instance in found}
    Instance.objects.filter(pk__in=instances).delete()
    Series.objects.filter(pk__in=series, instances=None).delete()
    _recount(series, studies)
    paths = {instance.sop_instance_uid: instance.path for instance in found}
    transaction.on_commit(partial(_unlink_orphans, studies, paths))


def _recount(series: Iterable[int], studies: Iterable[int]) -> None:
    for one in Series.objects.filter(pk__in=series).annotate(
        found=Count("instances"), total=Sum("instances__size_bytes")
    ):
        Series.objects.filter(pk=one.pk).update(instance_count=one.found, size_bytes=one.total or 0)
    for pk in studies:
        counts = Series.objects.filter(study=pk, instance_count__gt=0).aggregate(
            series_count=Count("pk"), instance_count=Sum("instance_count"), size_bytes=Sum("size_bytes")
        )
        Study.objects.filter(pk=pk).update(**{name: value or 0 for name, value in counts.items()})


def _unlink_orphans(studies: Iterable[int], paths: dict[str, Path]) -> None:
    """After the commit, and while no worker stores into these studies: a file that came again is not an orphan."""
    with transaction.atomic():
        lock_studies(studies)
        stored = set(Instance.objects.filter(sop_instance_uid__in=paths).values_list("sop_instance_uid", flat=True))
        for uid, path in paths.items():
            if uid not in stored:
                path.unlink(missing_ok=True)


# --- In place of a stored one


@dataclass
class Replaced:
    """What the row of an instance said before, and the conflict that keeps the former file from being asked again."""

    instance: int
    chosen: str  # the variant that a person chose
    before: dict[str, Any]
    set_aside: int | None = None


_FILE_COLUMNS = (
    *("sop_class_uid", "transfer_syntax_uid", "instance_number", "rows", "columns", "number_of_frames"),
    *("file_variant", "volume_id", "size_bytes"),
)


def replace_stored(decision: Decision, conflict: Conflict) -> dict[str, Any]:
    """The held file becomes the stored one; the former file stays where it is, and is kept aside as well.

    Returns what undoing it needs. Raises DecisionError, also where the file names another series, study or patient.
    """
    header = header_of(conflict)
    instance = _lock_instance(conflict.sop_instance_uid)
    if not _is_of_its_place(header, instance):
        raise DecisionError("The file names another series, study or patient than the stored one. Keep it apart.")
    replaced = Replaced(instance.pk, header.file_sha256.hex()[:VARIANT_DIGITS], _columns_of(instance))
    replaced.set_aside = _set_aside(decision, instance)
    instance.file_variant, instance.volume = replaced.chosen, writable_volume()
    _link(conflict, instance)
    for name in _FILE_COLUMNS[:6]:
        setattr(instance, name, getattr(header, name))
    instance.file_sha256, instance.dataset_sha256 = header.file_sha256, header.dataset_sha256
    instance.size_bytes = header.size_bytes
    instance.save()
    _recount([instance.series_id], [instance.series.study_id])
    return asdict(replaced)


def _lock_instance(sop_instance_uid: str) -> Instance:
    found = Instance.objects.select_related("series__study", "volume").filter(sop_instance_uid=sop_instance_uid).first()
    if found is None:
        raise DecisionError("The stored image is gone.")
    lock_studies([found.series.study_id])
    return Instance.objects.select_related("series__study", "volume").get(pk=found.pk)


def _is_of_its_place(header: Header, instance: Instance) -> bool:
    """Whether it names the instance's series, study and patient, or a person decided that it belongs there."""
    home = instance.series.study.study_instance_uid
    known = known_studies([home])
    series = {instance.series.series_instance_uid: home}
    (item,) = apply_decisions([Item(Path(), header)], known)
    item = as_its_study_came(item, known.get(header.study_instance_uid))
    (item,) = follow_series(follow_patients([item], known), series, known)
    names = item.header
    return (
        names.series_instance_uid == instance.series.series_instance_uid
        and names.study_instance_uid == home
        and patient_key(names)[:2] == known[home][:2]
    )


def _columns_of(instance: Instance) -> dict[str, Any]:
    columns = {name: getattr(instance, name) for name in _FILE_COLUMNS}
    return columns | {name: bytes(getattr(instance, name)).hex() for name in ("file_sha256", "dataset_sha256")}


def _set_aside(decision: Decision, instance: Instance) -> int | None:
    """The former file as a decided conflict: sent again, it asks nobody again. None where it is missing or held."""
    try:
        digest = file_digest(instance.path)
        keep_aside(instance.path, f"{digest.hex()}.dcm")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DecisionError("The stored file cannot be kept aside, so it stays. Ask an administrator.") from error
    found, is_new = Conflict.objects.get_or_create(
        file_sha256=digest,
        defaults={
            "kind": Conflict.Kind.INSTANCE,
            "case_key": decision.case_key,
            "reason": "it was the stored one, and was replaced",
            "held_file": f"{digest.hex()}.dcm",
            "size_bytes": instance.path.stat().st_size,
            "sop_instance_uid": instance.sop_instance_uid,
            "series_instance_uid": instance.series.series_instance_uid,
            "study_instance_uid": instance.series.study.study_instance_uid,
            "resolved_at": decision.decided_at,
            "decision": decision,
        },
    )
    return found.pk if is_new else None


def _link(conflict: Conflict, instance: Instance) -> None:
    try:
        if conflict.held_path is None or adopt(conflict.held_path, instance.path) is Adopted.OCCUPIED:
            raise DecisionError("The store holds something else where this file would go. Ask an administrator.")
        sync_folder(instance.path.parent)
    except OSError as error:
        raise DecisionError("The held file cannot be brought into the store. Nothing was done.") from error


def check_replaced(replaced: Replaced) -> None:
    """Raise DecisionError where the former file cannot come back."""
    instance = Instance.objects.select_related("series__study", "volume").filter(pk=replaced.instance).first()
    if instance is None or instance.file_variant != replaced.chosen:
        raise DecisionError("The image was replaced once more since. Undo that decision first.")
    instance.file_variant, instance.volume_id = replaced.before["file_variant"], replaced.before["volume_id"]
    if not instance.path.is_file():
        raise DecisionError("The former file is not in the store any more. Ask an administrator.")


def put_back(replaced: Replaced) -> None:
    """The former file is the stored one again. Raises DecisionError."""
    instance = Instance.objects.select_related("series__study").get(pk=replaced.instance)
    lock_studies([instance.series.study_id])
    check_replaced(replaced)
    columns = replaced.before | {
        name: bytes.fromhex(replaced.before[name]) for name in ("file_sha256", "dataset_sha256")
    }
    Instance.objects.filter(pk=instance.pk).update(**columns)
    _recount([instance.series_id], [instance.series.study_id])
    if replaced.set_aside:
        Conflict.objects.filter(pk=replaced.set_aside).delete()
