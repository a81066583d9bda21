"""The header reader against pydicom, on real files, made-up ones and broken ones."""

import os
import random
import struct
import time as clock
import zlib
from datetime import date, time
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.multival import MultiValue
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)

from apps.archive.elements import MediaDirectoryError, NotDicomError
from apps.archive.header import Header, UnreadableError, read_header
from tests.dicom import ct_dataset, part10

SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
TEXTS = {
    "sop_instance_uid": "SOPInstanceUID",
    "sop_class_uid": "SOPClassUID",
    "study_instance_uid": "StudyInstanceUID",
    "series_instance_uid": "SeriesInstanceUID",
    "patient_id": "PatientID",
    "issuer": "IssuerOfPatientID",
    "patient_name": "PatientName",
    "sex": "PatientSex",
    "study_id": "StudyID",
    "accession_number": "AccessionNumber",
    "study_description": "StudyDescription",
    "referring_physician": "ReferringPhysicianName",
    "institution": "InstitutionName",
    "modality": "Modality",
    "series_description": "SeriesDescription",
    "body_part": "BodyPartExamined",
}
NUMBERS = {"series_number": "SeriesNumber", "instance_number": "InstanceNumber", "rows": "Rows", "columns": "Columns"}
DATES = {"birth_date": "PatientBirthDate", "study_date": "StudyDate"}
UIDS = ("SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID")
WIDTHS = {"sex": 16, "modality": 16, "patient_name": 400, "referring_physician": 400}
WIDTHS |= dict.fromkeys(("study_description", "institution", "series_description"), 256)


def write(folder: Path, dataset: Dataset, syntax=ExplicitVRLittleEndian) -> Path:
    """One Part 10 file in the wanted transfer syntax."""
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", "1.2")
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "1.2.3")
    path = folder / "file.dcm"
    dataset.save_as(
        path, enforce_file_format=True, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian
    )
    return path


def write_bytes(folder: Path, content: bytes) -> Path:
    path = folder / "file.dcm"
    path.write_bytes(content)
    return path


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    """One element with a 16-bit length, explicit VR little endian."""
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def long_element(tag: int, vr: bytes, value: bytes) -> bytes:
    """One element with a 32-bit length, explicit VR little endian."""
    return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, vr, 0, len(value)) + value


def with_element(dataset: Dataset, raw: bytes, before: int) -> bytes:
    """The Part 10 file with one more element, inserted before another."""
    content = part10(dataset)
    at = content.index(struct.pack("<HH", before >> 16, before & 0xFFFF), 400)
    return content[:at] + raw + content[at:]


# --- pydicom as oracle


def differences(header: Header, dataset: Dataset) -> list[str]:
    """Names of fields that pydicom reads differently."""
    expected = {name: shown(dataset, name, keyword) for name, keyword in TEXTS.items()}
    expected |= {name: number(dataset, keyword) for name, keyword in NUMBERS.items()}
    expected |= {name: day(dataset, keyword) for name, keyword in DATES.items()}
    expected["number_of_frames"] = max(1, number(dataset, "NumberOfFrames") or 1)
    return [name for name, value in expected.items() if value is not None and getattr(header, name) != value]


def shown(dataset: Dataset, name: str, keyword: str) -> str | None:
    """The text as the header should have it; None where pydicom gives up."""
    value = dataset.get(keyword)
    if isinstance(value, bytes):
        return None
    text = (
        "\\".join(str(part) for part in value) if isinstance(value, MultiValue) else str("" if value is None else value)
    )
    text = "".join(character for character in text if ord(character) >= 32 and not 127 <= ord(character) < 160).strip()
    if name in ("patient_id", "issuer") and len(text) > 64:
        text = f"{text[:47]}~{sha256(text.encode()).hexdigest()[:16]}"
    if name == "sop_instance_uid" and not text:
        text = str(dataset.file_meta.get("MediaStorageSOPInstanceUID", ""))
    if name in ("patient_name", "referring_physician"):
        text = text.rstrip("=")
    return text[: WIDTHS.get(name, 128 if name.endswith("_uid") else 64)]


def number(dataset: Dataset, keyword: str) -> int | None:
    value = dataset.get(keyword)
    first = value[0] if isinstance(value, MultiValue) else value
    return None if first in (None, "") else int(first)


