"""What people decided about a study holds for what still arrives: its images are read as if they named its patient.

Asked only for data sets that do not fit, so it costs nothing where no decision is in question.
"""

from dataclasses import replace

from django.conf import settings

from apps.archive.coercion import coerce
from apps.archive.header import Header
from apps.archive.holding import Item
from apps.archive.identity import sender_token
from apps.archive.rulebook import current_rules
from apps.archive.upsert import KnownStudy, fetch, known_studies, patient_key

Known = dict[str, KnownStudy]  # by Study Instance UID

# A data set belongs to a study of another patient when that patient is who its images always named, or was merged into
# its patient, or when somebody decided so of just these data sets.
_ACCEPTED = """
SELECT w.position
FROM unnest(%s::int[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[])
    AS w (position, home, named_study, issuer, patient_id, named_patient)
JOIN archive_study s ON s.study_instance_uid = w.home
WHERE EXISTS (
    SELECT FROM archive_acceptedsender a
    WHERE a.study_id = s.id AND a.named_study_uid = w.named_study AND a.named_patient = w.named_patient
) OR (w.home = w.named_study AND EXISTS (
    SELECT FROM archive_patient p
    WHERE (p.issuer, p.patient_id) = (w.issuer, w.patient_id) AND p.only_study_uid IN ('', w.home)
        AND (p.id = s.arrived_as_id OR p.merged_into_id = s.patient_id)
))
"""


def follow_patients(items: list[Item], known: Known) -> list[Item]:
    """The items; those that name another patient than their study's, by a person's decision, name that patient now."""
    homes = [item.header.study_instance_uid for item in items]
    misfits = {at: home for at, home in enumerate(homes) if home in known and not _fits(items[at], known[home])}
    return _follow(items, misfits, known)


def follow_series(items: list[Item], homes: dict[str, str], known: Known) -> list[Item]:
    """The items; those whose series is stored in another study, by a person's decision, name that study now.

    homes is Series Instance UID → Study Instance UID; known gets the studies that are named now.
    """
    misfits = {
        at: homes[item.header.series_instance_uid]
        for at, item in enumerate(items)
        if homes.get(item.header.series_instance_uid, item.header.study_instance_uid) != item.header.study_instance_uid
    }
    if misfits:
        known |= known_studies(misfits.values())
    return _follow(items, misfits, known)


def _fits(item: Item, study: KnownStudy) -> bool:
    return patient_key(item.header)[:2] == study[:2]


def _follow(items: list[Item], misfits: dict[int, str], known: Known) -> list[Item]:
    """misfits is the position of an item → the study that it may belong to."""
    accepted = _accepted(items, misfits) if misfits else set()
    return [_moved(item, misfits[at], known) if at in accepted else item for at, item in enumerate(items)]


def _accepted(items: list[Item], misfits: dict[int, str]) -> set[int]:
    asked = [
        (
            at,
            home,
            items[at].header.study_instance_uid,
            issuer,
            patient_id,
            sender_token(issuer, patient_id, settings.IDENTITY_KEY),
        )
        for at, home in misfits.items()
        for issuer, patient_id in _names(items[at].header)
    ]
    rows = fetch(_ACCEPTED, [list(column) for column in zip(*asked, strict=True)])
    return {position for (position,) in rows}


def _names(header: Header) -> set[tuple[str, str]]:
    """Whom a data set names: by the coercion rules that its study came by, and by those of today."""
    return {patient_key(one)[:2] for one in (header, coerce(header, current_rules().rules))}


def _moved(item: Item, home: str, known: Known) -> Item:
    issuer, patient_id = known[home][:2]
    return replace(item, header=replace(item.header, study_instance_uid=home, issuer=issuer, patient_id=patient_id))
