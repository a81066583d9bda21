"""Thumbnails."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from apps.rendering.thumbnail import render_thumbnail, thumbnail
from tests.rendering.images import image, write


@pytest.mark.parametrize(
    ("rows", "columns", "spacing", "expected"),
    [(100, 200, [1, 1], (100, 50)), (200, 100, [1, 1], (50, 100)), (100, 100, [2, 1], (50, 100))],
)
def test_it_keeps_the_shape_of_what_is_shown(tmp_path, rows, columns, spacing, expected):
    path = write(tmp_path, image(np.zeros((rows, columns), np.uint16), PixelSpacing=spacing))
    picture = Image.open(BytesIO(render_thumbnail(path, 1, 100)))
    assert (picture.format, picture.mode, picture.size) == ("PNG", "L", expected)


def test_colours_are_kept_in_order(tmp_path):
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 250
    picture = Image.open(BytesIO(render_thumbnail(write(tmp_path, image(red)), 1, 8)))
    assert picture.getpixel((4, 4)) == (250, 0, 0)


def test_the_frame_is_counted_from_one(tmp_path):
    frames = b"".join(np.full((8, 8), value, np.uint8).tobytes() for value in (10, 20))
    path = write(tmp_path, image(np.zeros((8, 8), np.uint8), NumberOfFrames=2, PixelData=frames))
    assert thumbnail(path, 2, 8)[0, 0] == 20
