"""The DICOM port byte by byte: what PS3.7 and PS3.8 allow, and what they do not."""

import socket
import struct
import time

import pytest
from django.conf import settings
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, generate_uid
from pynetdicom.pdu_primitives import (
    AsynchronousOperationsWindowNegotiation,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)

from tests.dicom import ct_dataset, encode
from tests.dimse import COMMAND, CT, LAST, VERIFICATION, RawScu, associate_rq, command, p_data, pdv, store
from tests.peers import wait_until
from workers.receiver.rules import Rejection

RELEASE_RQ = b"\x05\0\0\0\0\x04\0\0\0\0"
RELEASE_RP = b"\x06\0\0\0\0\x04\0\0\0\0"
ABORT_BY_USER = b"\x07\0\0\0\0\x04\0\0\0\0"


@pytest.fixture
def receiver(start_receiver):
    return start_receiver()


@pytest.fixture
def scu(receiver):
    with RawScu(receiver.port) as scu:
        scu.associate()
        yield scu


@pytest.fixture
def image():
    dataset = ct_dataset()
    return dataset.SOPInstanceUID, encode(dataset)


def abort_reason(scu) -> int:
    """Of the A-ABORT that comes next, by the provider."""
    pdu = scu.read_pdu()
    assert (pdu[0], pdu[8]) == (7, 2), pdu
    return pdu[9]


# --- Fragments


def pieces(content: bytes, size: int, context_id=1, kind=0):
    """Fragments of `size` bytes; the last one says so."""
    parts = [content[at : at + size] for at in range(0, len(content), size)]
    flags = [kind] * (len(parts) - 1) + [kind | LAST]
    return [pdv(context_id, flag, part) for flag, part in zip(flags, parts, strict=True)]


@pytest.mark.parametrize("size", [1, 2, 7, 100, 4096])
@pytest.mark.parametrize("in_one_pdu", [True, False])
def test_fragments_of_any_size_in_any_number_of_pdus_make_the_same_file(receiver, scu, image, size, in_one_pdu):
    uid, content = image
    fragments = pieces(command(1, 7, True, CT, uid), size, kind=COMMAND) + pieces(content, size)
    scu.send(p_data(*fragments) if in_one_pdu else b"".join(p_data(fragment) for fragment in fragments))
    assert scu.read_status() == 0x0000
    (path,) = receiver.files()
    assert path.read_bytes().endswith(content)


def test_bytes_that_come_one_by_one_make_the_same_file(receiver, scu, image):
    uid, content = image
    for byte in store(content, uid):
        scu.send(bytes([byte]))
    assert scu.read_status() == 0x0000
    assert receiver.files()[0].read_bytes().endswith(content)


def test_an_empty_last_fragment_ends_the_message(receiver, scu, image):
    uid, content = image
    scu.send(p_data(pdv(1, COMMAND | LAST, command(1, 1, True, CT, uid))))
    scu.send(p_data(pdv(1, 0, content)) + p_data(pdv(1, LAST, b"")))
    assert scu.read_status() == 0x0000
    assert receiver.files()[0].read_bytes().endswith(content)


def test_a_pdu_longer_than_any_buffer_is_taken(receiver, scu):
    dataset = ct_dataset(PixelData=bytes(3_000_000))
    scu.send(store(encode(dataset), dataset.SOPInstanceUID))
    assert scu.read_status() == 0x0000
    assert receiver.files()[0].read_bytes().endswith(encode(dataset))


def test_two_objects_sent_before_the_first_answer_are_both_answered(receiver, scu):
    first, second = ct_dataset(), ct_dataset()
    scu.send(store(encode(first), first.SOPInstanceUID) + store(encode(second), second.SOPInstanceUID, message_id=2))
    assert [scu.read_status(), scu.read_status()] == [0x0000, 0x0000]
    assert len(receiver.files()) == 2


def test_a_pdu_without_fragments_is_passed_over(scu, image):
    uid, content = image
    scu.send(p_data() + store(content, uid))
    assert scu.read_status() == 0x0000


