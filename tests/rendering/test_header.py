"""The small header reader against pydicom."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from apps.rendering import header
from apps.rendering.functional_groups import numbers
from apps.rendering.header import ELEMENTS, TEXT, PlainHeader, find_image
from tests.rendering.images import image, write

DATA = os.environ.get("DICOMSYS_TEST_DATA", "")
PIXELS = np.arange(64, dtype=np.uint16).reshape(8, 8)


def comparable(value: object, kind: str) -> object:
    if kind == TEXT:
        first = value if isinstance(value, str) or value is None else value[0]
        return str(first or "")
    return numbers(value)


def both(path: Path) -> tuple[header.FoundImage, header.FoundImage]:
    plain = header._find_plain(path.read_bytes()[: header.WINDOW_BYTES])
    with path.open("rb") as file:
        return plain, header._find_by_pydicom(file)


def assert_same(path: Path) -> None:
    plain, full = both(path)
    where = [(found.syntax, found.offset, found.keyword, found.vr) for found in (plain, full)]
    assert where[0] == where[1]
    for keyword, kind in ELEMENTS.items():
        ours, theirs = (comparable(found.header.get(keyword), kind) for found in (plain, full))
        assert ours == theirs, keyword


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian], ids=lambda uid: uid.name)
@pytest.mark.parametrize("is_undefined", [False, True])
def test_sequences_are_stepped_over(tmp_path, syntax, is_undefined):
    inner, outer = Dataset(), Dataset()
    inner.WindowCenter, inner.PixelSpacing = 7, [7, 7]  # of another image: not ours
    outer.ReferencedImageSequence = [inner, inner]
    for each in (inner, outer):
        each.is_undefined_length_sequence_item = is_undefined
    dataset = image(PIXELS, WindowCenter=40, WindowWidth=[400, 1500], SourceImageSequence=[outer])
    dataset["SourceImageSequence"].is_undefined_length = is_undefined
    path = write(tmp_path, dataset, syntax)
    assert_same(path)
    found = find_image(path)
    assert isinstance(found.header, PlainHeader)
    assert numbers(found.header.get("WindowCenter")) == [40]
    assert "PixelSpacing" not in found.header


def test_a_long_header_is_read_as_well(tmp_path):
    dataset = image(PIXELS, WindowCenter=40, WindowWidth=400)
    dataset.add_new(0x00091010, "OB", bytes(300_000))
    found = find_image(write(tmp_path, dataset))
    assert not isinstance(found.header, PlainHeader)
    assert numbers(found.header.get("WindowCenter")) == [40]


def test_a_keyword_that_is_not_read_is_a_mistake():
    with pytest.raises(KeyError):
        PlainHeader({}).get("PatientName")


@pytest.mark.skipif(not DATA, reason="DICOMSYS_TEST_DATA is not set: real files are needed")
def test_real_headers_are_read_like_pydicom_reads_them():
    compared = 0
    with (Path(DATA) / "MANIFEST.csv").open() as manifest:
        for row in csv.DictReader(manifest):
            path = Path(DATA) / row["path"]
            try:
                header._find_plain(path.read_bytes()[: header.WINDOW_BYTES])
            except (header._OddError, header.struct.error, ValueError):
                continue
            assert_same(path)
            compared += 1
    assert compared > 500
