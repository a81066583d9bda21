"""MR of the demonstration (MR Image IOD, PS3.3 A.4): a brain in two weightings and a lumbar spine."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, time

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian, MRImageStorage, RLELossless

from . import lumbar, subjects
from .brain import Tissue, draw_head
from .drawing import Canvas, Image, blurred, noise, resized
from .record import Series, Study, new_instance, place, set_pixels

SIZE = 256
BRAIN_FIELD_MM, BRAIN_CENTER_MM = 240.0, (0.0, -10.0)
SPINE_FIELD_MM, SPINE_CENTER_MM = 280.0, (10.0, 0.0)


@dataclass(frozen=True)
class Weighting:
    """One pulse sequence and the signal it gives for each tissue, in the order of `Tissue`."""

    description: str
    sequence: tuple[str, str]  # Scanning Sequence, Sequence Variant
    times_ms: tuple[float, float]  # repetition, echo
    echo_train: int
    signal: tuple[float, ...]
    window: tuple[int, int]


T1 = Weighting(
    "T1 SE axial", ("SE", "NONE"), (520, 12), 1,
    (0, 430, 1080, 430, 60, 560, 170, 545, 790, 600, 665, 110, 190, 340, 470, 310), (520, 960),
)  # fmt: skip
T2 = Weighting(
    "T2 TSE axial", ("SE", "SK"), (4200, 98), 16,
    (0, 360, 620, 250, 50, 340, 1380, 740, 500, 650, 520, 80, 1420, 330, 800, 200), (570, 1140),
)  # fmt: skip


def brain_study(today: date) -> Iterator[Dataset]:
    """The brain in 20 sections of 5 mm, T1 and T2 weighted; the second series is encoded with implicit VR."""
    study = Study(subjects.BRAIN, "mr-brain", "MR brain", today, 2, time(14, 20))
    levels = [6.0 * i - 42 for i in range(20)]
    tissues = [_tissue_map(level) for level in levels]
    first = Series(study, 1, "MR", MRImageStorage, T1.description, "HEAD")
    second = Series(study, 2, "MR", MRImageStorage, T2.description, "HEAD", ImplicitVRLittleEndian)
    for series, weighting in ((first, T1), (second, T2)):
        for number, (level, tissue) in enumerate(zip(levels, tissues, strict=True), 1):
            dataset = _new_image(series, number, weighting, 5.0, 6.0)
            half_mm = BRAIN_FIELD_MM / SIZE * (SIZE - 1) / 2
            place(
                dataset, series, (BRAIN_CENTER_MM[0] - half_mm, BRAIN_CENTER_MM[1] - half_mm, level), (1, 0, 0, 0, 1, 0)
            )
            dataset.SliceLocation = level
            dataset.PixelSpacing = [f"{BRAIN_FIELD_MM / SIZE:.6f}"] * 2
            _set_signal(dataset, _signal(tissue, weighting), 16.0, 100 * series.number + number)
            yield dataset


def spine_study(today: date) -> Iterator[Dataset]:
    """The lumbar spine in 9 sagittal sections, T2 weighted, compressed with RLE."""
    study = Study(subjects.LUMBAR, "mr-spine", "MR lumbar spine", today, 3, time(9, 35))
    series = Series(study, 1, "MR", MRImageStorage, "T2 TSE sagittal", "LSPINE", RLELossless)
    mm_per_px = SPINE_FIELD_MM / SIZE
    half_mm = mm_per_px * (SIZE - 1) / 2
    for number, aside in enumerate(range(-16, 17, 4), 1):
        canvas = Canvas(2 * SIZE, 2 * SIZE, mm_per_px / 2, lumbar.AIR, SPINE_CENTER_MM)
        lumbar.lumbar_signal(canvas, float(aside))
        dataset = _new_image(series, number, T2, 3.5, 4.0)
        place(dataset, series, (aside, SPINE_CENTER_MM[0] - half_mm, half_mm - SPINE_CENTER_MM[1]), (0, 1, 0, 0, 0, -1))
        dataset.SliceLocation = aside
        dataset.PixelSpacing = [f"{mm_per_px:.6f}"] * 2
        dataset.WindowCenter, dataset.WindowWidth = 400, 820
        _set_signal(dataset, blurred(resized(canvas.image, SIZE, SIZE), 0.6), 14.0, 300 + number)
        yield dataset


_BESIDE_PX = 56  # air that is not painted


def _tissue_map(level: float) -> NDArray[np.uint8]:
    canvas = Canvas(2 * SIZE - 2 * _BESIDE_PX, 2 * SIZE, BRAIN_FIELD_MM / SIZE / 2, Tissue.AIR, BRAIN_CENTER_MM)
    draw_head(canvas, level)
    return np.pad(canvas.image.astype(np.uint8), ((0, 0), (_BESIDE_PX, _BESIDE_PX)))


def _signal(tissue: NDArray[np.uint8], weighting: Weighting) -> Image:
    signal = resized(np.array(weighting.signal, np.float32)[tissue], SIZE, SIZE)
    uneven = 1 + 0.05 * noise(signal.shape, 90, 501) + 0.03 * noise(signal.shape, 3, 502)
    return blurred(signal * uneven.astype(np.float32), 0.55)


_GRAIN = np.random.default_rng(500).standard_normal((2, SIZE + 128, SIZE + 128), np.float32)


def _set_signal(dataset: Dataset, signal: Image, deviation: float, seed: int) -> None:
    """The magnitude of a signal with noise in both channels, so that air is not quite black."""
    row, column = np.random.default_rng(seed).integers(0, 128, 2)
    real, imaginary = deviation * _GRAIN[:, row : row + SIZE, column : column + SIZE]
    magnitude = np.hypot(signal + real, imaginary)
    set_pixels(dataset, np.clip(np.rint(magnitude), 0, 4095).astype(np.uint16), 12)


def _new_image(series: Series, number: int, weighting: Weighting, thickness_mm: float, spacing_mm: float) -> Dataset:
    """MR Image Module without pixels (PS3.3 C.8.3.1)."""
    dataset = new_instance(series, number)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    dataset.ScanningSequence, dataset.SequenceVariant = weighting.sequence
    dataset.ScanOptions = ""
    dataset.MRAcquisitionType = "2D"
    dataset.RepetitionTime, dataset.EchoTime = weighting.times_ms
    dataset.EchoTrainLength = weighting.echo_train
    dataset.MagneticFieldStrength = 1.5
    dataset.FlipAngle = 90
    dataset.SliceThickness, dataset.SpacingBetweenSlices = thickness_mm, spacing_mm
    dataset.WindowCenter, dataset.WindowWidth = weighting.window
    dataset.BurnedInAnnotation = "NO"
    return dataset
