"""Coercion rules: what they make of a header, and that no rule of today splits a study of yesterday."""

from dataclasses import replace
from itertools import product

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from pydicom.uid import generate_uid

from apps.archive import rulebook, settling
from apps.archive.coercion import ADD, CHARACTER_SETS, REPLACE, Rule, coerce, coerce_by
from apps.archive.header import peek_header, read_header
from apps.archive.ingest import store_batch
from apps.archive.models import CoercionRule, Conflict, Instance, Patient, Study
from apps.archive.queries import coercion_rules
from apps.archive.rulebook import current_rules, forget_rules, replace_rule
from apps.storage.spool import Spool
from tests.dicom import ct_dataset, part10, write_part10

LATIN_2 = "ISO_IR 101"
NO_ISSUER = {"IssuerOfPatientID": None}


@pytest.fixture
def header(tmp_path):
    """The header of a CT image of SENDER: issuer TEST, Patient ID P1."""
    return read_header(write_part10(tmp_path, ct_dataset()))


def identity(header) -> tuple[str, str]:
    return header.issuer, header.patient_id


# --- Pure


def test_without_rules_the_header_is_the_very_same(header):
    assert coerce(header, []) is header
    assert coerce(header, [Rule(1, "OTHER", ADD, "HOSP", "X-", LATIN_2)]) is header


@pytest.mark.parametrize(
    ("action", "sent", "told"),
    [(ADD, "", "HOSP"), (ADD, "TEST", "TEST"), (REPLACE, "", "HOSP"), (REPLACE, "TEST", "HOSP")],
)
@pytest.mark.parametrize("title", ["SENDER", ""])
def test_an_issuer_is_added_or_replaced(header, action, sent, told, title):
    coerced = coerce(replace(header, issuer=sent), [Rule(7, title, action, "HOSP")])
    assert identity(coerced) == (told, "P1")
    assert coerced.coerced_by == ((("issuer", 7),) if told != sent else ())


def test_a_prefix_is_put_before_once(header):
    rules = [Rule(7, "SENDER", patient_id_prefix="K-")]
    once = coerce(header, rules)
    assert (once.patient_id, once.coerced_by, once.sent_as) == ("K-P1", (("patient_id", 7),), ("TEST", "P1"))
    assert coerce(once, rules) == once
    assert coerce(replace(header, patient_id="K-P1"), rules).patient_id == "K-P1"


def test_a_long_id_is_not_cut_to_that_of_another(header):
    rules = [Rule(7, patient_id_prefix="K-")]
    first, second = (coerce(replace(header, patient_id="9" * 63 + last), rules).patient_id for last in "12")
    assert first != second
    assert len(first) == len(second) == 64
    assert first.startswith("K-9")


def test_who_has_no_patient_id_gets_none(header):
    nobody = replace(header, patient_id="", issuer="")
    assert coerce(nobody, [Rule(7, "", REPLACE, "HOSP", "K-")]) == nobody


def test_the_first_rule_that_answers_a_question_decides_it(header):
    absent = replace(header, issuer="")
    rules = [Rule(1, "OTHER", REPLACE, "NO"), Rule(2, "SENDER", patient_id_prefix="A-"), Rule(3, "", ADD, "HOSP", "B-")]
    coerced = coerce(absent, rules)
    assert identity(coerced) == ("HOSP", "A-P1")
    assert dict(coerced.coerced_by) == {"issuer": 3, "patient_id": 2}
    # ADD has answered although an issuer was there; the later REPLACE is not asked
    assert coerce(header, [Rule(1, "", ADD, "HOSP"), Rule(2, "", REPLACE, "LATE")]).issuer == "TEST"


def test_whatever_the_rules_applied_again_they_change_nothing_more(header):
    effects = [("", ""), (ADD, "HOSP"), (REPLACE, "OTHER")]
    for first, second, prefix, sent in product(effects, effects, ("", "P", "X-"), ("", "TEST", "HOSP")):
        rules = [Rule(1, "", *first, prefix), Rule(2, "SENDER", *second, "X-")]
        once = coerce(replace(header, issuer=sent), rules)
        assert coerce(once, rules) == once
        again = coerce(replace(header, issuer=once.issuer, patient_id=once.patient_id), rules)
        assert identity(again) == identity(once)