# --- Against the rules


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"\x01\0\0\0\0\x04\0\0\0\0", 2),
        (b"\x02\0\0\0\0\x04\0\0\0\0", 2),
        (b"\x06\0\0\0\0\x04\0\0\0\0", 2),
        (b"\x09\0\0\0\0\x04\0\0\0\0", 1),
        (b"GET / HTTP/1.1\r\n\r\n", 1),
        (p_data(pdv(99, COMMAND | LAST, command(0x30))), 6),
        (p_data(pdv(1, LAST, b"no command before")), 6),
        (p_data(struct.pack(">LBB", 1, 1, 3) + b"xx"), 6),
        (p_data(struct.pack(">LBB", 100, 1, 3) + b"xx"), 6),
        (p_data(b"\0\0\0"), 6),
        (p_data(pdv(1, COMMAND | LAST, b"\xff" * 40)), 6),
        (p_data(pdv(1, COMMAND | LAST, b"")), 6),
        (p_data(pdv(1, COMMAND, bytes(20_000))), 6),
        (p_data(pdv(1, COMMAND, command(0x30)[:10]), pdv(3, COMMAND | LAST, command(0x30)[10:])), 6),
    ],
)
def test_what_is_against_the_protocol_is_aborted_with_its_reason(receiver, scu, sent, reason):
    scu.send(sent)
    assert abort_reason(scu) == reason
    assert scu.read_pdu() == b""
    with RawScu(receiver.port) as other:
        other.associate()


@pytest.mark.parametrize("end", [0, 3, 9, 30, 80, 400])
def test_an_object_that_breaks_off_leaves_nothing(receiver, scu, image, end):
    uid, content = image
    scu.send(store(content, uid)[:end] + (ABORT_BY_USER if end == 0 else b""))
    scu.socket.close()
    wait_until(lambda: receiver.desk.slots.counts() == (0, 0))
    assert not receiver.files()
    wait_until(lambda: not list(receiver.desk.spool.open_dir.iterdir()))


def test_an_abort_within_an_object_keeps_what_was_acknowledged_before(receiver, scu, image):
    uid, content = image
    scu.send(store(content, uid))
    assert scu.read_status() == 0x0000
    scu.send(store(content, uid)[:-100])
    scu.send(ABORT_BY_USER)  # read as content: the connection then ends within the object
    scu.socket.close()
    wait_until(lambda: receiver.published)
    assert len(receiver.files()) == 1


def test_a_release_is_confirmed_and_the_batch_published(receiver, scu, image):
    uid, content = image
    scu.send(store(content, uid))
    scu.read_status()
    scu.send(RELEASE_RQ)
    assert scu.read_pdu() == RELEASE_RP
    assert scu.read_pdu() == b""
    wait_until(lambda: len(receiver.published) == 1)


def test_a_second_release_request_does_no_harm(receiver, scu):
    scu.send(RELEASE_RQ + RELEASE_RQ)
    assert scu.read_pdu() == RELEASE_RP
    scu.socket.close()
    wait_until(lambda: receiver.desk.slots.counts() == (0, 0))


# --- Commands


def test_echo_is_answered_in_any_context(scu):
    scu.send(p_data(pdv(3, COMMAND | LAST, command(0x0030, sop_class=VERIFICATION))))
    assert scu.read_status() == 0x0000


def test_a_cancel_and_a_response_are_passed_over(scu):
    scu.send(p_data(pdv(1, COMMAND | LAST, command(0x0FFF, sop_class=None))))
    scu.send(p_data(pdv(1, COMMAND | LAST, command(0x8001))))
    scu.send(p_data(pdv(3, COMMAND | LAST, command(0x0030, 9, sop_class=VERIFICATION))))
    pdu = scu.read_pdu()
    assert struct.pack("<HHLH", 0, 0x0120, 2, 9) in pdu


