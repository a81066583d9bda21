"""The demonstration studies: readable anywhere, the same each time, and true to what their headers say."""

import shutil
import subprocess
from collections import defaultdict
from datetime import date
from io import BytesIO
from itertools import islice

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from dicomsys.evaluation.demo import demonstration_studies

DAY = date(2026, 1, 8)
NAMES = {
    "DEMO-0001": ("Demo^Chest", "ascii"),
    "DEMO-0002": ("Phantom^Größe", "latin_1"),
    "DEMO-0003": ("Образец^Грудь", "iso8859_5"),
    "DEMO-0004": ("Ομοίωμα^Κεφαλή", "iso8859_7"),
    "DEMO-0005": ("Phantom^Fukubu=模型^腹部=もけい^ふくぶ", None),
    "DEMO-0006": ("Mohyeong^Gapsangseon=模型^甲狀腺=모형^갑상선", None),
    "DEMO-0007": ("Moxing^Yaozhui=模型^腰椎", "gb18030"),
    "DEMO-0008": ("نموذج^رأس", "iso8859_6"),
    "DEMO-0009": ("דגם^הדפסה", "iso8859_8"),
}


def encoded(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    return [encoded(dataset) for dataset in demonstration_studies(DAY)]


@pytest.fixture(scope="module")
def instances(files) -> list[Dataset]:
    return [dcmread(BytesIO(file)) for file in files]


@pytest.fixture(scope="module")
def series(instances) -> dict[str, list[Dataset]]:
    """The instances of each series, by its description."""
    found = defaultdict(list)
    for dataset in instances:
        found[dataset.SeriesDescription].append(dataset)
    return found


def hounsfield(dataset: Dataset, x_mm: float, y_mm: float) -> float:
    """Mean of 5 by 5 pixels around a place in the patient."""
    first, spacing = dataset.ImagePositionPatient, dataset.PixelSpacing
    column, row = round((x_mm - first[0]) / spacing[1]), round((y_mm - first[1]) / spacing[0])
    patch = dataset.pixel_array[row - 2 : row + 3, column - 2 : column + 3]
    return float(patch.mean() * dataset.RescaleSlope + dataset.RescaleIntercept)


def section_at(datasets: list[Dataset], z_mm: float) -> Dataset:
    return next(dataset for dataset in datasets if float(dataset.ImagePositionPatient[2]) == z_mm)


def test_names_read_back_as_they_were_meant(instances):
    read = {dataset.PatientID: str(dataset.PatientName) for dataset in instances}
    assert read == {patient: name for patient, (name, _) in NAMES.items()}


def test_names_are_encoded_in_their_own_character_set(files, instances):
    for file, dataset in zip(files, instances, strict=True):
        name, codec = NAMES[dataset.PatientID]
        if codec:
            assert name.encode(codec) in file
    japanese = next(file for file, dataset in zip(files, instances, strict=True) if dataset.PatientID == "DEMO-0005")
    assert b"\x1b$B" in japanese
    assert "模型".encode() not in japanese


def test_each_name_is_plainly_a_phantom_of_one_issuer(instances):
    for dataset in instances:
        assert dataset.IssuerOfPatientID == "DEMO"
        assert dataset.InstitutionName == "Demonstration"
        assert dataset.ReferringPhysicianName == "Demo^Referrer"


def test_no_two_instances_share_a_uid(instances):
    uids = [dataset.SOPInstanceUID for dataset in instances]
    assert len(set(uids)) == len(uids)
    assert all(uid.startswith("2.25.") and uid.is_valid for uid in uids)
    assert len({dataset.StudyInstanceUID for dataset in instances}) == 10


def test_the_same_day_gives_the_same_bytes(files):
    again = [encoded(dataset) for dataset in islice(demonstration_studies(DAY), 14)]
    assert again == files[:14]


def test_another_day_gives_other_uids(instances):
    other = next(demonstration_studies(date(2026, 1, 9)))
    assert other.SOPInstanceUID != instances[0].SOPInstanceUID
    assert other.SeriesInstanceUID != instances[0].SeriesInstanceUID
    assert other.StudyInstanceUID != instances[0].StudyInstanceUID
    assert other.PatientID == instances[0].PatientID


def test_studies_lie_in_the_last_days_and_one_patient_has_an_earlier_one(instances):
    days_ago = defaultdict(set)
    for dataset in instances:
        taken = date(int(dataset.StudyDate[:4]), int(dataset.StudyDate[4:6]), int(dataset.StudyDate[6:]))
        days_ago[dataset.PatientID].add((DAY - taken).days)
    assert days_ago["DEMO-0001"] == {1, 92}
    assert all(days <= {0, 1, 2, 3, 4} for patient, days in days_ago.items() if patient != "DEMO-0001")


def test_all_of_it_is_below_60_megabytes(instances):
    assert sum(dataset.pixel_array.nbytes for dataset in instances) < 60_000_000


def test_three_transfer_syntaxes_can_be_decoded(instances):
    by_syntax = {dataset.file_meta.TransferSyntaxUID: dataset for dataset in instances}
    assert set(by_syntax) == {ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless}
    for dataset in by_syntax.values():
        assert dataset.pixel_array.shape[:2] == (dataset.Rows, dataset.Columns)
        assert dataset.pixel_array.std() > 10


@pytest.mark.parametrize(
    ("tissue", "z_mm", "place", "expected"),
    [
        ("air beside the patient", -100, (-172, -100), (-1010, -990)),
        ("lung", -84, (85, 30), (-920, -640)),
        ("fat under the skin", -212, (0, -114), (-130, -60)),
        ("enhanced aorta", -148, (24, 32), (185, 235)),
        ("muscle of the back", -212, (-33, 84), (35, 75)),
        ("liver", -220, (-95, -20), (95, 130)),
        ("spleen", -220, (104, 52), (105, 140)),
        ("spongy bone of a vertebra", -204, (0, 44), (130, 400)),
        ("foam of the table", -100, (0, 127), (-960, -900)),
    ],
)
def test_hounsfield_units_are_true(series, tissue, z_mm, place, expected):
    section = section_at(series["Axial 8 mm, portal venous"], z_mm)
    low, high = expected
    assert low <= hounsfield(section, *place) <= high, tissue


def test_the_plain_examination_shows_blood_without_contrast(series):
    assert 20 <= hounsfield(section_at(series["Axial 8 mm, plain"], -140), 24, 32) <= 70


def test_sections_of_the_ct_follow_each_other_without_gaps(series):
    sections = series["Axial 8 mm, portal venous"]
    heights = [float(section.ImagePositionPatient[2]) for section in sections]
    assert set(np.diff(heights)) == {-8.0}
    assert {float(section.SliceThickness) for section in sections} == {8.0}
    assert {tuple(section.ImageOrientationPatient) for section in sections} == {(1, 0, 0, 0, 1, 0)}
    assert {(section.BitsStored, section.PixelRepresentation) for section in sections} == {(16, 1)}
    assert list(sections[0].WindowCenter) == [40, -600]
    assert list(sections[0].WindowCenterWidthExplanation) == ["SOFT TISSUE", "LUNG"]


def test_the_scout_covers_all_sections_in_their_frame_of_reference(series):
    scout, sections = series["Scout AP"][0], series["Axial 8 mm, portal venous"]
    assert scout.ImageType[2] == "LOCALIZER"
    assert list(scout.ImageOrientationPatient) == [1, 0, 0, 0, 0, -1]
    assert {section.FrameOfReferenceUID for section in sections} == {scout.FrameOfReferenceUID}
    top = float(scout.ImagePositionPatient[2])
    bottom = top - scout.Rows * float(scout.PixelSpacing[0])
    assert all(bottom < float(section.ImagePositionPatient[2]) < top for section in sections)


def test_fluid_is_dark_in_t1_and_bright_in_t2(series):
    level = 18.0  # through the front horns of the ventricles
    t1, t2 = (section_at(series[name], level) for name in ("T1 SE axial", "T2 TSE axial"))
    column = round((8 - t1.ImagePositionPatient[0]) / t1.PixelSpacing[1])
    row = round((-28 - t1.ImagePositionPatient[1]) / t1.PixelSpacing[0])
    assert t1.pixel_array[row, column] < 400
    assert t2.pixel_array[row, column] > 1000
    assert t1.BitsStored == 12


def test_the_chest_is_stored_inverted(series):
    chest = series["Chest PA"][0]
    pixels = chest.pixel_array
    assert (chest.PhotometricInterpretation, chest.PresentationLUTShape) == ("MONOCHROME1", "INVERSE")
    assert (chest.Rows, chest.Columns, chest.BitsStored) == (2140, 1760, 12)
    assert list(chest.ImagerPixelSpacing) == [0.2, 0.2]
    beside_neck, lung, heart = pixels[60, 60], pixels[1000:1040, 360:400].mean(), pixels[1350:1390, 1000:1040].mean()
    assert beside_neck > lung > heart


def test_the_hand_is_bright_where_bone_is(series):
    hand = series["Hand PA"][0]
    assert hand.PhotometricInterpretation == "MONOCHROME2"
    assert hand.pixel_array[1200:1220, 420:440].mean() > 5 * hand.pixel_array[20:40, 20:40].mean()


def test_the_cine_loop_is_coloured_only_in_its_flow_region(series):
    cine = series["Liver, colour Doppler"][0]
    frames = cine.pixel_array
    assert frames.shape == (14, 480, 640, 3)
    assert cine.FrameIncrementPointer == 0x00181063
    flow = cine.SequenceOfUltrasoundRegions[1]
    left, right = flow.RegionLocationMinX0, flow.RegionLocationMaxX1
    top, bottom = flow.RegionLocationMinY0, flow.RegionLocationMaxY1
    coloured = np.ptp(frames, axis=-1) > 40
    coloured[:, :, :30] = False  # the bar with the colours of the speeds
    outside = coloured.copy()
    outside[:, top : bottom + 1, left : right + 1] = False
    assert coloured.any(axis=(1, 2)).all()
    assert not outside.any()
    assert np.abs(np.diff(frames.astype(int), axis=0)).mean(axis=(1, 2, 3)).min() > 0.5  # it moves


def test_calibrated_depth_of_the_ultrasound_is_15_cm(series):
    tissue = series["Liver, colour Doppler"][0].SequenceOfUltrasoundRegions[0]
    depth_px = tissue.RegionLocationMaxY1 - tissue.RegionLocationMinY0
    assert (tissue.PhysicalUnitsXDirection, tissue.PhysicalUnitsYDirection) == (3, 3)
    assert depth_px * tissue.PhysicalDeltaY == pytest.approx(15.6, abs=0.2)  # and the bend of the probe


def test_the_pattern_has_all_greys(series):
    pattern = series["Grey steps and resolution"][0].pixel_array
    assert len(np.unique(pattern)) == 256


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dicom3tools is not installed")
def test_each_series_satisfies_its_information_object_definition(series, tmp_path):
    for description, datasets in series.items():
        path = tmp_path / "instance.dcm"
        path.write_bytes(encoded(datasets[0]))
        told = subprocess.run(["dciodvfy", path], capture_output=True, text=True, errors="replace", check=False)
        assert "Error" not in told.stderr, (description, told.stderr)
