"""What differs, in words: names of elements, values of either side, bytes and private elements by their size."""

from contextlib import suppress

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from apps.archive.differences import ComparisonError, Difference, differences, of_patient_and_study
from tests.dicom import ct_dataset, write_part10


def compare(tmp_path, left, right, **choice) -> list[Difference]:
    folders = [tmp_path / name for name in ("left", "right")]
    for folder in folders:
        folder.mkdir()
    return differences(write_part10(folders[0], left), write_part10(folders[1], right), **choice)


@pytest.fixture
def pair():
    dataset = ct_dataset()
    same = {name: dataset.get(name) for name in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")}
    return dataset, ct_dataset(**same)


def test_equal_files_differ_in_nothing(tmp_path, pair):
    assert compare(tmp_path, *pair) == []


def test_values_absent_elements_and_bytes(tmp_path, pair):
    left, right = pair
    left.PatientName, right.PatientName = "Müller^Anna", "Mueller^Anna"
    right.WindowCenter = [40, 400]
    right.PixelData = bytes(128)
    left.InstitutionName = ""
    assert compare(tmp_path, left, right) == [
        Difference("(0008,0080)", "Institution Name", "empty", None),
        Difference("(0010,0010)", "Patient's Name", "Müller^Anna", "Mueller^Anna"),
        Difference("(0028,1050)", "Window Center", None, "40.0\\400.0"),
        Difference("(7FE0,0010)", "Pixel Data", "128 bytes", "128 bytes, other content"),
    ]


def test_private_elements_are_not_shown(tmp_path, pair):
    for dataset, text in zip(pair, ("SECRET-ONE", "SECRET-TWO"), strict=True):
        dataset.private_block(0x0029, "MAKER", create=True).add_new(1, "LO", text)
    (difference,) = compare(tmp_path, *pair)
    assert difference == Difference("(0029,1001)", "Private element", "10 characters", "10 characters, other content")


def test_items_of_sequences_are_compared_one_by_one(tmp_path, pair):
    def item(value):
        dataset = Dataset()
        dataset.RequestedProcedureID = value
        return dataset

    pair[0].RequestAttributesSequence = Sequence([item("A"), item("B")])
    pair[1].RequestAttributesSequence = Sequence([item("A"), item("C"), item("D")])
    name = "Request Attributes Sequence, item {}: Requested Procedure ID"
    assert compare(tmp_path, *pair) == [
        Difference("(0040,1001)", name.format(2), "B", "C"),
        Difference("(0040,1001)", name.format(3), None, "D"),
    ]


def test_only_what_images_of_a_study_share(tmp_path):
    study = ct_dataset().StudyInstanceUID
    left, right = ct_dataset(StudyInstanceUID=study), ct_dataset(StudyInstanceUID=study, PatientID="P2")
    assert [row.name for row in compare(tmp_path, left, right, wanted=of_patient_and_study)] == ["Patient ID"]


def test_what_could_mislead_the_eye_is_left_out_and_long_values_are_cut(tmp_path, pair):
    pair[1].StudyDescription = "Head\u202eneck " + "x" * 400
    (difference,) = compare(tmp_path, *pair)
    assert difference.right.startswith("Head neck xxx")
    assert difference.right.endswith("…")
    assert len(difference.right) == 160


def test_a_value_that_makes_no_sense_is_shown_and_told_nobody_else(tmp_path, pair, caplog, capsys):
    left, right = write_part10(tmp_path, pair[0]), tmp_path / "right.dcm"
    content = left.read_bytes()
    assert content.count(b"DA\x08\x0019700101") == 1
    right.write_bytes(content.replace(b"DA\x08\x0019700101", b"DA\x08\x00Geheim^X"))
    (difference,) = differences(left, right)
    assert difference[1:3] == ("Patient's Birth Date", "19700101")
    assert difference.right
    assert "Geheim" not in caplog.text + "".join(capsys.readouterr())


@pytest.mark.parametrize("content", [b"\xff" * 1000, b"", b"no DICOM at all" * 20, b"\x08\0\x05\0\xff\xff\xff\xff" * 9])
def test_a_file_that_is_not_dicom_ends_in_words_never_in_another_error(tmp_path, pair, content):
    left, right = write_part10(tmp_path, pair[0]), tmp_path / "right.dcm"
    right.write_bytes(content)
    with suppress(ComparisonError):
        assert len(differences(left, right)) > 20


def test_a_file_that_is_gone_is_an_error_of_the_system(tmp_path, pair):
    with pytest.raises(FileNotFoundError):
        differences(write_part10(tmp_path, pair[0]), tmp_path / "gone.dcm")