def test_the_rules_that_a_study_came_by_give_its_identity_back(header):
    rules = {1: Rule(1, "SENDER", ADD, "HOSP"), 2: Rule(2, "OTHER", patient_id_prefix="X-")}
    absent = replace(header, issuer="")
    assert coerce_by(absent, {}, rules) is absent
    assert identity(coerce_by(absent, {"issuer": 1}, rules)) == ("HOSP", "P1")
    assert identity(coerce_by(absent, {"issuer": 1, "patient_id": 2}, rules)) == ("HOSP", "P1")  # 2 is for another
    assert identity(coerce_by(absent, {"issuer": 9}, rules)) == ("", "P1")
    changed = coerce(absent, [Rule(3, "", REPLACE, "NEW", "N-")])
    assert identity(coerce_by(changed, {"issuer": 1}, rules)) == ("HOSP", "P1")
    assert identity(coerce_by(changed, {}, rules)) == ("", "P1")


def unlabelled(name: str, encoding: str, **changes):
    """A data set whose names are in `encoding` without saying so."""
    dataset = ct_dataset(SpecificCharacterSet=None, **changes)
    dataset.add_new(0x00100010, "PN", name.encode(encoding))
    return dataset


def test_unlabelled_text_is_read_by_the_given_character_set(tmp_path):
    path = write_part10(tmp_path, unlabelled("Žižka^Jiří", "iso8859_2"))
    rules = [Rule(3, character_set=LATIN_2)]
    assert read_header(path).patient_name != "Žižka^Jiří"
    once = coerce(read_header(path), rules)
    assert (once.patient_name, once.coerced_by, once.doubt) == ("Žižka^Jiří", (("character_set", 3),), None)
    assert coerce(once, rules) == once


def test_text_that_is_labelled_or_ascii_is_not_unlabelled(tmp_path):
    for dataset in (ct_dataset(PatientName="Müller^Anna"), ct_dataset(SpecificCharacterSet=None)):
        path = write_part10(tmp_path, dataset)
        assert coerce(read_header(path), [Rule(3, character_set="GBK")]) == read_header(path)


def test_a_peek_is_the_header_without_what_needs_the_whole_file(tmp_path):
    path = write_part10(tmp_path, ct_dataset())
    whole = read_header(path)
    assert peek_header(path) == replace(whole, dataset_sha256=b"", file_sha256=b"", size_bytes=0)


def test_every_character_set_on_offer_is_known():
    from apps.archive.charsets import charset_of

    assert all(charset_of(term.encode()) for term in CHARACTER_SETS)


# --- The rule as a row


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"issuer_action": "", "issuer": ""}, "__all__"),
        ({"issuer_action": "add", "issuer": ""}, "issuer"),
        ({"issuer_action": "", "issuer": "HOSP", "patient_id_prefix": "X"}, "issuer_action"),
        ({"issuer": "A\\B"}, "issuer"),
        ({"patient_id_prefix": "A\x00"}, "patient_id_prefix"),
        ({"calling_ae_title": "A\\B"}, "calling_ae_title"),
        ({"character_set": "UTF-8"}, "character_set"),
    ],
)
def test_a_rule_that_means_nothing_is_refused(changes, field):
    rule = CoercionRule(**({"name": "r", "issuer_action": "add", "issuer": "HOSP"} | changes))
    with pytest.raises(ValidationError) as refused:
        rule.full_clean()
    assert field in refused.value.message_dict


@pytest.mark.django_db
def test_a_rule_that_does_something_else_is_another_rule():
    rule = CoercionRule.objects.create(name="CT", issuer_action="add", issuer="HOPS")
    key, rule.issuer = rule.pk, "HOSP"
    replace_rule(rule)
    old = CoercionRule.objects.get(pk=key)
    assert (old.issuer, old.is_active, old.retired_at is not None, old.replaced_by) == ("HOPS", False, True, rule)
    assert (rule.pk != key, rule.issuer, rule.is_active, rule.retired_at) == (True, "HOSP", True, None)
    with pytest.raises(IntegrityError), transaction.atomic():
        CoercionRule.objects.filter(pk=key).update(is_active=True)


# --- In ingest


@pytest.fixture
def store(volume):
    def store(*datasets, calling: str = "SENDER") -> list[str]:
        batch = _open_batch()
        for dataset in datasets:
            batch.write((part10(dataset, calling),))
        return [result.outcome.value for result in store_batch(batch.close())]

    return store


