"""The words on a sheet."""

import pytest
from pydicom.dataset import Dataset

from apps.films.captions import caption_words, footer_text, header_rows, ruler_text, window_text
from apps.films.recipe import Header, Recipe
from apps.rendering.frame import decode_frame
from apps.rendering.voi import Lut, Window
from tests.films.phantom import phantom
from tests.rendering.images import opened


def words_of(tmp_path, frame: int = 1, **changes: object) -> tuple[list[str], list[str]]:
    file = opened(tmp_path, phantom(16, **changes))
    stored = decode_frame(file, frame)
    return caption_words(file, frame, stored, stored.default_voi())


def item(**values: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def test_an_image_is_named_by_its_numbers_and_place(tmp_path):
    identity, display = words_of(tmp_path, SeriesNumber=3, InstanceNumber=12, SliceLocation=-120.54)
    assert identity == ["Se 3 Im 12", "Loc −120.5"]
    assert display == ["C 40 W 400"]


def test_without_a_slice_location_the_position_along_the_normal_tells(tmp_path):
    sagittal = {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1], "ImagePositionPatient": [7.25, 100, 200]}
    assert words_of(tmp_path, **sagittal)[0] == ["Se 1 Im 1", "Loc 7.2"]


def test_a_frame_is_named_with_how_many_there_are(tmp_path):
    frames = {"NumberOfFrames": 3, "PixelData": bytes(3 * 16 * 16 * 2)}
    assert words_of(tmp_path, 2, **frames)[0][0] == "Se 1 Im 1 Fr 2/3"


def test_the_place_of_a_frame_comes_from_its_functional_groups(tmp_path):
    group = item(PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 42])])
    shared = item(PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])])
    identity, _ = words_of(
        tmp_path,
        PerFrameFunctionalGroupsSequence=[group],
        SharedFunctionalGroupsSequence=[shared],
        ImagePositionPatient=None,
        ImageOrientationPatient=None,
    )
    assert identity[1] == "Loc 42"


@pytest.mark.parametrize(("ratio", "mark"), [(10, "lossy 10:1"), ([5, 22.37], "lossy 22.4:1"), ("", "lossy")])
def test_lossy_compression_is_marked(tmp_path, ratio, mark):
    assert words_of(tmp_path, LossyImageCompression="01", LossyImageCompressionRatio=ratio)[1][-1] == mark


def test_how_an_image_is_shown():
    assert window_text(Window(-600, 1500)) == "C −600 W 1500"
    assert window_text(Window(0.125, 0.5, "SIGMOID")) == "C 0.125 W 0.5 sigmoid"
    assert window_text(Window(12345.6, 20000), is_own=False) == "C 12346 W 20000 auto"
    assert window_text(Lut(0, 12, (0, 1))) == "VOI LUT"


def test_a_scale_says_how_far_it_can_be_trusted():
    assert ruler_text(100) == "10 cm"
    assert ruler_text(5, "at detector") == "5 mm (at detector)"


def test_the_header_says_what_is_missing():
    assert header_rows(Header())[0] == ("No name", "")
    assert header_rows(Header())[1][0] == "no patient ID"
    rows = header_rows(Header("Doe, Jane", "7", "1960-02-03", "F", "2026-01-02", "10:11", "CT", "A1", "Hospital"))
    assert rows == [
        ("Doe, Jane", "Hospital"),
        ("ID 7   born 1960-02-03   female", "2026-01-02 10:11"),
        ("CT", "Accession A1"),
    ]


def test_only_a_calibrated_sheet_may_be_read_for_diagnosis():
    recipe = Recipe(100, 100, 1, 1, page=2, page_count=8, made_at="2026-01-02 10:11")
    assert footer_text(recipe, is_calibrated=False) == ("Sheet 2 of 8", "not for diagnosis   2026-01-02 10:11")
    assert "diagnosis" not in footer_text(recipe, is_calibrated=True)[1]
