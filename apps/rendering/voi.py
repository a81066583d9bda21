"""From stored values to grayscale P-Values: Modality LUT (PS3.3 C.11.1), then VOI LUT (C.11.2), then polarity."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

P_MAX = 65535  # P-Values have 16 bits; 65535 = 257 * 255, so `// 257` gives exactly floor(y * 255)
FLOOR = -0.4985  # OpenCV rounds to the nearest: with this, p / 257 is cut off instead, for each of the 65536 values
ROUNDING = 1e-6  # far below a P-Value, far above the error of a double: 5.0 must not become 4 for 4.9999999999


@dataclass(frozen=True)
class Rescale:
    """Output = slope * stored value + intercept (PS3.3 C.11.1.1.2)."""

    slope: float = 1.0
    intercept: float = 0.0

    def apply(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Rescaled values, of the same shape."""
        return values * self.slope + self.intercept


@dataclass(frozen=True)
class Lut:
    """A Modality or VOI LUT: entry 0 belongs to `first`, values outside take the nearest end (PS3.3 C.11.1.1.1)."""

    first: int
    bits: int
    entries: tuple[int, ...]

    def apply(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The entry of each value, of the same shape."""
        index = np.clip(values - self.first, 0, len(self.entries) - 1).astype(np.intp)
        return np.asarray(self.entries, np.float64)[index]


@dataclass(frozen=True)
class Window:
    """A window in output units of the Modality LUT; function is LINEAR, LINEAR_EXACT or SIGMOID (PS3.3 C.11.2.1)."""

    center: float
    width: float
    function: str = "LINEAR"

    def normalise(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Each value on a scale from 0 (black) to 1 (white), of the same shape."""
        if self.function == "SIGMOID":
            exponent = np.clip(-4 * (values - self.center) / self.width, -700, 700)
            return 1 / (1 + np.exp(exponent))
        if self.function == "LINEAR_EXACT" or self.width < 1:  # LINEAR is not defined below 1
            return np.clip((values - self.center) / self.width + 0.5, 0, 1)
        if self.width == 1:
            return (values > self.center - 0.5).astype(np.float64)
        return np.clip((values - (self.center - 0.5)) / (self.width - 1) + 0.5, 0, 1)


Modality = Rescale | Lut
Voi = Window | Lut


def full_range(low: float, high: float) -> Window:
    """The LINEAR window that shows low as black and high as white; both in units of the Modality LUT."""
    return Window((low + high + 1) / 2, high - low + 1)


def normalise(values: NDArray[np.float64], voi: Voi) -> NDArray[np.float64]:
    """Modality values on a scale from 0 to 1."""
    if isinstance(voi, Window):
        return voi.normalise(values)
    return np.clip(voi.apply(values) / (2**voi.bits - 1), 0, 1)


def gray_values(
    stored: NDArray[np.generic], modality: Modality, voi: Voi, is_inverse: bool, maximum: int = P_MAX
) -> NDArray[np.uint16]:
    """P-Values 0 to `maximum` (at most 65535), floor(y * maximum), of the shape of `stored`.

    Stored values of 8 or 16 bits go through one table, which is kept for the next frame with the same parameters;
    wider ones and floating point are computed one by one. is_inverse: MONOCHROME1, the lowest value is white.
    """
    if stored.dtype.kind in "iu" and stored.dtype.itemsize <= 2:
        table = _table(stored.dtype.str, modality, voi, is_inverse, maximum)
        return np.asarray(cv2.LUT(stored.view(f"u{stored.dtype.itemsize}"), table), np.uint16)
    return _compute(stored.astype(np.float64), modality, voi, is_inverse, maximum)


def eight_bits(p_values: NDArray[np.uint16], out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """floor(p / 257) of every P-Value, exactly; written into `out` where it is given."""
    return np.asarray(cv2.convertScaleAbs(p_values, out, 1 / 257, FLOOR), np.uint8)


@lru_cache(maxsize=64)
def _table(dtype: str, modality: Modality, voi: Voi, is_inverse: bool, maximum: int) -> NDArray[np.uint16]:
    """One P-Value for each stored value, in the order of its bits read as an unsigned number."""
    bits = 8 * np.dtype(dtype).itemsize
    every_value = np.arange(2**bits, dtype=f"u{bits // 8}").view(dtype)
    return _compute(every_value.astype(np.float64), modality, voi, is_inverse, maximum)


def _compute(
    values: NDArray[np.float64], modality: Modality, voi: Voi, is_inverse: bool, maximum: int
) -> NDArray[np.uint16]:
    y = normalise(modality.apply(values), voi)
    if is_inverse:
        y = 1 - y
    is_curve = isinstance(voi, Window) and voi.function == "SIGMOID"  # comes near the ends and does not reach them
    return np.floor(y * maximum + (0 if is_curve else ROUNDING)).astype(np.uint16)
