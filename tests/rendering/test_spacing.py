"""The eight rules of what a pixel spans (PS3.3 10.7)."""

import pytest
from pydicom.dataset import Dataset

from apps.rendering.spacing import SpacingSource, pixel_aspect, pixel_spacing


def header(modality: str, **values: object) -> Dataset:
    dataset = Dataset()
    dataset.Modality = modality
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def region(delta_x: float, delta_y: float, units: int = 3, kind: int = 1) -> Dataset:
    return header(
        "US",
        PhysicalDeltaX=delta_x,
        PhysicalDeltaY=delta_y,
        PhysicalUnitsXDirection=units,
        PhysicalUnitsYDirection=units,
        RegionSpatialFormat=kind,
    )


CASES = [
    ("cross-section", header("CT", PixelSpacing=[0.5, 0.4]), (0.5, 0.4), SpacingSource.PATIENT_PLANE, ""),
    (
        "projection, corrected",
        header("DX", PixelSpacing=[0.1, 0.1], ImagerPixelSpacing=[0.143, 0.143]),
        (0.1, 0.1),
        SpacingSource.CALIBRATED,
        "calibrated",
    ),
    (
        "projection with a calibration type",
        header("CR", PixelSpacing=[0.1, 0.1], ImagerPixelSpacing=[0.1, 0.1], PixelSpacingCalibrationType="FIDUCIAL"),
        (0.1, 0.1),
        SpacingSource.CALIBRATED,
        "calibrated (fiducial)",
    ),
    (
        "magnification known",
        header("DX", ImagerPixelSpacing=[0.2, 0.2], EstimatedRadiographicMagnificationFactor=1.25),
        (0.16, 0.16),
        SpacingSource.MAGNIFICATION,
        "corrected for magnification 1.25",
    ),
    (
        "detector only",
        header("DX", ImagerPixelSpacing=[0.143, 0.143]),
        (0.143, 0.143),
        SpacingSource.DETECTOR,
        "at detector",
    ),
    (
        "same spacing twice is the detector's",
        header("DX", PixelSpacing=[0.143, 0.143], ImagerPixelSpacing=[0.143, 0.143]),
        (0.143, 0.143),
        SpacingSource.DETECTOR,
        "at detector",
    ),
    (
        "projection without a word on calibration",
        header("CR", PixelSpacing=[0.1, 0.1]),
        (0.1, 0.1),
        SpacingSource.UNKNOWN,
        "calibration unknown",
    ),
    (
        "digitised film",
        header("CR", NominalScannedPixelSpacing=[0.17, 0.17]),
        (0.17, 0.17),
        SpacingSource.SCANNED_FILM,
        "of the scanned film",
    ),
    (
        "ultrasound region in cm",
        header("US", SequenceOfUltrasoundRegions=[region(0.02, 0.03)]),
        (0.3, 0.2),
        SpacingSource.ULTRASOUND,
        "ultrasound",
    ),
]


@pytest.mark.parametrize(
    ("dataset", "pair", "source", "label"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_rule(dataset, pair, source, label):
    spacing = pixel_spacing(dataset)
    assert (spacing.row_mm, spacing.column_mm) == pytest.approx(pair)
    assert (spacing.source, spacing.label) == (source, label)


@pytest.mark.parametrize(
    "dataset",
    [
        header("OT"),
        header("US", SequenceOfUltrasoundRegions=[region(0.02, 0.02), region(0.05, 0.05)]),  # which of them?
        header("US", SequenceOfUltrasoundRegions=[region(0.02, 0.02, units=4)]),  # seconds
        header("CT", PixelSpacing=[0, 0]),
    ],
    ids=["nothing", "regions that differ", "a time axis", "zero"],
)
def test_nothing_tells_it(dataset):
    assert pixel_spacing(dataset) is None


def test_only_what_lies_in_the_patient_or_was_calibrated_is_true_size():
    true = {case[0] for case in CASES if pixel_spacing(case[1]).is_true_size}
    assert "detector only" not in true
    assert "projection without a word on calibration" not in true
    assert "cross-section" in true


def test_aspect_ratio_without_a_spacing():
    assert pixel_aspect(header("OT", PixelAspectRatio=[3, 2]), None) == 1.5
    assert pixel_aspect(header("OT"), None) == 1.0
