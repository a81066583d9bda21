"""Colour frames as 8-bit RGB (PS3.3 C.7.6.3.1.2)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut


def palette_to_rgb(indices: NDArray[Any], dataset: Dataset) -> NDArray[np.uint8]:
    """RGB (rows, columns, 3) of a PALETTE COLOR frame (rows, columns); of 16-bit entries the high byte is taken."""
    colours = apply_color_lut(indices, dataset)[..., :3]
    is_swapped = dataset.original_encoding[1] is False and "RedPaletteColorLookupTableData" in dataset
    if is_swapped and colours.itemsize == 2:  # pydicom reads big endian tables as little endian ones
        colours = colours.byteswap()
    return _eight_bits(colours, int(dataset.RedPaletteColorLookupTableDescriptor[2]))


def samples_to_rgb(samples: NDArray[Any], bits_stored: int) -> NDArray[np.uint8]:
    """RGB (rows, columns, 3) of decoded R, G and B samples of any depth."""
    return _eight_bits(samples, bits_stored)


def luma(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Gray (rows, columns) of RGB by ITU-R BT.601, for printers without colour."""
    weights = np.array([77, 150, 29], np.uint32)
    return ((rgb.astype(np.uint32) @ weights + 128) >> 8).astype(np.uint8)


def _eight_bits(samples: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    if bits > 8:
        samples = samples >> (bits - 8)
    return np.ascontiguousarray(samples, np.uint8)