@pytest.mark.parametrize("field", [0x0020, 0x0010, 0x0021, 0x0110, 0x0150, 0x7777])
@pytest.mark.parametrize("has_data_set", [True, False])
def test_an_operation_that_is_not_served_here_is_answered_as_unrecognised(scu, field, has_data_set):
    scu.send(p_data(pdv(1, COMMAND | LAST, command(field, 5, has_data_set))))
    if has_data_set:
        scu.send(p_data(pdv(1, LAST, b"an identifier")))
    pdu = scu.read_pdu()
    assert struct.pack("<HHLH", 0, 0x0100, 2, field | 0x8000) in pdu
    assert struct.pack("<HHLH", 0, 0x0900, 2, 0x0211) in pdu


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"sop_instance": None}, 0xC000),
        ({"sop_instance": ""}, 0xC000),
        ({"sop_instance": "1" * 129}, 0xC000),
        ({"sop_instance": "../../etc/passwd\n"}, 0xC000),
        ({"sop_instance": "1.2", "sop_class": None}, 0xC000),
    ],
)
def test_a_c_store_without_usable_uids_is_not_understood_and_the_next_one_works(scu, image, request_, status):
    scu.send(p_data(pdv(1, COMMAND | LAST, command(1, 1, True, **request_))) + p_data(pdv(1, LAST, image[1])))
    assert scu.read_status() == status
    scu.send(store(image[1], image[0]))
    assert scu.read_status() == 0x0000


def test_a_c_store_without_a_data_set_or_in_the_wrong_context_is_refused(scu, image):
    uid, content = image
    scu.send(p_data(pdv(1, COMMAND | LAST, command(1, 1, False, CT, uid))))
    assert scu.read_status() == 0xC000
    scu.send(store(content, uid, context_id=3))
    assert scu.read_status() == 0x0122


def test_uids_that_are_no_path_never_become_one(receiver, scu):
    uid = "../../../../tmp/x"
    dataset = encode(ct_dataset(SOPInstanceUID=None))
    scu.send(store(dataset, uid))
    assert scu.read_status() == 0x0000
    (path,) = receiver.files()
    assert path.name == "1.dcm"


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("size", [10, 65536])
def test_a_data_set_that_is_not_the_one_named_is_refused(start_receiver, syntax, size):
    receiver = start_receiver()
    dataset = ct_dataset()
    content = encode(dataset, implicit=syntax == ImplicitVRLittleEndian)
    with RawScu(receiver.port) as scu:
        scu.associate(syntaxes=[(CT, [syntax])])
        fragments = pieces(command(1, 1, True, CT, generate_uid()), 4096, kind=COMMAND) + pieces(content, size)
        scu.send(p_data(*fragments))
        assert scu.read_status() == 0xA900
        scu.send(store(content, dataset.SOPInstanceUID))
        assert scu.read_status() == 0x0000
    assert len(receiver.files()) == 1
    assert receiver.notes.refusals == [0xA900]


def test_one_line_tells_how_the_association_went_and_none_names_a_person(receiver, image, caplog):
    with RawScu(receiver.port) as scu:
        scu.associate()
        for _ in range(3):
            scu.send(store(image[1], generate_uid()))
            assert scu.read_status() == 0xA900
        scu.send(b"\x09\0\0\0\0\x04\0\0\0\0")
        assert abort_reason(scu) == 1
    wait_until(lambda: receiver.desk.slots.counts() == (0, 0))
    (line,) = [record.getMessage() for record in caplog.records if record.name.startswith("workers.receiver")]
    assert "PDU type 9 is unknown; 3 C-STORE refused, the first with 0xA900" in line
    assert "Phantom" not in line


# --- Negotiation


def test_every_storage_class_and_syntax_is_accepted_as_the_caller_prefers_it(receiver):
    private = "1.2.3.4.5"
    new = "1.2.840.10008.5.1.4.1.1.999"
    with RawScu(receiver.port) as scu:
        accepted = scu.associate(
            syntaxes=[
                (CT, [JPEG2000Lossless, ExplicitVRLittleEndian]),
                (private, [UID("1.2.3.4.99")]),
                (new, [ExplicitVRLittleEndian]),
                (CT, [ImplicitVRLittleEndian]),
            ]
        )
    answers = accepted.presentation_context
    assert [answer.result for answer in answers] == [0, 0, 0, 0]
    assert [answer.transfer_syntax for answer in answers] == [
        JPEG2000Lossless,
        "1.2.3.4.99",
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
    ]


