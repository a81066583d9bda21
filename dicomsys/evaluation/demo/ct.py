"""CT of the demonstration (CT Image IOD, PS3.3 A.3): chest and abdomen with a scout, an earlier one, and a head."""

from collections.abc import Iterator
from datetime import date, time

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from . import subjects, torso, trunk
from .brain import Tissue, draw_head
from .drawing import Canvas, Image, blurred, noise, resized
from .record import Series, Study, new_instance, place, set_pixels

SIZE = 512
TORSO_FIELD_MM, HEAD_FIELD_MM = 360.0, 240.0
TORSO_CENTER_MM, HEAD_CENTER_MM = (0.0, 10.0), (0.0, -8.0)
RESCALE_INTERCEPT = -1024
_FINER = 3, 2  # sections are painted with 3 pixels where 2 are kept
_AXIAL, _CORONAL = (1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0, -1)
_HEAD_HU = {
    Tissue.AIR: -1000, Tissue.SKIN: 40, Tissue.FAT: -95, Tissue.MUSCLE: 55, Tissue.BONE: 1150, Tissue.MARROW: 520,
    Tissue.CSF: 6, Tissue.GRAY: 39, Tissue.WHITE: 29, Tissue.NUCLEUS: 38, Tissue.PALLIDUM: 40, Tissue.BLOOD: 62,
    Tissue.VITREOUS: 8, Tissue.LENS: 65, Tissue.MUCOSA: 36, Tissue.DURA: 60,
}  # fmt: skip


def torso_studies(today: date) -> Iterator[Dataset]:
    """An enhanced CT of yesterday and a plain one three months before, in which the nodule was smaller."""
    subject = subjects.TORSO
    before = Study(subject, "ct-prior", "CT chest without contrast", today, 92, time(11, 5))
    lungs = Series(before, 1, "CT", CTImageStorage, "Axial 8 mm, plain", "CHEST")
    yield from _sections(lungs, [68.0 + 8 * i for i in range(10)], trunk.PLAIN)

    study = Study(subject, "ct", "CT chest and upper abdomen", today, 1, time(10, 12))
    yield _scout(Series(study, 1, "CT", CTImageStorage, "Scout AP", "CHEST"))
    series = Series(study, 2, "CT", CTImageStorage, "Axial 8 mm, portal venous", "CHEST")
    yield from _sections(series, [4.0 + 8 * i for i in range(36)], trunk.ENHANCED)


def head_study(today: date) -> Iterator[Dataset]:
    """Six sections of the head, taken last night."""
    study = Study(subjects.HEAD, "ct-head", "CT head", today, 0, time(0, 41))
    series = Series(study, 1, "CT", CTImageStorage, "Axial 10 mm", "HEAD")
    for number, level in enumerate(range(0, 60, 10), 1):
        dataset = _new_image(series, number, 10.0)
        _place_axial(dataset, series, HEAD_FIELD_MM, HEAD_CENTER_MM, float(level))
        dataset.WindowCenter, dataset.WindowWidth = [38, 500], [85, 2800]
        dataset.WindowCenterWidthExplanation = ["BRAIN", "BONE"]
        dataset.ConvolutionKernel = "HEAD"
        hounsfield = _head_section(float(level)) + 2.6 * _grain(SIZE, number)
        _set_hounsfield(dataset, hounsfield)
        yield dataset


def _sections(series: Series, levels: list[float], condition: trunk.Condition) -> Iterator[Dataset]:
    for number, level in enumerate(levels, 1):
        dataset = _new_image(series, number, 8.0)
        _place_axial(dataset, series, TORSO_FIELD_MM, TORSO_CENTER_MM, -level)
        if condition is trunk.ENHANCED:
            dataset.ContrastBolusAgent = "Demonstration contrast"
        dataset.WindowCenter, dataset.WindowWidth = [40, -600], [400, 1500]
        dataset.WindowCenterWidthExplanation = ["SOFT TISSUE", "LUNG"]
        dataset.ConvolutionKernel = "STANDARD"
        _set_hounsfield(dataset, torso_section(level, condition))
        yield dataset


