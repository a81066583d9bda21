"""Digests for the patients, and a case for each conflict, of an instance made before there were any."""

from django.conf import settings
from django.db import migrations

from apps.archive.identity import identity_of


def fill(apps, schema_editor):
    Patient = apps.get_model("archive", "Patient")
    for patient in Patient.objects.filter(birth_hmac="", family_hmacs=[]).iterator():
        identity = identity_of(patient.name, patient.birth_date, settings.IDENTITY_KEY)
        patient.birth_hmac, patient.family_hmacs = identity.birth, sorted(identity.family)
        patient.save(update_fields=["birth_hmac", "family_hmacs"])
    for conflict in apps.get_model("archive", "Conflict").objects.filter(case_key=""):
        conflict.case_key = bytes(conflict.file_sha256).hex()
        conflict.save(update_fields=["case_key"])


class Migration(migrations.Migration):

    dependencies = [("archive", "0002_decisions")]

    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
