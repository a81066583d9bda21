"""Resampling of frames: area-averaged when shrinking, cubic when enlarging."""

from __future__ import annotations

from typing import Any

import cv2
from numpy.typing import NDArray

cv2.setNumThreads(1)  # one worker process a core


def resize(image: NDArray[Any], width: int, height: int) -> NDArray[Any]:
    """The image (rows, columns[, 3]) at width x height pixels, of the same type.

    Cubic resampling does not filter what it drops, so each direction that shrinks is averaged over areas first.
    """
    rows, columns = image.shape[:2]
    smaller = (min(width, columns), min(height, rows))
    if smaller != (columns, rows):
        image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)
    if smaller != (width, height):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    return image


def fit(rows: int, columns: int, pixel_aspect: float, width: int, height: int) -> tuple[int, int]:
    """Width and height, at least 1, of the largest picture of these rows and columns inside width x height.

    pixel_aspect is the height of a stored pixel divided by its width; the result has square dots.
    """
    scale = min(width / columns, height / (rows * pixel_aspect))
    return max(1, min(width, round(columns * scale))), max(1, min(height, round(rows * pixel_aspect * scale)))


def reduce(image: NDArray[Any], longest_px: int) -> NDArray[Any]:
    """The image halved, each time averaging squares of four, until it is at most longest_px wide and high.

    Ten times as fast as one step by another factor. A last odd row or column is left out.
    """
    while max(image.shape[:2]) > longest_px:
        height, width = image.shape[0] // 2, image.shape[1] // 2
        image = resize(image[: 2 * height, : 2 * width], width, height)
    return image