def torso_section(level: float, condition: trunk.Condition) -> Image:
    """Hounsfield units with the noise of the scanner, (512, 512)."""
    fine, kept = _FINER
    mm_per_px = TORSO_FIELD_MM / SIZE * kept / fine
    canvas = Canvas(SIZE * fine // kept, 576, mm_per_px, trunk.AIR, TORSO_CENTER_MM)
    torso.draw_section(canvas, level, condition)
    band = blurred(resized(canvas.image, SIZE, 576 * kept // fine), 0.65)
    grain = _grain(SIZE, round(level) + 100)[: band.shape[0]]
    shoulders = float(np.interp(level, [0, 40], [1.0, 0.0]))
    streaks = noise(band.shape, 1.3, round(level), 30) if shoulders else 0
    inside = np.interp(band, [-1000, -850, -200], [0.45, 0.8, 1.0]).astype(np.float32)
    band += inside * (9.5 * grain + 8 * shoulders * streaks)
    section: Image = np.full((SIZE, SIZE), trunk.AIR, np.float32)
    section += 4 * _grain(SIZE, round(level) + 300)
    top = (SIZE - band.shape[0]) // 2
    section[top : top + band.shape[0]] = band
    return section


_GRAIN = noise((SIZE + 128, SIZE + 128), 1.45, 900)


def _grain(size: int, seed: int) -> Image:
    """Noise with the texture of filtered back projection: another part of one plane for each section."""
    row, column = np.random.default_rng(seed).integers(0, 128, 2)
    return _GRAIN[row : row + size, column : column + size]


def _head_section(level: float) -> Image:
    fine, kept = _FINER
    canvas = Canvas(
        SIZE * fine // kept, SIZE * fine // kept, HEAD_FIELD_MM / SIZE * kept / fine, Tissue.AIR, HEAD_CENTER_MM
    )
    draw_head(canvas, level)
    table = np.array([_HEAD_HU[tissue] for tissue in Tissue], np.float32)
    return blurred(resized(table[canvas.image.astype(np.uint8)], SIZE, SIZE), 1.5)


def _scout(series: Series) -> Dataset:
    """The localizer: the same phantom looked through from the front, so that sections lie where they belong."""
    mm_per_px, top_level = TORSO_FIELD_MM / SIZE, -30.0
    dataset = _new_image(series, 1, None)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    first_mm = (-mm_per_px * (SIZE - 1) / 2, TORSO_CENTER_MM[1], -top_level)
    place(dataset, series, first_mm, _CORONAL)
    dataset.PixelSpacing = [f"{mm_per_px:.6f}"] * 2
    weakening = _scout_weakening(top_level, step_mm=5.0)
    even = weakening - 0.55 * blurred(weakening, 36)
    _set_hounsfield(dataset, 360 * even - 700 + 9 * _grain(SIZE, 1))
    del dataset.RescaleType  # sums along the beam are no Hounsfield units
    dataset.WindowCenter, dataset.WindowWidth = -180, 900
    return dataset


def _scout_weakening(top_level: float, step_mm: float) -> Image:
    """Weakening of the beam for each pixel of the scout, smooth between levels `step_mm` apart."""
    rows_mm = TORSO_FIELD_MM / SIZE * np.arange(SIZE, dtype=np.float32)
    levels = top_level + np.arange(0, rows_mm[-1] + 2 * step_mm, step_mm)
    through = np.array([_looked_through(float(level)) for level in levels], np.float32)
    row = np.repeat(rows_mm[:, None] / np.float32(step_mm), SIZE, axis=1)
    column = np.tile(np.linspace(0, through.shape[1] - 1, SIZE, dtype=np.float32), (SIZE, 1))
    return np.asarray(cv2.remap(through, column, row, cv2.INTER_CUBIC), np.float32)


def _looked_through(level: float) -> Image:
    """Weakening of a beam from front to back at one level, for each column."""
    canvas = Canvas(256, 192, TORSO_FIELD_MM / 256, trunk.AIR, TORSO_CENTER_MM)
    torso.draw_section(canvas, level)
    dense = np.maximum(canvas.image + 1000, 0) + 0.9 * np.maximum(canvas.image - 150, 0)
    return np.asarray(dense.sum(axis=0) * (0.019 / 1000 * canvas.mm_per_px), np.float32)


def _new_image(series: Series, number: int, thickness_mm: float | None) -> Dataset:
    """CT Image Module without pixels (PS3.3 C.8.2.1)."""
    dataset = new_instance(series, number)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SliceThickness = thickness_mm
    dataset.KVP = 120
    dataset.ScanOptions = "AXIAL" if thickness_mm else "SCOUT"
    dataset.DataCollectionDiameter = 500
    dataset.GantryDetectorTilt = 0
    dataset.ExposureTime, dataset.XRayTubeCurrent, dataset.Exposure = 500, 240, 120
    dataset.BurnedInAnnotation = "NO"
    return dataset


def _place_axial(
    dataset: Dataset, series: Series, field_mm: float, center_mm: tuple[float, float], z_mm: float
) -> None:
    mm_per_px = field_mm / SIZE
    half_mm = mm_per_px * (SIZE - 1) / 2
    place(dataset, series, (center_mm[0] - half_mm, center_mm[1] - half_mm, z_mm), _AXIAL)
    dataset.SliceLocation = z_mm
    dataset.PixelSpacing = [f"{mm_per_px:.6f}"] * 2
    dataset.ReconstructionDiameter = field_mm


def _set_hounsfield(dataset: Dataset, hounsfield: Image) -> None:
    stored: NDArray[np.int16] = np.clip(np.rint(hounsfield) - RESCALE_INTERCEPT, 0, 4095).astype(np.int16)
    set_pixels(dataset, stored, 16)
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = RESCALE_INTERCEPT, 1, "HU"
