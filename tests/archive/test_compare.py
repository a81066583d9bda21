"""Comparing data sets: encodings do not count, content does."""

import os
import struct
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from apps.archive import frames
from apps.archive.compare import same_content
from apps.archive.header import UnreadableError, read_header
from tests.dicom import ct_dataset

NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)


@pytest.fixture(autouse=True)
def no_helper_stays():
    yield
    frames._Helper.stop()


@pytest.fixture
def dataset() -> Dataset:
    """An image with numbers of every width, nested and private sequences and long values."""
    image = ct_dataset()
    image.Rows = image.Columns = 64
    image.PixelData = np.random.default_rng(1).integers(0, 4096, (64, 64)).astype("<u2").tobytes()
    image.ImagePositionPatient = [-1.5, 2, 3]
    image.RedPaletteColorLookupTableDescriptor = [256, 0, 16]
    image.RedPaletteColorLookupTableData = np.arange(256, dtype="<u2").tobytes()
    image.RecommendedDisplayFrameRateInFloat = 12.5
    image.FrameIncrementPointer = 0x00181063
    item, inner = Dataset(), Dataset()
    inner.CodeValue, inner.CodeMeaning = "121311", "Localizer"
    item.ReferencedSOPInstanceUID, item.PurposeOfReferenceCodeSequence = "1.2.3", [inner]
    image.SourceImageSequence = [item, item]
    block = image.private_block(0x0029, "MADE UP", create=True)
    block.add_new(0x01, "LO", "odd")
    block.add_new(0x02, "SQ", [inner, inner])
    block.add_new(0x03, "SQ", [])
    block.add_new(0x04, "OB", b"\1\2\3\0")
    return image


def write(path: Path, dataset: Dataset, syntax=ExplicitVRLittleEndian) -> Path:
    """The data set in another native transfer syntax; big endian pixels and tables are swapped as they should be."""
    copy = deepcopy(dataset)
    copy.file_meta.TransferSyntaxUID = syntax
    copy.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    copy.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    if not syntax.is_little_endian:
        for keyword in ("PixelData", "RedPaletteColorLookupTableData"):
            setattr(copy, keyword, np.frombuffer(copy[keyword].value, "<u2").astype(">u2").tobytes())
    copy.save_as(
        path, enforce_file_format=True, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian
    )
    return path


def compressed(path: Path, dataset: Dataset, syntax, **options) -> Path:
    """The data set compressed."""
    source = dcmread(write(path, dataset))
    source.compress(syntax, generate_instance_uid=False, encoding_plugin=options.pop("plugin", ""), **options)
    source.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("left", NATIVE)
@pytest.mark.parametrize("right", NATIVE)
def test_the_encoding_does_not_count(tmp_path, dataset, left, right):
    assert same_content(write(tmp_path / "left", dataset, left), write(tmp_path / "right", dataset, right))


@pytest.mark.parametrize("native", NATIVE)
@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_lossless_compression_does_not_count(tmp_path, dataset, native, syntax):
    other = compressed(tmp_path / "right", dataset, syntax)

    assert same_content(write(tmp_path / "left", dataset, native), other)


def test_lossy_compression_does_count(tmp_path, dataset):
    other = compressed(tmp_path / "right", dataset, JPEG2000, j2k_psnr=[60])

    assert not same_content(write(tmp_path / "left", dataset), other)
    assert same_content(other, other)


def test_sequences_of_defined_and_undefined_length_are_equal(tmp_path, dataset):
    left = write(tmp_path / "left", dataset)
    for sequence in (dataset["SourceImageSequence"], dataset.SourceImageSequence[0]["PurposeOfReferenceCodeSequence"]):
        sequence.is_undefined_length = True
        for item in sequence.value:
            item.is_undefined_length_sequence_item = True

    assert same_content(left, write(tmp_path / "right", dataset))
    assert same_content(left, write(tmp_path / "right", dataset, ImplicitVRLittleEndian))


def test_group_lengths_and_trailing_padding_do_not_count(tmp_path, dataset):
    left, right = write(tmp_path / "left", dataset), tmp_path / "right"
    dataset.add_new(0x00080000, "UL", 1234)
    dataset.add_new(0xFFFCFFFC, "OB", bytes(500))
    write(right, dataset)

    assert same_content(left, right)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientName", "Phantom^Tess"),
        ("PatientID", "P2"),
        ("InstanceNumber", 2),
        ("ImagePositionPatient", [-1.5, 2, 4]),
        ("RecommendedDisplayFrameRateInFloat", 12.25),
        ("PhotometricInterpretation", "MONOCHROME1"),
        ("SourceImageSequence", []),
        ("PatientComments", "new"),
        ("StudyDescription", None),
    ],
)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_changed_element_counts(tmp_path, dataset, keyword, value, syntax):
    left = write(tmp_path / "left", dataset)
    if value is None:
        delattr(dataset, keyword)
    else:
        setattr(dataset, keyword, value)

    assert not same_content(left, write(tmp_path / "right", dataset, syntax))