def test_unknown_classes_are_refused_where_a_setting_says_so(start_receiver):
    receiver = start_receiver(accepts_unknown_classes=False)
    with RawScu(receiver.port) as scu:
        accepted = scu.associate(syntaxes=["1.2.3.4.5", CT])
    assert [answer.result for answer in accepted.presentation_context] == [3, 0]


def test_the_caller_is_told_one_operation_at_a_time_its_identity_and_how_we_store(receiver):
    window, role = AsynchronousOperationsWindowNegotiation(), SCP_SCU_RoleSelectionNegotiation()
    window.maximum_number_operations_invoked, window.maximum_number_operations_performed = 8, 8
    role.sop_class_uid, role.scu_role, role.scp_role = CT, True, True
    extended, identity = SOPClassExtendedNegotiation(), UserIdentityNegotiation()
    extended.sop_class_uid, extended.service_class_application_information = CT, b"\x02\0\x03\0\x01\0"
    identity.user_identity_type, identity.positive_response_requested = 1, True
    identity.primary_field = b"somebody"
    with RawScu(receiver.port) as scu:
        accepted = scu.associate(items=[window, role, extended, identity])
        assert accepted.called_ae_title == "DICOMSYS"
        assert accepted.calling_ae_title == "SENDER"
        answer = accepted.user_information
        assert (answer.async_ops_window.maximum_number_operations_invoked, answer.maximum_length) == (1, 131072)
        assert answer.role_selection == {}
        assert answer.ext_neg[0].service_class_application_information == b"\x02\0\x03\0\0\0"
        assert answer.user_identity is not None
    ((caller, only_senders),) = receiver.desk.rules.asked
    assert only_senders
    assert (caller.user_identity.kind, caller.user_identity.primary) == (1, b"somebody")
    assert (caller.calling_ae_title, caller.called_ae_title, caller.address) == ("SENDER", "DICOMSYS", "127.0.0.1")


def test_a_rejection_reaches_the_caller_with_its_numbers(start_receiver):
    from tests.workers.conftest import Everyone

    receiver = start_receiver(rules=Everyone(Rejection(1, 1, 3, "unknown")))
    with RawScu(receiver.port) as scu:
        scu.send(associate_rq())
        assert scu.read_pdu() == b"\x03\0\0\0\0\x04\0\x01\x01\x03"
    ((caller, rejection),) = receiver.notes.rejections
    assert (caller.calling_ae_title, rejection.words) == ("SENDER", "unknown")


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        (lambda pdu: pdu[:6] + b"\0\x02" + pdu[8:], b"\x01\x02\x02"),
        (lambda pdu: pdu.replace(b"1.2.840.10008.3.1.1.1", b"1.2.840.10008.3.1.1.9"), b"\x01\x01\x02"),
    ],
)
def test_another_protocol_or_application_is_rejected(receiver, change, answer):
    with RawScu(receiver.port) as scu:
        scu.send(change(associate_rq()))
        pdu = scu.read_pdu()
    assert (pdu[0], pdu[7:]) == (3, answer)


def test_ae_titles_may_hold_any_byte(receiver):
    pdu = associate_rq()
    with RawScu(receiver.port) as scu:
        scu.send(pdu[:26] + "Gerät-Ü".encode("latin-1").ljust(16) + pdu[42:])
        assert scu.read_pdu()[0] == 2
    assert receiver.notes.opened_by == [("Gerät-Ü", "127.0.0.1")]


@pytest.mark.parametrize("length", [0, 4, 60, 100])
def test_a_request_that_cannot_be_read_is_aborted(receiver, length):
    body = associate_rq()[6 : 6 + length]
    with RawScu(receiver.port) as scu:
        scu.send(struct.pack(">BBL", 1, 0, len(body)) + body)
        assert abort_reason(scu) == 6


