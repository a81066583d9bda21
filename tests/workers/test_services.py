"""The DICOM services beside the receiver: connections handed over, C-FIND for real peers, C-STORE into the spool."""

import logging
import socket
import subprocess
import threading
from datetime import date
from io import BytesIO

import pytest
from django.conf import settings
from django.db import connection
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage, Verification

from apps.archive.models import Series
from apps.core.models import Outbox
from apps.core.queue import STORE_BATCH
from apps.nodes.models import RemoteNode
from apps.storage.spool import Spool
from apps.transfer.find import find_studies
from dicomsys.evaluation.certificates import ensure_certificates
from tests.dicom import ct_dataset, encode
from tests.factories import make_study
from tests.peers import STUDY_ROOT_FIND, Address, system_program, wait_until
from tests.transfer.conftest import node_for
from workers.receiver.handover import hand_over
from workers.receiver.tls import TlsContexts
from workers.services import find as services_find

pytestmark = pytest.mark.django_db(transaction=True)

PATIENT_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"
PENDING = (0xFF00, 0xFF01)


def associate(port, contexts=(STUDY_ROOT_FIND,), calling="SEARCHER", called="DICOMSYS"):
    ae = AE(ae_title=calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
    for context in contexts:
        ae.add_requested_context(context, ExplicitVRLittleEndian if context == CTImageStorage else None)
    return ae.associate("127.0.0.1", port, ae_title=called)


def identifier(level="STUDY", **keys) -> Dataset:
    request = Dataset()
    request.QueryRetrieveLevel = level
    for keyword, value in {"StudyInstanceUID": "", "PatientID": "", **keys}.items():
        setattr(request, keyword, value)
    return request


def ask(port, request, model=STUDY_ROOT_FIND, **options):
    """(last status with its comment, [(status, answer)])."""
    assoc = associate(port, [model], **options)
    assert assoc.is_established
    answers = list(assoc.send_c_find(request, model))
    assoc.release()
    matches = [(status.Status, answer) for status, answer in answers if status.Status in PENDING]
    last = answers[-1][0]
    return (last.Status, last.get("ErrorComment", "")), matches


def found(port, **keys) -> list[str]:
    (status, _), matches = ask(port, identifier(**keys))
    assert status == 0x0000
    return sorted(answer.PatientID for _, answer in matches)


# --- What is found


def test_a_study_is_found_with_everything_that_is_known_of_it(front):
    texts = {"study_id": "77", "referring_physician": "Haus^Gregory"}
    study = make_study("Müller^Jürgen", patient_id="P7", instance_count=9, **texts)
    Series.objects.create(study=study, series_instance_uid="1.9", modality="SR")
    keys = ("PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber", "StudyID")
    keys += ("StudyDescription", "ReferringPhysicianName", "ModalitiesInStudy", "NumberOfStudyRelatedInstances")
    keys += ("NumberOfStudyRelatedSeries", "RetrieveAETitle", "InstanceAvailability")

    last, ((status, answer),) = ask(front.port, identifier(PatientID="P7", **dict.fromkeys(keys, "")))

    assert (last, status) == ((0x0000, ""), 0xFF00)
    assert (answer.SpecificCharacterSet, str(answer.PatientName)) == ("ISO_IR 192", "Müller^Jürgen")
    assert (answer.PatientID, answer.PatientBirthDate, answer.PatientSex) == ("P7", "19700101", "O")
    assert (answer.StudyInstanceUID, answer.StudyID) == (study.study_instance_uid, "77")
    assert (answer.StudyDate, answer.StudyTime) == ("20260102", "101100")
    assert answer.AccessionNumber == study.accession_number
    assert (answer.StudyDescription, str(answer.ReferringPhysicianName)) == ("Synthetic study", "Haus^Gregory")
    assert sorted(answer.ModalitiesInStudy) == ["CT", "SR"]
    assert (answer.NumberOfStudyRelatedInstances, answer.NumberOfStudyRelatedSeries) == (9, 1)
    assert (answer.QueryRetrieveLevel, answer.RetrieveAETitle) == ("STUDY", settings.AE_TITLE)
    assert answer.InstanceAvailability == "ONLINE"


def test_names_and_ids_narrow_the_search_in_any_character_set(front):
    make_study("Müller^Jürgen", patient_id="A1")
    make_study("Muller^Anna", patient_id="A2")
    make_study("Иванов^Пётр", patient_id="B1")
    assert found(front.port, PatientName="MULLER*") == ["A1", "A2"]
    assert found(front.port, PatientName="Müller^j*", SpecificCharacterSet="ISO_IR 100") == ["A1"]
    assert found(front.port, PatientName="иванов*", SpecificCharacterSet="ISO_IR 144") == ["B1"]
    assert found(front.port, PatientID="A*", ModalitiesInStudy=["MR", "CT"]) == ["A1", "A2"]
    assert found(front.port, PatientID="A*", StudyDate="20270101-") == []


def test_a_list_of_uids_finds_each_of_them(front):
    uids = [make_study().study_instance_uid for _ in range(5)]
    _, matches = ask(front.port, identifier(StudyInstanceUID=[uids[1], uids[3], "1.2.3.4"]))
    assert {answer.StudyInstanceUID for _, answer in matches} == {uids[1], uids[3]}


def test_the_newest_study_comes_first_over_all_pages(front):
    days = [date(2020, 1, 1 + number % 28) for number in range(120)]
    for day in days:
        make_study(study_date=day)
    _, matches = ask(front.port, identifier(StudyDate=""))
    assert [answer.StudyDate for _, answer in matches] == sorted((f"{day:%Y%m%d}" for day in days), reverse=True)


def test_answers_are_written_in_the_requesters_character_set(front):
    names = {
        "ISO_IR 100": "Müller^Jürgen",
        "ISO_IR 144": "Иванов^Пётр",
        "GB18030": "Wang^XiaoDong=王^小东",
        "\\ISO 2022 IR 87": "Yamada^Tarou=山田^太郎",
    }
    for number, (label, name) in enumerate(names.items()):
        terms = label.split("\\") if "\\" in label else label
        make_study(name, patient_id=f"C{number}")
        request = identifier(PatientName="", PatientID=f"C{number}", SpecificCharacterSet=terms)
        _, ((_, answer),) = ask(front.port, request)
        assert (answer.SpecificCharacterSet, str(answer.PatientName)) == (terms, name)


def test_what_we_do_not_know_comes_back_empty_with_a_warning(front):
    make_study(patient_id="A1", description="Head")
    request = identifier(PatientName="", EthnicGroup="", StudyDescription="Foot*")
    request.add_new(0x00091001, "LO", "private")
    request.ReferencedStudySequence = []
    _, ((status, answer),) = ask(front.port, request)
    assert status == 0xFF01
    assert (answer.EthnicGroup, answer.StudyDescription) == ("", "Head")
    assert answer[0x00091001].value in ("", None, b"")
    assert list(answer.ReferencedStudySequence) == []
    assert "StudyDate" not in answer


def test_patient_root_answers_the_same_studies(front):
    make_study(patient_id="A1")
    _, ((_, answer),) = ask(front.port, identifier(PatientID="A1"), PATIENT_ROOT_FIND)
    assert (answer.PatientID, answer.QueryRetrieveLevel) == ("A1", "STUDY")


def test_patients_are_found_with_what_belongs_to_them(front):
    make_study("One^A", patient_id="A1", instance_count=4)
    make_study("One^A", patient_id="A1", instance_count=5)
    make_study("Two^B", patient_id="B1")
    counts = {f"NumberOfPatientRelated{name}": "" for name in ("Studies", "Series", "Instances")}
    _, ((status, answer),) = ask(
        front.port, identifier("PATIENT", PatientID="A*", PatientName="one*", **counts), PATIENT_ROOT_FIND
    )
    assert (answer.PatientID, str(answer.PatientName), status) == ("A1", "One^A", 0xFF01)  # it asks for a study's UID
    assert (answer.NumberOfPatientRelatedStudies, answer.NumberOfPatientRelatedSeries) == (2, 2)
    assert answer.NumberOfPatientRelatedInstances == 9


# --- What is refused


@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_asked_is_refused_with_the_reason(front):
    make_study()
    refused = {
        "only queries at level STUDY": identifier("SERIES"),
        "Study Date is no date": identifier(StudyDate="yesterday"),
        "Study Instance UID is no UID": identifier(StudyInstanceUID="1.2.*"),
        "(0010,0020) is longer": identifier(PatientID="x" * 300),
    }
    for words, request in refused.items():
        (status, comment), matches = ask(front.port, request)
        assert (status, matches, words in comment) == (0xA900, [], True)
    (status, comment), _ = ask(front.port, identifier("IMAGE"), PATIENT_ROOT_FIND)
    assert (status, comment) == (0xA900, "only queries at level PATIENT or STUDY are answered")


def sending(assoc, **changes):
    """The same association, whose next messages have other bytes than they seem to have."""
    send = assoc.dimse.send_msg

    def send_changed(message, context_id):
        for name, raw in changes.items():
            setattr(message, name, BytesIO(raw))
        send(message, context_id)

    assoc.dimse.send_msg = send_changed
    return assoc


def test_an_identifier_that_cannot_be_read_is_told_so(front):
    assoc = sending(associate(front.port), Identifier=b"\x08\x00\x52\x00SQ\x00\x00\xff\xff\xff\xff" + b"\xff" * 8)
    ((answer, _),) = assoc.send_c_find(identifier(), STUDY_ROOT_FIND)
    assert (answer.Status, answer.ErrorComment) == (0xC000, "the identifier cannot be read")
    assoc.release()


def test_more_matches_than_the_limit_end_with_out_of_resources(front, settings):
    settings.DICOM_FIND_RESULTS_MAX = 60
    for _ in range(61):
        make_study()
    (status, comment), matches = ask(front.port, identifier())
    assert (status, len(matches)) == (0xA700, 60)
    assert comment == "more than 60 match: narrow the search"
    assert len(found(front.port, PatientID="P*", StudyDate="20260102", AccessionNumber="NONE")) == 0


def test_c_cancel_stops_the_answers(front):
    for _ in range(300):
        make_study()
    assoc = associate(front.port)
    statuses = []
    for number, (status, _) in enumerate(assoc.send_c_find(identifier(), STUDY_ROOT_FIND, msg_id=5)):
        if number == 0:
            assoc.send_c_cancel(5, query_model=STUDY_ROOT_FIND)
        statuses.append(status.Status)
    assert statuses[-1] == 0xFE00
    assert len(statuses) < 150
    assert assoc.send_c_find(identifier(PatientID="NOBODY"), STUDY_ROOT_FIND).__next__()[0].Status == 0x0000
    assoc.release()


def test_c_cancel_is_heard_while_the_database_searches(front, monkeypatch):
    begun, may_end = threading.Event(), threading.Event()

    def search(*arguments):
        begun.set()
        may_end.wait(20)
        return []

    monkeypatch.setitem(services_find._QUERIES, "STUDY", services_find._Level(search, None))
    assoc = associate(front.port)
    answers = assoc.send_c_find(identifier(), STUDY_ROOT_FIND, msg_id=5)
    canceller = threading.Thread(target=lambda: begun.wait(10) and assoc.send_c_cancel(5, query_model=STUDY_ROOT_FIND))
    canceller.start()
    assert next(answers)[0].Status == 0xFE00
    may_end.set()
    canceller.join()
    assoc.release()


def test_a_peer_that_goes_away_in_the_middle_ends_its_query(front, services):
    for _ in range(100):
        make_study()
    assoc = associate(front.port)
    answers = assoc.send_c_find(identifier(), STUDY_ROOT_FIND)
    next(answers)
    assoc.abort()
    wait_until(lambda: services.state()["associations"] == 0)
    assert len(found(front.port)) == 100


def test_a_peer_that_takes_no_answers_is_given_up(services, tcp_peer, settings):
    settings.DICOM_NETWORK_TIMEOUT_S = 1
    for _ in range(100):
        make_study()

    def serve(client):  # carries everything there and only the A-ASSOCIATE-AC back
        ours, theirs = socket.socketpair()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
        hand_over(theirs, "127.0.0.1", 5678, True, "SEARCHER")
        theirs.close()
        ours.sendall(client.recv(65536))
        client.sendall(ours.recv(65536))
        while chunk := client.recv(65536):
            ours.sendall(chunk)

    assoc = associate(tcp_peer(serve).port)
    assert services.state()["associations"] == 1
    searching = threading.Thread(target=lambda: list(assoc.send_c_find(identifier(), STUDY_ROOT_FIND)))
    searching.start()
    wait_until(lambda: services.state()["associations"] == 0, 15)
    assoc.abort()
    searching.join(20)


def test_a_search_that_takes_too_long_is_given_up(front, settings, monkeypatch):
    settings.DICOM_FIND_TIMEOUT_S = 0.05

    def sleep(keys, *names, table=""):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(5)")

    monkeypatch.setattr("apps.archive.find._ranges", sleep)
    last, _ = ask(front.port, identifier())
    assert last == (0xA700, "the search takes too long: narrow it")


def test_connections_that_the_database_server_ended_are_made_again(front):
    make_study(patient_id="A1")
    assert found(front.port) == ["A1"]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert found(front.port) == ["A1"]


def test_a_database_that_is_away_is_told_and_the_next_query_works(front, monkeypatch):
    make_study(patient_id="A1")
    with monkeypatch.context() as patch:
        patch.setitem(connection.settings_dict, "PORT", "1")
        last, matches = ask(front.port, identifier())
    assert (last, matches) == ((0xA700, "the database is away: try again later"), [])
    assert found(front.port) == ["A1"]


def test_a_fault_of_ours_is_answered_and_logged_without_its_text(front, monkeypatch, caplog):
    def fail(*arguments):
        raise ValueError("Secret^Person")

    monkeypatch.setitem(services_find._QUERIES, "STUDY", services_find._Level(fail, None))
    last, _ = ask(front.port, identifier())
    assert last == (0xC000, "the search failed: our log tells where")
    assert "ValueError in fail line" in caplog.text
    assert "Secret" not in caplog.text


# --- Who may


@pytest.fixture
def strict(settings, rights):
    """Only what the node table allows, as in production."""
    settings.DICOM_ALLOW_UNKNOWN_LOCAL_CALLERS = False

    def allow(**columns):
        values = {"name": "searcher", "ae_title": "SEARCHER", "sender_addresses": "127.0.0.1", "may_send": False}
        RemoteNode.objects.create(**{**values, **columns})
        rights.read()

    return allow


def test_an_unknown_caller_is_rejected(strict, front):
    assoc = associate(front.port)
    assert assoc.is_rejected
    assert assoc.acceptor.primitive.diagnostic == 0x03


def test_a_known_title_from_another_address_is_rejected(strict, front):
    strict(may_query=True, sender_addresses="192.0.2.7")
    assert associate(front.port).is_rejected


def test_another_called_ae_title_is_rejected(front):
    assoc = associate(front.port, called="OTHER")
    assert assoc.acceptor.primitive.diagnostic == 0x07


def test_without_the_right_to_query_its_contexts_are_refused_and_others_not(strict, front):
    strict(may_query=False)
    assoc = associate(front.port, [STUDY_ROOT_FIND, PATIENT_ROOT_FIND, Verification])
    assert [context.abstract_syntax for context in assoc.accepted_contexts] == [Verification]
    assert assoc.send_c_echo().Status == 0x0000
    assoc.release()


def test_a_right_that_is_taken_away_ends_the_answers_of_an_open_association(strict, front, rights):
    strict(may_query=True)
    make_study(patient_id="A1")
    assoc = associate(front.port)
    assert [status.Status for status, _ in assoc.send_c_find(identifier(), STUDY_ROOT_FIND)] == [0xFF00, 0x0000]
    RemoteNode.objects.update(may_query=False)
    rights.read()
    assert [status.Status for status, _ in assoc.send_c_find(identifier(), STUDY_ROOT_FIND)] == [0x0124]
    assoc.release()


def test_the_address_is_the_one_of_the_message(strict, services, tcp_peer):
    strict(may_query=True, sender_addresses="192.0.2.7")
    peer = tcp_peer(lambda client: hand_over(client, "192.0.2.7", 5678, False, "SEARCHER"))
    assert found(peer.port) == []


def test_beyond_the_limit_an_association_is_rejected_as_transient(front, services):
    services._ae.maximum_associations = 1
    first = associate(front.port)
    answer = associate(front.port).acceptor.primitive
    assert (answer.result, answer.result_source, answer.diagnostic) == (2, 3, 2)
    first.release()


# --- C-STORE and C-ECHO beside it


def test_what_is_stored_on_the_same_association_lies_in_the_spool_and_ingest_is_asked_for(front):
    dataset = ct_dataset()
    assoc = associate(front.port, [STUDY_ROOT_FIND, CTImageStorage, Verification], calling="SENDER")
    assert assoc.send_c_echo().Status == 0x0000
    assert assoc.send_c_store(dataset).Status == 0x0000
    assoc.release()

    wait_until(lambda: Outbox.objects.exists())
    (path,) = settings.SPOOL_DIR.glob("closed/*/*.dcm")
    stored = dcmread(BytesIO(path.read_bytes()))
    assert stored == dataset
    assert stored.file_meta.SourceApplicationEntityTitle == "SENDER"
    row = Outbox.objects.get()
    assert (row.task_name, row.arguments) == (STORE_BATCH, Spool(settings.SPOOL_DIR).closed_batches())


def test_a_data_set_that_is_not_the_one_named_is_refused(front):
    assoc = sending(associate(front.port, [STUDY_ROOT_FIND, CTImageStorage]), DataSet=encode(ct_dataset()))
    assert assoc.send_c_store(ct_dataset()).Status == 0xA900
    assert not list(settings.SPOOL_DIR.glob("*/*/*"))
    assoc.release()


def test_a_caller_that_may_not_send_is_told_so(strict, front, services):
    strict(may_query=True)
    assoc = associate(front.port, [STUDY_ROOT_FIND, CTImageStorage])
    assert assoc.send_c_store(ct_dataset()).Status == 0x0124
    assert not list(settings.SPOOL_DIR.glob("*/*/*"))
    assoc.release()
    assert services._journal.refusals == [0x0124]


def test_unknown_classes_are_stored_unless_a_setting_says_no(front, settings):
    dataset = ct_dataset(SOPClassUID="1.2.3.4.5.6.7")
    assoc = associate(front.port, [STUDY_ROOT_FIND, "1.2.3.4.5.6.7"])
    assert assoc.send_c_store(dataset).Status == 0x0000
    settings.DICOM_ACCEPT_UNKNOWN_CLASSES = False
    assert assoc.send_c_store(dataset).Status == 0x0122
    assoc.release()


def test_a_spool_without_room_refuses_and_recovers(front, services):
    assoc = associate(front.port, [STUDY_ROOT_FIND, CTImageStorage])
    services._storer._spool.min_free_bytes = 1 << 60
    assert assoc.send_c_store(ct_dataset()).Status == 0xA700
    services._storer._spool.min_free_bytes = 0
    assert assoc.send_c_store(ct_dataset()).Status == 0x0000
    assoc.release()


def test_what_happens_is_counted_as_at_the_receiver(strict, front, services):
    assert associate(front.port, calling="STRANGER").is_rejected
    strict(may_send=True)
    assoc = associate(front.port, [STUDY_ROOT_FIND, CTImageStorage])
    assoc.send_c_store(ct_dataset())
    assoc.release()
    journal = services._journal
    assert journal.opened_by == [("SEARCHER", "127.0.0.1")]
    assert [(caller.calling_ae_title, why.reason) for caller, why in journal.rejections] == [("STRANGER", 3)]
    assert len(journal.bytes) == 1
    assert journal.bytes[0] > 500


# --- Through the receiver


def test_the_receiver_hands_over_what_it_does_not_serve_itself(start_receiver, services):
    make_study(patient_id="A1")
    port = start_receiver().port
    assert found(port) == ["A1"]
    assoc = associate(port, [CTImageStorage])  # its own
    assert assoc.send_c_store(ct_dataset()).Status == 0x0000
    assoc.release()
    assert services._journal.bytes == []


def test_a_query_through_dicom_tls_is_answered(start_receiver, services, tmp_path):
    make_study("Müller^Jürgen", patient_id="A1")
    ensure_certificates(tmp_path)
    port = start_receiver(tls=TlsContexts(tmp_path / "postgresql.crt", tmp_path / "postgresql.key", None)).port
    command = [system_program("findscu", "dcmtk"), "-S", "+tla", "+cf", tmp_path / "ca.crt", "-aec", "DICOMSYS"]
    command += ["-X", "-od", tmp_path, "127.0.0.1", str(port), "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientName"]
    subprocess.run(command, check=True, timeout=30, capture_output=True)
    (path,) = tmp_path.glob("*.dcm")
    assert str(dcmread(path).PatientName) == "Müller^Jürgen"


def test_without_the_services_the_receiver_asks_to_come_back(start_receiver):
    answer = associate(start_receiver().port).acceptor.primitive
    assert (answer.result, answer.result_source, answer.diagnostic) == (2, 3, 1)


def test_no_log_line_quotes_a_person(front, caplog, recwarn):
    caplog.set_level(logging.DEBUG)
    make_study("Secret^Person", patient_id="SECRET1")
    ask(front.port, identifier(PatientName="Secret*", PatientBirthDate="20261399"))
    found(front.port, PatientName="Secret*")
    texts = caplog.text + "".join(str(warning.message) for warning in recwarn)
    assert "C-FIND of 'SEARCHER'" in texts
    assert not [word for word in ("Secret", "SECRET", "19700101", "20261399") if word in texts]


# --- Other programs


def test_findscu_finds_by_name_and_is_told_the_instances(front, tmp_path):
    make_study("Müller^Jürgen", patient_id="A1", instance_count=12)
    command = [
        *(
            system_program("findscu", "dcmtk"),
            "-S",
            "-aec",
            "DICOMSYS",
            "127.0.0.1",
            str(front.port),
            "-X",
            "-od",
            tmp_path,
        ),
        *("-k", "QueryRetrieveLevel=STUDY", "-k", "PatientName=MULLER*", "-k", "StudyInstanceUID", "-k", "0020,1208"),
    ]
    subprocess.run(command, check=True, timeout=30, capture_output=True)
    (path,) = tmp_path.glob("*.dcm")
    answer = dcmread(path)
    assert (str(answer.PatientName), answer.NumberOfStudyRelatedInstances) == ("Müller^Jürgen", 12)


def test_orthanc_finds_studies_here(front, orthanc):
    make_study("Müller^Jürgen", patient_id="A1", instance_count=3)
    orthanc.register_modality("DICOMSYS", front.port)
    query = {"PatientName": "Müller*", "NumberOfStudyRelatedInstances": ""}
    answer = orthanc._call("POST", "/modalities/DICOMSYS/query", {"Level": "Study", "Query": query})
    (number,) = orthanc._call("GET", f"/queries/{answer['ID']}/answers")
    tags = orthanc._call("GET", f"/queries/{answer['ID']}/answers/{number}/content?simplify")
    assert (tags["PatientName"], tags["PatientID"], tags["NumberOfStudyRelatedInstances"]) == (
        "Müller^Jürgen",
        "A1",
        "3",
    )


def test_our_own_search_of_other_systems_finds_us(front):
    make_study("Müller^Jürgen", patient_id="A1", instance_count=3)
    node = node_for(Address(front.port, settings.AE_TITLE))
    (study,) = find_studies(node, patient_name="müll").studies
    assert (study.patient_name, study.instance_count, study.modalities) == ("Müller^Jürgen", 3, ("CT",))


def test_eight_searchers_at_once_are_all_answered(front):
    for _ in range(30):
        make_study()
    counts = []
    threads = [threading.Thread(target=lambda: counts.append(len(found(front.port)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [30] * 8