def test_a_change_inside_a_nested_item_counts(tmp_path, dataset):
    left = write(tmp_path / "left", dataset, ImplicitVRLittleEndian)
    dataset.SourceImageSequence[1].PurposeOfReferenceCodeSequence[0].CodeMeaning = "Localiser"

    assert not same_content(left, write(tmp_path / "right", dataset))


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEG2000Lossless])
def test_one_changed_pixel_counts(tmp_path, dataset, syntax):
    left = write(tmp_path / "left", dataset)
    pixels = bytearray(dataset.PixelData)
    pixels[2000] ^= 1
    dataset.PixelData = bytes(pixels)
    right = write(tmp_path / "right", dataset) if syntax is None else compressed(tmp_path / "right", dataset, syntax)

    assert not same_content(left, right)


def test_bits_outside_the_stored_ones_count(tmp_path, dataset):
    left = write(tmp_path / "left", dataset)
    dataset.PixelData = dataset.PixelData[:1] + bytes([dataset.PixelData[1] | 0x80]) + dataset.PixelData[2:]

    assert not same_content(left, write(tmp_path / "right", dataset))


def test_an_item_moved_to_another_sequence_counts(tmp_path, dataset):
    left = write(tmp_path / "left", dataset)
    dataset.SourceImageSequence, moved = dataset.SourceImageSequence[:1], dataset.SourceImageSequence[1]
    dataset.SourceImageSequence[0].PurposeOfReferenceCodeSequence.append(moved.PurposeOfReferenceCodeSequence[0])

    assert not same_content(left, write(tmp_path / "right", dataset))


@pytest.mark.parametrize("broken", [struct.pack("<LL", 2, 0xFFFFFF00), bytes(64)])
def test_a_broken_code_stream_is_not_the_same(tmp_path, dataset, broken):
    left, right = write(tmp_path / "left", dataset), compressed(tmp_path / "right", dataset, RLELossless)
    content = right.read_bytes()
    at = content.rindex(struct.pack("<LL", 2, 64))  # the RLE header: two segments, the first at byte 64
    right.write_bytes(content[:at] + broken + content[at + len(broken) :])

    assert not same_content(left, right)


def test_the_decoding_helper_is_replaced_when_it_died(tmp_path, dataset):
    left, right = write(tmp_path / "left", dataset), compressed(tmp_path / "right", dataset, RLELossless)
    assert same_content(left, right)
    frames._Helper.current._process.kill()

    assert same_content(left, right)


@pytest.mark.parametrize("content", [b"", b"text", bytes(132), bytes(128) + b"DICM" + b"\xff" * 100])
def test_what_cannot_be_read_is_not_the_same(tmp_path, dataset, content):
    (tmp_path / "right").write_bytes(content)

    assert not same_content(write(tmp_path / "left", dataset), tmp_path / "right")
    assert not same_content(tmp_path / "right", tmp_path / "right")


def test_sequences_nested_without_end_are_not_the_same(tmp_path, dataset):
    head = write(tmp_path / "left", dataset).read_bytes()[: read_header(tmp_path / "left").dataset_offset]
    opening = struct.pack("<HH2sHL", 8, 0x1115, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    (tmp_path / "right").write_bytes(head + opening * 100_000)

    assert not same_content(tmp_path / "right", tmp_path / "right")


def test_a_missing_file_is_an_error(tmp_path, dataset):
    with pytest.raises(FileNotFoundError):
        same_content(write(tmp_path / "left", dataset), tmp_path / "nowhere")


@pytest.mark.filterwarnings("ignore")
def test_real_files_equal_themselves_written_anew(tmp_path):
    root = Path(os.environ.get("DICOMSYS_TEST_DATA") or pytest.skip("DICOMSYS_TEST_DATA is not set"))
    other, compared = tmp_path / "other", 0
    for folder in ("enhanced", "rt", "seg_sm", "sr_ko_pr", "pet_nm", "us_xa_multiframe"):
        for path in sorted(path for path in (root / folder).rglob("*") if path.is_file()):
            try:
                syntax = read_header(path).transfer_syntax_uid
                image = dcmread(path)
                image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
                image.save_as(other, enforce_file_format=True, implicit_vr=False, little_endian=True)
            except (UnreadableError, InvalidDicomError, ValueError, AttributeError, NotImplementedError):
                continue
            if "truncated" not in path.name and syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
                assert same_content(path, other), path
                compared += 1
    assert compared > 20