@pytest.mark.parametrize("context", [b"\x20\0\0\x04\1\0\0\0", b"\x20\0\0\x0b\1\0\0\0\x30\0\0\x031.2"])
def test_a_context_without_its_syntaxes_is_aborted(receiver, context):
    body = associate_rq()[6:]
    at = body.index(b"\x20\0\0")
    body = body[:at] + context + body[at:]
    with RawScu(receiver.port) as scu:
        scu.send(struct.pack(">BBL", 1, 0, len(body)) + body)
        assert abort_reason(scu) == 6


def test_a_request_of_more_than_a_megabyte_is_aborted_unread(receiver):
    with RawScu(receiver.port) as scu:
        scu.send(struct.pack(">BBL", 1, 0, 1 << 30))
        assert abort_reason(scu) == 6


def test_a_request_longer_than_the_kernels_buffer_is_read(receiver):
    identity = UserIdentityNegotiation()
    identity.user_identity_type, identity.primary_field = 1, b"x" * 60_000
    syntaxes = [(f"1.2.3.{number}", [UID(f"1.2.3.4.{n}") for n in range(60)]) for number in range(128)]
    with RawScu(receiver.port) as scu:
        accepted = scu.associate(syntaxes=syntaxes, items=[identity])
    assert len(accepted.presentation_context) == 128


# --- Limits and time


def test_the_limit_of_associations_is_told_as_transient(start_receiver):
    receiver = start_receiver(associations=2)
    with RawScu(receiver.port) as first, RawScu(receiver.port) as second, RawScu(receiver.port) as third:
        first.associate()
        second.associate()
        third.send(associate_rq())
        assert third.read_pdu()[7:] == b"\x02\x03\x02"
        first.send(RELEASE_RQ)
        assert first.read_pdu() == RELEASE_RP
        wait_until(lambda: receiver.desk.slots.counts()[0] == 1)
        with RawScu(receiver.port) as fourth:
            fourth.associate()


def test_an_ae_title_may_have_a_limit_of_its_own(start_receiver):
    from tests.workers.conftest import Everyone

    receiver = start_receiver(rules=Everyone(maximum=1))
    with RawScu(receiver.port) as first, RawScu(receiver.port) as second, RawScu(receiver.port) as other:
        first.associate()
        second.send(associate_rq())
        assert second.read_pdu()[7:] == b"\x02\x03\x02"
        other.associate(calling="OTHER")


def test_connections_that_say_nothing_are_bounded_in_number_and_time(start_receiver):
    from workers.receiver.association import Timeouts

    receiver = start_receiver(associations=1, timeouts=Timeouts(1.5, 10, 10))
    silent = [RawScu(receiver.port) for _ in range(30)]
    wait_until(lambda: receiver.desk.slots.counts()[1] == 21)
    assert sum(scu.read_pdu() == b"" for scu in silent[21:]) == 9
    wait_until(lambda: receiver.desk.slots.counts() == (0, 0), 10)
    with RawScu(receiver.port) as scu:
        scu.associate()
    for each in silent:
        each.socket.close()


def test_a_request_that_drips_is_given_up(start_receiver):
    from workers.receiver.association import Timeouts

    receiver = start_receiver(timeouts=Timeouts(1, 10, 10))
    with RawScu(receiver.port) as scu:
        until = time.monotonic() + 8
        try:
            for byte in associate_rq():
                scu.send(bytes([byte]))
                time.sleep(0.1)
                assert time.monotonic() < until
        except (BrokenPipeError, ConnectionResetError):
            pass
        wait_until(lambda: receiver.desk.slots.counts() == (0, 0), 5)


@pytest.mark.parametrize("length", [70_000, 200])
def test_a_request_that_never_comes_whole_is_given_up_in_time(start_receiver, length):
    from workers.receiver.association import Timeouts

    receiver = start_receiver(timeouts=Timeouts(1, 10, 10))
    with RawScu(receiver.port) as scu:
        scu.send(struct.pack(">BBL", 1, 0, length))
        until = time.monotonic() + 8
        with pytest.raises(ConnectionError):
            while time.monotonic() < until:
                scu.send(b"x")
                time.sleep(0.2)
        assert time.monotonic() < until