def day(dataset: Dataset, keyword: str) -> date | None:
    try:
        return date.fromisoformat(str(dataset.get(keyword)))
    except ValueError:
        return None


@pytest.mark.filterwarnings("ignore")
def test_every_real_file_reads_as_pydicom_reads_it():
    root = Path(os.environ.get("DICOMSYS_TEST_DATA") or pytest.skip("DICOMSYS_TEST_DATA is not set"))
    compared, wrong = 0, {}
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        try:
            expected = dcmread(path, force=True, stop_before_pixels=True)
            uids = [str(expected.get(keyword, "")) for keyword in UIDS]
        except Exception:  # noqa: BLE001 - what pydicom cannot read is not compared
            continue
        try:
            header = read_header(path)
            compared += 1
            if found := differences(header, expected):
                wrong[path.name] = found
        except UnreadableError as error:
            if all(0 < len(uid) <= 128 for uid in uids):
                wrong[path.name] = str(error)
        except ValueError:
            assert path.name == "badVR.dcm"  # pydicom fails on one of its numbers
    assert wrong == {}
    assert compared > 590


texts = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "Zs")), max_size=30).map(
    lambda text: text.replace("\\", "").replace("=", "").replace("^", "")
)
private_sequences = st.recursive(
    st.builds(list), lambda inner: st.lists(st.tuples(texts, inner), max_size=3), max_leaves=8
)


def nested(dataset: Dataset, items: list) -> None:
    """Private sequences in sequences, of defined and undefined length."""
    block = dataset.private_block(0x0009, "MADE UP", create=True)
    sequence = []
    for text, inner in items:
        item = Dataset()
        item.SpecificCharacterSet = "ISO_IR 192"
        item.PatientID, item.PatientName = "of an item", text
        nested(item, inner)
        item.is_undefined_length_sequence_item = len(text) % 2 == 0
        sequence.append(item)
    block.add_new(0x01, "SQ", sequence)
    dataset[block.get_tag(0x01)].is_undefined_length = len(items) % 2 == 0


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings("ignore")
@given(
    syntax=st.sampled_from(SYNTAXES),
    fields=st.dictionaries(
        st.sampled_from(sorted(set(TEXTS.values()) - set(UIDS) - {"Modality", "PatientSex", "BodyPartExamined"})), texts
    ),
    group=texts,
    numbers=st.tuples(st.integers(-(2**31), 2**31 - 1), st.integers(0, 65535), st.integers(1, 9999)),
    days=st.dates(min_value=date(1000, 1, 1)),
    items=private_sequences,
)
def test_made_up_data_sets_read_as_pydicom_reads_them(tmp_path, syntax, fields, group, numbers, days, items):
    dataset = ct_dataset(InstanceNumber=numbers[0], Rows=numbers[1], NumberOfFrames=numbers[2])
    dataset.StudyDate = days.strftime("%Y%m%d").zfill(8)
    for keyword, text in fields.items():
        setattr(
            dataset, keyword, f"{text}^Given={group}" if keyword.endswith("Name") and "Inst" not in keyword else text
        )
    nested(dataset, items)
    path = write(tmp_path, dataset, syntax)

    header = read_header(path)

    assert differences(header, dcmread(path)) == []
    assert header.study_date == days
    assert header.transfer_syntax_uid == syntax


# --- What belongs to an instance


def test_the_header_of_a_received_file(tmp_path):
    dataset = ct_dataset(PatientName="Müller^Änne", StudyTime="101112.5")
    content = part10(dataset, calling="SCANNER")

    header = read_header(write_bytes(tmp_path, content))

    assert header.patient_name == "Müller^Änne"
    assert (header.birth_date, header.study_date) == (date(1970, 1, 1), date(2026, 1, 2))
    assert header.study_time == time(10, 11, 12, 500_000)
    assert (header.rows, header.columns, header.number_of_frames) == (8, 8, 1)
    assert header.calling_ae_title == "SCANNER"
    assert header.size_bytes == len(content)


