"""How many millimetres a pixel spans, and how far that can be trusted (PS3.3 10.7)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from apps.rendering.functional_groups import macro, numbers
from apps.rendering.header import Attributes

PROJECTIONS = {"CR", "DX", "DR", "MG", "XA", "RF", "XC", "IO", "PX", "RG", "RTIMAGE", "BMD"}
REGION_2D, UNITS_CM = 1, 3  # PS3.3 C.8.5.5.1.1 and C.8.5.5.1.15


class SpacingSource(Enum):
    """Where a spacing comes from; the value is what a ruler says of it, empty where there is nothing to say."""

    PATIENT_PLANE = ""
    CALIBRATED = "calibrated"
    MAGNIFICATION = "corrected for magnification"
    DETECTOR = "at detector"
    UNKNOWN = "calibration unknown"
    SCANNED_FILM = "of the scanned film"
    ULTRASOUND = "ultrasound"


@dataclass(frozen=True)
class PixelSpacing:
    """Millimetres from one row, and from one column, to the next; `label` qualifies them for people."""

    row_mm: float
    column_mm: float
    source: SpacingSource
    label: str = ""

    @property
    def is_true_size(self) -> bool:
        """Whether a print at true size may rely on it."""
        return self.source not in (SpacingSource.UNKNOWN, SpacingSource.DETECTOR)


def pixel_spacing(dataset: Attributes, frame: int = 1) -> PixelSpacing | None:
    """The spacing of a frame (from 1) by the first rule that applies, None where nothing tells it."""
    pixel = _pair(macro(dataset, frame, "PixelMeasuresSequence"), "PixelSpacing")
    imager = _pair(dataset, "ImagerPixelSpacing")
    scanned = _pair(dataset, "NominalScannedPixelSpacing")
    if pixel and not _is_projection(dataset, imager is not None or scanned is not None):
        return _of(pixel, SpacingSource.PATIENT_PLANE)
    if pixel and (str(dataset.get("PixelSpacingCalibrationType") or "") or (imager and not _same(pixel, imager))):
        return _calibrated(dataset, pixel)
    if imager:
        return _imager(dataset, imager)
    if scanned:
        return _of(scanned, SpacingSource.SCANNED_FILM)
    if pixel:
        return _of(pixel, SpacingSource.UNKNOWN)
    return _ultrasound(dataset)


def pixel_aspect(dataset: Attributes, spacing: PixelSpacing | None) -> float:
    """Height of a pixel divided by its width; 1 where nothing says otherwise (PS3.3 C.7.6.3.1.7)."""
    if spacing:
        return spacing.row_mm / spacing.column_mm
    ratio = numbers(dataset.get("PixelAspectRatio"))
    return ratio[0] / ratio[1] if len(ratio) == 2 and min(ratio) > 0 else 1.0


def _is_projection(dataset: Attributes, has_detector_spacing: bool) -> bool:
    """Whether Pixel Spacing needs more evidence: everything but a slice through the patient (or through a slide)."""
    if has_detector_spacing or str(dataset.get("Modality", "")) in PROJECTIONS:
        return True
    is_slice = "ImageOrientationPatient" in dataset or "SharedFunctionalGroupsSequence" in dataset
    return not is_slice and str(dataset.get("Modality", "")) not in {"CT", "MR", "PT", "NM", "ST", "RTDOSE"}


def _calibrated(dataset: Attributes, pair: tuple[float, float]) -> PixelSpacing:
    kind = str(dataset.get("PixelSpacingCalibrationType") or "").lower()
    return _of(pair, SpacingSource.CALIBRATED, f"calibrated ({kind})" if kind else "calibrated")


def _imager(dataset: Attributes, pair: tuple[float, float]) -> PixelSpacing:
    factor = numbers(dataset.get("EstimatedRadiographicMagnificationFactor"))
    if factor and factor[0] > 1:
        corrected = (pair[0] / factor[0], pair[1] / factor[0])
        return _of(corrected, SpacingSource.MAGNIFICATION, f"corrected for magnification {factor[0]:.3g}")
    return _of(pair, SpacingSource.DETECTOR)


def _ultrasound(dataset: Attributes) -> PixelSpacing | None:
    """The spacing of the 2D regions, where all agree (PS3.3 C.8.5.5.1: Physical Delta in cm)."""
    found = set()
    for region in dataset.get("SequenceOfUltrasoundRegions") or []:
        units = (region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection"))
        if region.get("RegionSpatialFormat") == REGION_2D and units == (UNITS_CM, UNITS_CM):
            delta = numbers(region.get("PhysicalDeltaY")) + numbers(region.get("PhysicalDeltaX"))
            found.add(tuple(round(abs(each) * 10, 6) for each in delta))
    pair = found.pop() if len(found) == 1 else ()
    return _of((pair[0], pair[1]), SpacingSource.ULTRASOUND) if len(pair) == 2 and min(pair) > 0 else None


def _of(pair: tuple[float, float], source: SpacingSource, label: str = "") -> PixelSpacing:
    return PixelSpacing(pair[0], pair[1], source, label or source.value)


def _pair(dataset: Attributes, keyword: str) -> tuple[float, float] | None:
    values = numbers(dataset.get(keyword))
    return (values[0], values[1]) if len(values) == 2 and min(values) > 0 else None


def _same(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return all(abs(a - b) <= 1e-3 * b for a, b in zip(one, other, strict=True))
