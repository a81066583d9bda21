"""The dry run of a coercion rule: what it says is what ingest then does, and it changes nothing itself."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.archive.dry_run import COVER, Told, dry_run
from apps.archive.models import CoercionRule, Instance, Patient, Study
from apps.archive.rulebook import forget_rules
from tests.archive.test_coercion import LATIN_2, NO_ISSUER, add_issuer, make_rule, store, unlabelled  # noqa: F401
from tests.dicom import ct_dataset
from tests.factories import make_user

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def plain_static_files(settings):
    storage = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": storage}


@pytest.fixture
def reader():
    """An administrator who may see studies too."""
    return make_user("administrator", "radiologist")


def rule(**changes) -> CoercionRule:
    """A rule that is not saved."""
    return CoercionRule(**({"name": "CT", "calling_ae_title": "SENDER"} | changes))


def issuer_rule(**changes) -> CoercionRule:
    return rule(**({"issuer_action": "add", "issuer": "HOSP"} | changes))


def counts(result) -> dict[str, int]:
    names = ("changed", "separated", "joined", "stranger")
    return {name: value for name in names if (value := getattr(result, f"{name}_count"))}


def test_before_and_after_of_the_newest_studies_of_the_sender(store, reader):  # noqa: F811
    store(ct_dataset(PatientID="OTHER"), calling="OTHER")
    store(ct_dataset(**NO_ISSUER, PatientName="Müller^Anna"))
    store(ct_dataset(PatientID="P2", PatientName="Smith^John"))
    result = dry_run(issuer_rule(patient_id_prefix="K-"), reader)
    assert [(line.before, line.after) for line in result.lines] == [
        (Told("TEST", "P2", "Smith, John"), Told("TEST", "K-P2", "Smith, John")),
        (Told("", "P1", "Müller, Anna"), Told("HOSP", "K-P1", "Müller, Anna")),
    ]
    assert len(dry_run(issuer_rule(), reader, limit=1).lines) == 1
    assert len(dry_run(issuer_rule(calling_ae_title=""), reader).lines) == 3


def test_it_changes_nothing(store, reader):  # noqa: F811
    store(ct_dataset(**NO_ISSUER))
    with CaptureQueriesContext(
        connection,
    ) as queries:
        dry_run(issuer_rule(), reader)
    assert all(query["sql"].startswith("SELECT") for query in queries)
    assert not CoercionRule.objects.exists()
    assert Patient.objects.get().issuer == ""


@pytest.mark.parametrize("is_saved", [False, True])
def test_what_it_says_is_what_ingest_then_does(store, reader, is_saved):  # noqa: F811
    dataset = unlabelled("Žižka^Jiří", "iso8859_2", **NO_ISSUER)
    store(dataset)
    tried = issuer_rule(patient_id_prefix="K-", character_set=LATIN_2)
    if is_saved:
        tried.save()
    told = dry_run(tried, reader).lines[0].after
    tried.save()
    forget_rules()
    dataset.StudyInstanceUID += ".1"
    dataset.SeriesInstanceUID += ".1"
    dataset.SOPInstanceUID += ".1"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    assert store(dataset) == ["stored"]
    patient = Study.objects.latest("pk").patient
    assert Told(patient.issuer, patient.patient_id, patient.display_name) == told == Told("HOSP", "K-P1", "Žižka, Jiří")


def test_a_patient_that_is_known_without_the_issuer_becomes_separate(store, reader):  # noqa: F811
    store(ct_dataset(**NO_ISSUER), ct_dataset(**NO_ISSUER), ct_dataset(PatientID="P2"))
    result = dry_run(issuer_rule(), reader)
    assert counts(result) == {"changed": 2, "separated": 1}
    assert [line.warnings for line in result.lines].count(("a new patient beside the stored one",)) == 2
    assert (result.patients_before, result.patients_after) == (2, 2)


def test_two_patients_who_would_get_one_identity_become_the_same(store, reader):  # noqa: F811
    store(ct_dataset(IssuerOfPatientID="A"), ct_dataset(IssuerOfPatientID="B"))
    result = dry_run(issuer_rule(issuer_action="replace"), reader)
    assert counts(result) == {"changed": 2, "separated": 2, "joined": 1}
    assert (result.patients_before, result.patients_after) == (2, 1)


def test_a_patient_who_is_known_under_the_new_identity_is_joined(store, reader):  # noqa: F811
    store(ct_dataset(IssuerOfPatientID="HOSP"), calling="OTHER")
    store(ct_dataset(**NO_ISSUER))
    result = dry_run(issuer_rule(), reader)
    assert counts(result) == {"changed": 1, "joined": 1}
    assert result.lines[0].warnings == ("joins a known patient",)


def test_somebody_else_under_the_new_identity_is_told(store, reader):  # noqa: F811
    store(ct_dataset(IssuerOfPatientID="HOSP", PatientBirthDate="19990909"), calling="OTHER")
    store(ct_dataset(**NO_ISSUER))
    result = dry_run(issuer_rule(), reader)
    assert result.stranger_count == 1
    assert result.lines[0].warnings == ("somebody else is known under this identity",)


def test_two_persons_who_would_get_one_identity_are_not_called_the_same(store, reader):  # noqa: F811
    store(ct_dataset(IssuerOfPatientID="A"))
    store(ct_dataset(IssuerOfPatientID="B", PatientBirthDate="19990909"))
    result = dry_run(issuer_rule(issuer_action="replace"), reader)
    assert counts(result) == {"changed": 2, "separated": 2, "stranger": 1}
    assert (result.patients_before, result.patients_after) == (2, 2)


def test_names_that_would_be_read_otherwise_may_speak_of_another_person(store, reader):  # noqa: F811
    store(unlabelled("Žižka", "iso8859_2", PatientBirthDate=None))
    result = dry_run(rule(character_set=LATIN_2), reader)
    assert result.lines[0].after.name == "Žižka"
    assert result.stranger_count == 1


def test_letters_that_cannot_be_read_so_are_told(store, reader):  # noqa: F811
    store(unlabelled("Žižka^Jiří", "iso8859_2"))
    result = dry_run(rule(character_set="ISO_IR 192"), reader)
    assert result.lines[0].warnings == ("not every letter can be read so",)


def test_what_the_rule_leaves_alone_is_explained(store, reader):  # noqa: F811
    store(ct_dataset(PatientID="K-1"), ct_dataset(PatientID=None))
    result = dry_run(issuer_rule(patient_id_prefix="K-", character_set=LATIN_2, is_active=False), reader)
    assert result.changed_count == 0
    notes = " ".join(result.notes)
    for words in (
        "not in use",
        "1 study without a Patient ID",
        "an issuer of their own",
        "begins with K- already",
        "2 studies that say their character set",
    ):
        assert words in notes


def test_a_rule_that_comes_first_is_named(store, reader):  # noqa: F811
    first = add_issuer(name="First", position=1, issuer="FIRST")
    store(ct_dataset(**NO_ISSUER))
    result = dry_run(issuer_rule(position=2), reader)
    assert result.changed_count == 0
    assert any("“First” decides about the issuer" in note for note in result.notes)
    assert dry_run(first, reader).lines[0].before == Told("", "P1", "Phantom, Test")
    assert dry_run(issuer_rule(position=0), reader).lines[0].after.issuer == "HOSP"


def test_a_missing_file_is_counted_and_holds_up_nothing(store, reader):  # noqa: F811
    store(ct_dataset(**NO_ISSUER), ct_dataset(**NO_ISSUER))
    Instance.objects.first().path.unlink()
    result = dry_run(issuer_rule(), reader)
    assert len(result.lines) == 1
    assert any("1 study could not be read" in note for note in result.notes)


def test_who_may_not_see_studies_sees_what_changes_and_not_of_whom(store):  # noqa: F811
    store(unlabelled("Žižka^Jiří", "iso8859_2", **NO_ISSUER))
    result = dry_run(issuer_rule(patient_id_prefix="K-", character_set=LATIN_2), make_user("administrator"))
    assert result.lines[0].before == Told("", COVER, COVER)
    assert result.lines[0].after == Told("HOSP", f"K-{COVER}", "other letters")
    assert any("are covered" in note for note in result.notes)
    text = repr([(line.before, line.after, line.warnings) for line in result.lines]) + repr(result.notes)
    assert not [word for word in ("P1", "Žižka", "ika", "Jiří") if word in text]


def test_it_takes_few_statements_whatever_the_number_of_studies(store, reader, django_assert_max_num_queries):  # noqa: F811
    for number in range(12):
        store(ct_dataset(PatientID=f"P{number}", **NO_ISSUER))
    reader.get_all_permissions()
    with django_assert_max_num_queries(8):
        assert len(dry_run(issuer_rule(), reader).lines) == 12


# --- In the administration

FORM = {"name": "CT", "calling_ae_title": "SENDER", "position": 100, "is_active": "on", "issuer_action": "add",
        "issuer": "HOSP", "patient_id_prefix": "", "character_set": ""}  # fmt: skip
NEW = "admin:archive_coercionrule_dry_run_new"


def test_the_form_is_tried_without_saving_it(client, store, reader):  # noqa: F811
    store(ct_dataset(**NO_ISSUER, PatientName="Müller^Anna"))
    client.force_login(reader)
    page = client.post(reverse(NEW), FORM).content.decode()
    assert "Dry run on the newest 1 study from SENDER" in page
    assert "<ins>HOSP</ins>" in page
    assert "Müller, Anna" in page
    assert not CoercionRule.objects.exists()

    saved = make_rule(issuer_action="add", issuer="OLD", calling_ae_title="SENDER")
    page = client.post(reverse("admin:archive_coercionrule_dry_run", args=[saved.pk]), FORM).content.decode()
    assert "<ins>HOSP</ins>" in page
    saved.refresh_from_db()
    assert saved.issuer == "OLD"


def test_a_form_with_a_mistake_and_a_sender_without_studies_are_told(client, reader):
    client.force_login(reader)
    response = client.post(reverse(NEW), FORM | {"issuer": ""})
    assert response.status_code == 422
    assert "Which issuer?" in response.content.decode()
    assert "No study that SENDER sent is stored" in client.post(reverse(NEW), FORM).content.decode()


@pytest.mark.parametrize("roles", [("radiologist",), ("technologist",), ("auditor",)])
def test_only_administrators_may_look_at_rules_and_try_them(client, roles):
    user = make_user(*roles)
    user.is_staff = True
    user.save()
    client.force_login(user)
    saved = make_rule(patient_id_prefix="K-")
    assert client.post(reverse(NEW), FORM).status_code == 403
    assert client.post(reverse("admin:archive_coercionrule_dry_run", args=[saved.pk]), FORM).status_code == 403
    assert client.get(reverse("admin:archive_coercionrule_changelist")).status_code == 403


def test_a_dry_run_is_not_an_address_to_look_at(client, reader):
    client.force_login(reader)
    assert client.get(reverse(NEW)).status_code == 405


def test_hostile_text_is_shown_as_text(client, store, reader):  # noqa: F811
    store(ct_dataset(PatientID="<script>1</script>", PatientName="<img src=x>^A", IssuerOfPatientID="'\"><b>"))
    client.force_login(reader)
    page = client.post(reverse(NEW), FORM | {"patient_id_prefix": "<i>"}).content.decode()
    for hostile in ("<script>1", "<img", "<b>", "<i>"):
        assert hostile not in page


def test_saving_another_effect_makes_another_rule_and_another_name_does_not(client, store, reader):  # noqa: F811
    client.force_login(reader)
    client.post(reverse("admin:archive_coercionrule_add"), FORM)
    saved = CoercionRule.objects.get()
    forget_rules()
    store(ct_dataset(**NO_ISSUER))
    client.post(reverse("admin:archive_coercionrule_change", args=[saved.pk]), FORM | {"name": "CT 1", "position": 5})
    saved.refresh_from_db()
    assert (saved.name, saved.position, saved.retired_at) == ("CT 1", 5, None)

    address = reverse("admin:archive_coercionrule_change", args=[saved.pk])
    response = client.post(address, FORM | {"name": "CT 1", "issuer": "OTHER"}, follow=True)
    assert "was changed successfully" in response.content.decode()
    saved.refresh_from_db()
    assert (saved.issuer, saved.is_active, saved.replaced_by.issuer) == ("HOSP", False, "OTHER")
    assert b'name="_save"' not in client.get(address).content  # only to be looked at
    assert client.post(address, FORM | {"issuer": "AGAIN"}).status_code == 403
    assert (
        client.post(reverse("admin:archive_coercionrule_delete", args=[saved.pk]), {"post": "yes"}).status_code == 403
    )
    again = client.post(reverse("admin:archive_coercionrule_add"), FORM | {"name": "CT 1"})
    assert "Another rule has this name" in again.content.decode()

    study = Study.objects.get()
    for page in (
        reverse("admin:archive_study_change", args=[study.pk]),
        reverse("portal:study", args=[study.study_instance_uid]),
    ):
        text = client.get(page).content.decode()
        assert "issuer by" in text
        assert "CT 1" in text


def test_the_list_says_what_each_rule_does(client, reader):
    client.force_login(reader)
    make_rule(name="CT", calling_ae_title="CT1", issuer_action="add", issuer="HOSP", patient_id_prefix="K-")
    make_rule(name="All", character_set=LATIN_2)
    page = client.get(reverse("admin:archive_coercionrule_changelist")).content.decode()
    assert "issuer HOSP where none is sent, prefix K-" in page
    assert "every sender" in page