@pytest.mark.parametrize("size", [64, 40_000, 3_000_000])
def test_digests_are_of_the_file_and_of_what_follows_group_2(tmp_path, size):
    content = part10(ct_dataset(PixelData=random.Random(1).randbytes(size)))

    header = read_header(write_bytes(tmp_path, content))

    assert header.file_sha256 == sha256(content).digest()
    assert header.dataset_sha256 == sha256(content[header.dataset_offset :]).digest()
    assert content[header.dataset_offset :][:8] == b"\x08\0\x05\0CS\x0a\0"


def test_digests_do_not_change_when_the_header_lies_far_behind(tmp_path):
    private = long_element(0x00090010, b"UN", bytes(5_000_000))
    content = with_element(ct_dataset(), private, before=0x00100010)

    header = read_header(write_bytes(tmp_path, content))

    assert header.columns == 8
    assert header.file_sha256 == sha256(content).digest()
    assert header.dataset_sha256 == sha256(content[header.dataset_offset :]).digest()


def test_a_long_sequence_of_undefined_length_before_the_uids_is_passed(tmp_path):
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + element(0x00080100, b"SH", b"CODE")
    item += struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
    raw = struct.pack("<HH2sHL", 0x0008, 0x2112, b"SQ", 0, 0xFFFFFFFF) + item * 40_000
    raw += struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)

    header = read_header(write_bytes(tmp_path, with_element(ct_dataset(), raw, before=0x00100010)))

    assert (header.patient_id, header.columns) == ("P1", 8)


def test_the_uid_of_the_data_set_wins_over_the_file_meta(tmp_path):
    dataset = ct_dataset()
    content = part10(dataset)
    dataset.SOPInstanceUID = generate_uid()
    head, body = content[: read_header(write_bytes(tmp_path, content)).dataset_offset], part10(dataset)
    body = body[read_header(write_bytes(tmp_path, body)).dataset_offset :]

    assert read_header(write_bytes(tmp_path, head + body)).sop_instance_uid == dataset.SOPInstanceUID


def test_the_uid_that_the_sender_named_is_taken_when_the_data_set_has_none(tmp_path):
    dataset = ct_dataset()
    uid = dataset.SOPInstanceUID
    content = part10(dataset).replace(element(0x00080018, b"UI", uid.encode() + b"\0" * (len(uid) % 2)), b"")

    assert read_header(write_bytes(tmp_path, content)).sop_instance_uid == uid


def test_two_long_patient_ids_stay_two(tmp_path):
    first = read_header(write(tmp_path, ct_dataset(PatientID="9" * 80))).patient_id
    second = read_header(write(tmp_path, ct_dataset(PatientID="9" * 79 + "8"))).patient_id

    assert first != second
    assert len(first) == len(second) == 64


