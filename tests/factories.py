"""Rows and stored images for tests of pages and queries."""

import json
from datetime import date, time
from itertools import count

from django.conf import settings
from django.contrib.auth.models import Group, Permission
from pydicom.dataset import Dataset

from apps.accounts.models import User
from apps.archive.identity import identity_of
from apps.archive.ingest import store_batch
from apps.archive.models import Patient, Series, Study
from apps.archive.names import search_key
from apps.storage.spool import Spool
from tests.dicom import part10

_numbers = count(1)


def load_roles() -> None:
    """The fixture in few statements; `loaddata` also sets sequences, which the application role may not."""
    if Group.objects.filter(name="radiologist").exists():
        return
    key = ("codename", "content_type__app_label", "content_type__model")
    permissions = {row[1:]: row[0] for row in Permission.objects.values_list("pk", *key)}
    for role in json.loads((settings.BASE_DIR / "fixtures" / "roles.json").read_text()):
        group = Group.objects.create(name=role["fields"]["name"])
        group.permissions.set([permissions[tuple(names)] for names in role["fields"]["permissions"]])


def make_user(*roles: str, name: str = "", password: str | None = None) -> User:
    """An account with these roles; without a password, because hashing one takes long."""
    load_roles()
    name = name or f"user{next(_numbers)}"
    user = User.objects.create_user(name, password=password, is_staff="administrator" in roles)
    user.groups.set(Group.objects.filter(name__in=roles))
    assert user.groups.count() == len(roles)
    return user


def make_study(name: str = "Phantom^Test", modality: str = "CT", source: str = "SENDER", **changes: object) -> Study:
    """One study with one series of one instance, as rows only. Keyword arguments replace columns of the study;
    patient_id, birth_date and sex those of its patient."""
    number = next(_numbers)
    patient_id = str(changes.pop("patient_id", f"P{number}"))
    person = {"birth_date": changes.pop("birth_date", date(1970, 1, 1)), "sex": changes.pop("sex", "O")}
    identity = identity_of(name, person["birth_date"], settings.IDENTITY_KEY)
    digests = {"birth_hmac": identity.birth, "family_hmacs": sorted(identity.family)}
    patient, _ = Patient.objects.get_or_create(
        patient_id=patient_id, defaults={"name": name, "name_search": search_key(name), **person, **digests}
    )
    columns = {
        "study_instance_uid": f"1.2.{number}",
        "study_date": date(2026, 1, 2),
        "study_time": time(10, 11),
        "accession_number": f"A{number}",
        "description": "Synthetic study",
        "series_count": 1,
        "instance_count": 1,
        "status": Study.Status.COMPLETE,
    }
    study = Study.objects.create(patient=patient, **(columns | changes))
    Series.objects.create(
        study=study,
        series_instance_uid=f"{study.pk}.1",
        modality=modality,
        series_number=1,
        calling_ae_title=source,
        instance_count=1,
    )
    return study


def store(*datasets: Dataset) -> None:
    """The images as ingest stores them; needs the fixture `volume`."""
    batch = Spool(settings.SPOOL_DIR).open_batch()
    for dataset in datasets:
        batch.write((part10(dataset),))
    name = batch.close()
    assert name
    assert {result.outcome.value for result in store_batch(name)} == {"stored"}