def _open_batch():
    from django.conf import settings

    return Spool(settings.SPOOL_DIR).open_batch()


def make_rule(**changes) -> CoercionRule:
    rule = CoercionRule.objects.create(**({"name": f"rule {CoercionRule.objects.count()}"} | changes))
    forget_rules()
    return rule


def add_issuer(**changes) -> CoercionRule:
    return make_rule(**({"calling_ae_title": "SENDER", "issuer_action": "add", "issuer": "HOSP"} | changes))


def of_study(study: Study) -> tuple[str, str]:
    study.refresh_from_db()
    return study.patient.issuer, study.patient.patient_id


@pytest.mark.django_db
def test_the_database_is_told_and_the_file_stays_as_it_is(store):
    rule = add_issuer(patient_id_prefix="K-")
    dataset = ct_dataset(**NO_ISSUER)
    assert store(dataset) == ["stored"]
    study = Study.objects.get()
    assert of_study(study) == ("HOSP", "K-P1")
    assert study.coerced_by == {"issuer": rule.pk, "patient_id": rule.pk}
    assert Instance.objects.get().open_file().read() == part10(dataset)
    assert store(dataset) == ["duplicate"]


@pytest.mark.django_db
def test_another_sender_and_a_rule_out_of_use_change_nothing(store):
    add_issuer(calling_ae_title="OTHER")
    add_issuer(is_active=False)
    store(ct_dataset(**NO_ISSUER))
    study = Study.objects.get()
    assert of_study(study) == ("", "P1")
    assert study.coerced_by == {}


@pytest.mark.django_db
def test_names_are_read_by_the_default_character_set(store):
    rule = make_rule(character_set=LATIN_2)
    dataset = unlabelled("Žižka^Jiří", "iso8859_2")
    store(dataset, ct_dataset(PatientName="Müller^Anna", PatientID="P2"))
    patient = Patient.objects.get(patient_id="P1")
    assert (patient.name, patient.name_search) == ("Žižka^Jiří", "zizka jiri")
    assert patient.studies.get().coerced_by == {"character_set": rule.pk}
    assert Patient.objects.get(patient_id="P2").name == "Müller^Anna"
    assert Study.objects.get(patient__patient_id="P2").coerced_by == {}
    assert store(dataset) == ["duplicate"]


@pytest.mark.django_db
def test_the_same_id_of_two_hospitals_is_two_patients_and_of_one_is_one(store):
    add_issuer(calling_ae_title="A", issuer="ALPHA")
    add_issuer(calling_ae_title="B", issuer="BETA")
    for calling in ("A", "B", "A"):
        assert store(ct_dataset(**NO_ISSUER), calling=calling) == ["stored"]
    assert sorted((p.issuer, p.studies.count()) for p in Patient.objects.all()) == [("ALPHA", 2), ("BETA", 1)]


def image_of(study_uid: str, **changes):
    return ct_dataset(**({"StudyInstanceUID": study_uid} | NO_ISSUER | changes))


@pytest.mark.django_db
def test_later_images_of_a_study_that_is_older_than_the_rule_still_belong_to_it(store):
    uid = generate_uid()
    store(image_of(uid))
    add_issuer(patient_id_prefix="K-")
    assert store(image_of(uid), image_of(uid)) == ["stored", "stored"]
    assert of_study(Study.objects.get()) == ("", "P1")
    assert Study.objects.get().instance_count == 3
    assert store(image_of(generate_uid())) == ["stored"]  # the rule is for new studies
    assert Patient.objects.filter(issuer="HOSP", patient_id="K-P1").count() == 1
    assert not Conflict.objects.exists()


@pytest.mark.django_db
def test_a_rule_that_was_changed_splits_no_study(store):
    rule, uid = add_issuer(issuer="HOPS"), generate_uid()
    store(image_of(uid))
    rule.issuer = "HOSP"
    replace_rule(rule)
    forget_rules()
    assert store(image_of(uid)) == ["stored"]
    assert of_study(Study.objects.get()) == ("HOPS", "P1")


@pytest.mark.django_db
def test_a_rule_that_was_taken_out_of_use_splits_no_study(store):
    rule, uid = add_issuer(patient_id_prefix="K-"), generate_uid()
    store(image_of(uid))
    CoercionRule.objects.filter(pk=rule.pk).update(is_active=False)
    forget_rules()
    assert store(image_of(uid)) == ["stored"]
    assert Study.objects.get().instance_count == 2