@pytest.mark.parametrize(
    ("charset", "raw", "expected"),
    [
        (b"ISO_IR 100", b"Buc^J\xe9r\xf4me", "Buc^Jérôme"),
        (b"ISO_IR 144", "Люксембург".encode("iso8859_5"), "Люксембург"),
        (b"ISO_IR 126", "Διονυσιος".encode("iso8859_7"), "Διονυσιος"),
        (b"ISO_IR 127", "قباني^لنزار".encode("iso8859_6"), "قباني^لنزار"),
        (b"ISO_IR 192", "Wang^XiaoDong=王^小東".encode(), "Wang^XiaoDong=王^小東"),
        (b"GB18030", "Wang^XiaoDong=王^小东".encode("gb18030"), "Wang^XiaoDong=王^小东"),
        (
            b"ISO_IR 13\\ISO 2022 IR 87",
            b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J",
            "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎",
        ),
        (b"\\ISO 2022 IR 149", b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7", "Hong^Gildong=洪^吉洞"),
        (b"\\ISO 2022 IR 58", b"Zhang=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab", "Zhang=张^小东"),
        (b"", "Müller".encode(), "Müller"),
        (b"", b"M\xfcller", "Müller"),
        (b"ISO-IR 100", b"M\xfcller", "Müller"),
        (b"KLINGON", "Müller".encode(), "Müller"),
        (b"KLINGON", b"M\xfcller", "Müller"),
        (b"ISO_IR 192", b"M\xfcller", "M\N{REPLACEMENT CHARACTER}ller"),
    ],
)
def test_names_in_their_character_set(tmp_path, charset, raw, expected):
    content = part10(ct_dataset(SpecificCharacterSet=None, PatientName=None))
    at = content.index(b"\x08\0\x16\0UI")
    content = content[:at] + element(0x00080005, b"CS", charset + b" " * (len(charset) % 2)) + content[at:]
    at = content.index(b"\x10\0\x20\0LO")
    content = content[:at] + element(0x00100010, b"PN", raw + b" " * (len(raw) % 2)) + content[at:]

    assert read_header(write_bytes(tmp_path, content)).patient_name == expected


def test_control_characters_never_reach_the_database(tmp_path):
    header = read_header(write_bytes(tmp_path, part10(ct_dataset(PatientID="P\x001\x1f", PatientName="A\x00B^\x07C"))))

    assert (header.patient_id, header.patient_name) == ("P1", "AB^C")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("101112", time(10, 11, 12)),
        ("1011", time(10, 11)),
        ("10", time(10)),
        ("10:11:12", time(10, 11, 12)),
        ("235960.25", time(23, 59, 59, 250_000)),
        ("2460", None),
        ("noon", None),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_times_of_day(tmp_path, raw, expected):
    assert read_header(write(tmp_path, ct_dataset(StudyTime=raw))).study_time == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [("20260102", date(2026, 1, 2)), ("2026.01.02", date(2026, 1, 2)), ("20260230", None), ("00000000", None)],
)
@pytest.mark.filterwarnings("ignore")
def test_dates(tmp_path, raw, expected):
    assert read_header(write(tmp_path, ct_dataset(StudyDate=raw))).study_date == expected


@pytest.mark.parametrize(
    ("raw", "expected"), [(b" 7 ", 7), (b"-3", -3), (b"7.0", 7), (b"7.5", None), (b"99999999999", None), (b"x", None)]
)
def test_numbers_that_fit_the_database(tmp_path, raw, expected):
    content = with_element(ct_dataset(InstanceNumber=None), element(0x00200013, b"IS", raw), before=0x00280002)

    assert read_header(write_bytes(tmp_path, content)).instance_number == expected


# --- What is odd and still readable


def test_elements_out_of_order_are_found_by_pydicom(tmp_path):
    content = with_element(ct_dataset(), element(0x00400275, b"SH", b"x "), before=0x00080020)

    assert read_header(write_bytes(tmp_path, content)).columns == 8


def test_implicit_vr_labelled_as_explicit(tmp_path):
    content = write(tmp_path, ct_dataset(), ImplicitVRLittleEndian).read_bytes()
    relabelled = content.replace(b"1.2.840.10008.1.2\0", b"1.2.840.10008.1.1\0")

    assert read_header(write_bytes(tmp_path, relabelled)).patient_id == "P1"


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_data_set_without_file_meta(tmp_path, syntax):
    path = write(tmp_path, ct_dataset(), syntax)
    with_meta = read_header(path)

    header = read_header(write_bytes(tmp_path, path.read_bytes()[with_meta.dataset_offset :]))

    assert (header.dataset_offset, header.transfer_syntax_uid) == (0, syntax)
    assert header.dataset_sha256 == with_meta.dataset_sha256
    assert header.sop_instance_uid == with_meta.sop_instance_uid


def test_a_private_transfer_syntax_is_kept(tmp_path):
    content = write(tmp_path, ct_dataset(), ExplicitVRLittleEndian).read_bytes()
    relabelled = content.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.999.88.7.55\0")

    header = read_header(write_bytes(tmp_path, relabelled))

    assert (header.transfer_syntax_uid, header.patient_id) == ("1.2.840.999.88.7.55", "P1")


def test_a_file_cut_inside_its_pixels_is_readable(tmp_path):
    assert read_header(write_bytes(tmp_path, part10(ct_dataset())[:-20])).columns == 8


# --- What is not an instance


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_a_missing_uid_is_named(tmp_path, keyword):
    path = write(tmp_path, ct_dataset(**{keyword: ""}))

    with pytest.raises(UnreadableError, match=rf"{keyword[:-11]} Instance UID \(0020,000[DE]\) is missing or empty"):
        read_header(path)


