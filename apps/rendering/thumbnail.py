"""Small pictures for lists of series."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from apps.rendering.frame import ImageFile, decode_frame, picture
from apps.rendering.resize import fit

FAST_PNG = (
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE),
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP),
)


def thumbnail(file: Path | ImageFile, frame: int, size_px: int) -> NDArray[np.uint8]:
    """Frame `frame` (from 1) as 8-bit gray (rows, columns) or RGB (rows, columns, 3) inside size_px x size_px.

    Raises UndecodableFrameError, or OSError where the file cannot be read.
    """
    stored = decode_frame(file, frame)
    rows, columns = stored.pixels.shape[:2]
    return picture(stored, *fit(rows, columns, stored.pixel_aspect, size_px, size_px))


def render_thumbnail(path: Path, frame: int, size_px: int) -> bytes:
    """The same as the bytes of a PNG file."""
    return encode_png(thumbnail(path, frame, size_px))


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """PNG bytes of 8-bit gray (rows, columns) or RGB (rows, columns, 3)."""
    ordered = image[..., ::-1] if image.ndim == 3 else image  # OpenCV keeps blue first
    return cv2.imencode(".png", ordered, FAST_PNG)[1].tobytes()