def test_urgent_data_makes_nobody_spin(start_receiver):
    from workers.receiver.association import Timeouts

    receiver = start_receiver(timeouts=Timeouts(2, 10, 10))
    with RawScu(receiver.port) as scu:
        scu.send(b"\x01")
        scu.socket.send(b"!", socket.MSG_OOB)
        before = time.process_time()
        assert scu.read_pdu()[:1] in (b"", b"\x07")
        assert time.process_time() - before < 1


def test_a_sender_with_one_association_at_a_time_may_call_again_at_once(start_receiver, image):
    from tests.workers.conftest import Everyone

    receiver = start_receiver(rules=Everyone(maximum=1))
    for _ in range(20):
        with RawScu(receiver.port) as scu:
            scu.associate()
            scu.send(store(image[1], image[0]))
            assert scu.read_status() == 0x0000
            scu.send(RELEASE_RQ)
            assert scu.read_pdu() == RELEASE_RP


def test_a_class_that_is_not_stored_is_refused_whatever_the_context(start_receiver, image):
    receiver = start_receiver(accepts_unknown_classes=False)
    with RawScu(receiver.port) as scu:
        scu.associate()
        scu.send(store(image[1], image[0], sop_class="1.2.3.4"))
        assert scu.read_status() == 0x0122


def test_thousands_of_empty_elements_in_tiny_pieces_cost_no_time():
    from workers.receiver.identity import Identity

    content = b"".join(struct.pack("<HHL", 8, 0, 0) for _ in range(8000))
    identity = Identity(b"1.2", b"1.3", str(ImplicitVRLittleEndian))
    before = time.process_time()
    for at in range(len(content)):
        identity.feed(memoryview(content)[at : at + 1])
    assert time.process_time() - before < 5


def test_half_a_request_and_no_more_to_come_is_let_go_at_once(receiver):
    with RawScu(receiver.port) as scu:
        scu.send(associate_rq()[:100])
        scu.socket.shutdown(socket.SHUT_WR)
        assert scu.read_pdu() == b""
    wait_until(lambda: receiver.desk.slots.counts() == (0, 0))


def test_a_caller_that_reads_no_answer_is_let_go(start_receiver):
    from workers.receiver.association import Timeouts

    receiver = start_receiver(timeouts=Timeouts(10, 1, 10))
    with RawScu(receiver.port) as scu:
        scu.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        scu.associate()
        echo = p_data(pdv(3, COMMAND | LAST, command(0x0030, sop_class=VERIFICATION)))
        until = time.monotonic() + 20
        with pytest.raises((TimeoutError, ConnectionError)):
            while time.monotonic() < until:
                scu.send(echo * 1000)
        wait_until(lambda: receiver.desk.slots.counts() == (0, 0), 10)


def test_silence_within_and_between_messages_ends_the_association(start_receiver, image):
    from workers.receiver.association import Timeouts

    receiver = start_receiver(timeouts=Timeouts(10, 1, 0.5))
    with RawScu(receiver.port) as within, RawScu(receiver.port) as between:
        within.associate()
        between.associate()
        within.send(store(image[1], image[0])[:-10])
        assert abort_reason(between) == 0
        assert abort_reason(within) == 0
    assert not receiver.files()


def test_a_long_object_of_a_slow_sender_does_not_hold_up_those_before_it(receiver, scu):
    first, second = ct_dataset(), ct_dataset()
    scu.send(store(encode(first), first.SOPInstanceUID))
    assert scu.read_status() == 0x0000
    whole = store(encode(second), second.SOPInstanceUID)
    scu.send(whole[:-20])
    wait_until(lambda: len(receiver.published) == 1)
    scu.send(whole[-20:])
    assert scu.read_status() == 0x0000
    wait_until(lambda: len(receiver.published) == 2)
    assert len(receiver.files()) == 2
    assert not list(settings.SPOOL_DIR.glob("*/*/*.part"))