@pytest.mark.filterwarnings("ignore")
def test_a_uid_beyond_the_column_is_refused(tmp_path):
    content = part10(ct_dataset(SeriesInstanceUID="1" * 129))

    with pytest.raises(UnreadableError, match="Series Instance UID is longer than 128 characters"):
        read_header(write_bytes(tmp_path, content))


@pytest.mark.filterwarnings("ignore")
def test_a_uid_longer_than_the_standard_allows_is_kept(tmp_path):
    path = write_bytes(tmp_path, part10(ct_dataset(SeriesInstanceUID="1" * 65)))
    assert read_header(path).series_instance_uid == "1" * 65


def test_a_dicomdir_is_no_instance(tmp_path):
    path = write(tmp_path, ct_dataset(SOPClassUID="1.2.840.10008.1.3.10"))

    with pytest.raises(MediaDirectoryError):
        read_header(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"Read me first.", b"%PDF-1.7" + bytes(500), bytes(1000), b"PK\x03\x04" + bytes(300), b"\x89PNG"],
)
def test_what_is_not_dicom_is_said_so(tmp_path, content):
    with pytest.raises(NotDicomError):
        read_header(write_bytes(tmp_path, content))


@pytest.mark.parametrize("length", [132, 140, 200, 400, 600])
def test_a_torn_header_is_unreadable(tmp_path, length):
    with pytest.raises(UnreadableError):
        read_header(write_bytes(tmp_path, part10(ct_dataset())[:length]))


def test_reasons_do_not_describe_a_person(tmp_path):
    content = part10(ct_dataset(PatientName="Secret^Name", PatientID="SECRET", StudyInstanceUID="SECRET" * 30))

    with pytest.raises(UnreadableError) as caught:
        read_header(write_bytes(tmp_path, content))
    assert "secret" not in str(caught.value).lower()


def test_a_deflated_bomb_is_not_inflated(tmp_path):
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = deflater.compress(bytes(300_000_000)) + deflater.flush()
    path = write(tmp_path, ct_dataset(), DeflatedExplicitVRLittleEndian)
    head = path.read_bytes()[: read_header(path).dataset_offset]

    started = clock.monotonic()
    with pytest.raises(UnreadableError):
        read_header(write_bytes(tmp_path, head + bomb))
    assert clock.monotonic() - started < 5


def test_sequences_nested_without_end_are_refused(tmp_path):
    opening = struct.pack("<HH2sHL", 0x0008, 0x1115, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    content = with_element(ct_dataset(), opening * 20_000, before=0x00100010)

    with pytest.raises(UnreadableError):
        read_header(write_bytes(tmp_path, content))


def mutated(content: bytes, rng: random.Random) -> bytes:
    """The file with a few bytes changed, cut, doubled or set to lengths that hurt."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(data) or 1)
        match rng.randrange(5):
            case 0:
                data[at : at + 1] = rng.randbytes(1)
            case 1:
                del data[at : at + rng.randint(1, 40)]
            case 2:
                data[at:at] = data[at : at + rng.randint(1, 200)]
            case 3:
                data[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\0\0\0\x80", b"\xfe\xff\x00\xe0", b"\0\0\0\0"))
            case 4:
                del data[at:]
    return bytes(data)


@pytest.mark.filterwarnings("ignore")
def test_broken_bytes_are_read_or_refused_and_nothing_else(tmp_path):
    rng = random.Random(20260102)
    dataset = ct_dataset()
    nested(dataset, [("a", [("b", [("c", [])]), ("", [])]), ("dd", [])])
    seeds = [write(tmp_path, dataset, syntax).read_bytes() for syntax in SYNTAXES]
    seeds += [seed[132:] for seed in seeds] + [seeds[0][300:]]
    slowest = 0.0
    deadline = clock.monotonic() + 6
    while clock.monotonic() < deadline:
        path = write_bytes(tmp_path, mutated(rng.choice(seeds), rng))
        started = clock.monotonic()
        try:
            header = read_header(path)
        except UnreadableError:
            header = None
        slowest = max(slowest, clock.monotonic() - started)
        assert header is None or "\0" not in header.patient_name + header.patient_id + header.study_instance_uid
    assert slowest < 2