@pytest.mark.django_db
def test_a_worker_that_does_not_know_the_rule_yet_asks_when_a_study_names_it(store):
    current_rules()  # another process makes the rule and a study by it, and takes the rule out of use
    rule = CoercionRule.objects.create(name="CT", issuer_action="add", issuer="HOSP", is_active=False)
    uid = generate_uid()
    patient = Patient.objects.create(issuer="HOSP", patient_id="P1")
    Study.objects.create(study_instance_uid=uid, patient=patient, coerced_by={"issuer": rule.pk})
    assert store(image_of(uid)) == ["stored"]


@pytest.mark.django_db
@pytest.mark.parametrize("has_rule", [False, True])
def test_another_patient_under_a_known_study_is_kept_aside_with_and_without_rules(store, has_rule):
    uid = generate_uid()
    store(image_of(uid))
    if has_rule:
        add_issuer(patient_id_prefix="K-")
    assert store(image_of(uid, PatientID="P2")) == ["conflict"]
    assert store(image_of(uid, PatientID=None)) == ["conflict"]
    assert store(image_of(uid, IssuerOfPatientID="ELSEWHERE")) == ["conflict"]
    assert Instance.objects.count() == 1


@pytest.mark.django_db
def test_an_absent_issuer_under_a_study_that_got_one_is_of_another_person(store):
    uid = generate_uid()
    add_issuer()
    store(image_of(uid))
    assert store(image_of(uid), calling="OTHER") == ["conflict"]
    add_issuer(calling_ae_title="OTHER")
    assert store(image_of(uid), calling="OTHER") == ["stored"]


@pytest.mark.django_db
def test_one_batch_of_old_and_new_identities_of_one_study(store):
    uid = generate_uid()
    store(image_of(uid))
    add_issuer()
    batch = _open_batch()
    for calling in ("SENDER", "OTHER", "SENDER"):
        batch.write((part10(image_of(uid), calling),))
    assert [result.outcome.value for result in store_batch(batch.close())] == ["stored"] * 3


@pytest.mark.django_db
def test_a_worker_that_works_by_the_old_rules_makes_the_study_first(store, monkeypatch):
    add_issuer()
    uid, upsert = generate_uid(), settling.upsert_studies

    def beaten(headers, patients):
        if not Study.objects.filter(study_instance_uid=uid).exists():
            Study.objects.create(study_instance_uid=uid, patient=Patient.objects.create(patient_id="P1"))
        return upsert(headers, patients)

    monkeypatch.setattr(settling, "upsert_studies", beaten)
    assert store(image_of(uid)) == ["stored"]
    assert of_study(Study.objects.get()) == ("", "P1")
    assert Study.objects.get().instance_count == 1


# --- How long they are remembered


@pytest.mark.django_db
def test_rules_are_read_again_after_two_seconds_and_not_before(monkeypatch, django_assert_num_queries):
    now = 1000.0
    monkeypatch.setattr(rulebook, "monotonic", lambda: now)
    assert current_rules().rules == ()
    rule = CoercionRule.objects.create(name="CT", issuer_action="add", issuer="HOSP")
    with django_assert_num_queries(0):
        now = 1001.9
        assert current_rules().rules == ()
    now = 1002.1
    assert current_rules().rules == (rule.as_rule(),)


@pytest.mark.django_db
def test_rules_are_in_order_and_only_those_in_use():
    for name, position, is_active in (("c", 2, True), ("a", 1, True), ("off", 0, False), ("b", 1, True)):
        CoercionRule.objects.create(name=name, position=position, is_active=is_active, patient_id_prefix=name)
    assert [rule.patient_id_prefix for rule in current_rules().rules] == ["a", "b", "c"]


@pytest.mark.django_db
def test_who_changed_what_is_said_once_a_rule(store):
    issuer = add_issuer(name="Issuer", patient_id_prefix="K-")
    texts = make_rule(name="Texts", character_set=LATIN_2)
    store(unlabelled("Žižka", "iso8859_2", **NO_ISSUER))
    assert coercion_rules(Study.objects.get()) == [
        ("issuer and prefix of the Patient ID", issuer), ("character set", texts),
    ]  # fmt: skip
