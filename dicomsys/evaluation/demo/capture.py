"""A test pattern for displays and printers (Secondary Capture Image IOD, PS3.3 A.8), after the idea of AAPM TG18-QC."""

from collections.abc import Iterator
from datetime import date, time

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from . import subjects
from .record import Series, Study, new_instance, set_pixels

SIZE = 1024
STEPS = 18
_MIDDLE = 128


def pattern_study(today: date) -> Iterator[Dataset]:
    """One test pattern."""
    study = Study(subjects.PATTERN, "sc-pattern", "Test pattern", today, 3, time(7, 55))
    series = Series(study, 1, "OT", SecondaryCaptureImageStorage, "Grey steps and resolution", "")
    dataset = new_instance(series, 1)
    dataset.Laterality = ""  # not known for what has no body part
    dataset.ConversionType = "SYN"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.PatientOrientation = ""
    dataset.BurnedInAnnotation = "NO"
    set_pixels(dataset, test_pattern(), 8)
    yield dataset


def test_pattern() -> NDArray[np.uint8]:
    """(1024, 1024): grid, grey steps with faint squares in their corners, ramps, line pairs, low-contrast letters."""
    picture = np.full((SIZE, SIZE), _MIDDLE, np.uint8)
    for line in range(32, SIZE, 64):
        picture[line, :] = picture[:, line] = 190
    picture[8:12, 8:-8] = picture[-12:-8, 8:-8] = 255
    picture[8:-8, 8:12] = picture[8:-8, -12:-8] = 255
    _draw_steps(picture)
    _draw_ramps(picture)
    for corner in ((40, 40), (40, SIZE - 168), (SIZE - 168, 40), (SIZE - 168, SIZE - 168), (448, 448)):
        _draw_line_pairs(picture, *corner)
    _draw_letters(picture)
    return picture


def _draw_steps(picture: NDArray[np.uint8]) -> None:
    """Grey steps round the middle, as on a clock; each with squares 4 levels darker and brighter."""
    side = 92
    for i in range(STEPS):
        angle = 2 * np.pi * (i / STEPS) - np.pi / 2
        row, column = (round(SIZE / 2 + 318 * part - side / 2) for part in (np.sin(angle), np.cos(angle)))
        value = round(i * 255 / (STEPS - 1))
        picture[row : row + side, column : column + side] = value
        picture[row + 6 : row + 22, column + 6 : column + 22] = min(value + 4, 255)
        picture[row + side - 22 : row + side - 6, column + side - 22 : column + side - 6] = max(value - 4, 0)


def _draw_ramps(picture: NDArray[np.uint8]) -> None:
    ramp = np.linspace(0, 255, 704).round().astype(np.uint8)
    picture[160:864, 40:88] = ramp[:, None]
    picture[160:864, SIZE - 88 : SIZE - 40] = ramp[::-1, None]


def _draw_line_pairs(picture: NDArray[np.uint8], row: int, column: int) -> None:
    """Lines of one, two and three pixels, upright and level."""
    picture[row : row + 128, column : column + 128] = 0
    at = np.arange(56)
    for i, width in enumerate((1, 2)):
        lines = np.where(at // width % 2, 255, 0).astype(np.uint8)
        top = row + 4 + 64 * i
        picture[top : top + 56, column + 4 : column + 60] = lines[None, :]
        picture[top : top + 56, column + 68 : column + 124] = lines[:, None]


def _draw_letters(picture: NDArray[np.uint8]) -> None:
    """Letters that stand out by 1 to 14 grey levels on dark, middle and bright ground."""
    for top, ground in ((612, 0), (662, _MIDDLE), (712, 255)):
        picture[top : top + 46, 362:662] = ground
        for i, letter in enumerate("DEMONSTRATION"):
            ink = ground + (i + 1) * (-1 if ground == 255 else 1)
            cv2.putText(picture, letter, (367 + 22 * i, top + 33), cv2.FONT_HERSHEY_SIMPLEX, 0.8, ink, 2)
