"""Rasters as they are stored."""

from hashlib import sha256
from io import BytesIO

import numpy as np
import pytest

from apps.films.raster import RasterError, encode, raster_sha256, read_raster

GRAY = np.random.default_rng(1).integers(0, 256, (50, 40)).astype(np.uint8)
RGB = np.random.default_rng(2).integers(0, 256, (50, 40, 3)).astype(np.uint8)


@pytest.mark.parametrize("pixels", [GRAY, RGB], ids=["gray", "rgb"])
def test_pixels_come_back_without_loss(pixels):
    stored = read_raster(BytesIO(encode(pixels).to_bytes()))
    assert (stored.width_px, stored.height_px, stored.samples) == (40, 50, 1 if pixels.ndim == 2 else 3)
    assert (stored.pixels() == pixels).all()


def test_its_identity_is_the_sha256_of_shape_and_pixels():
    assert raster_sha256(GRAY) == sha256(b"50 40 1 8\n" + GRAY.tobytes()).hexdigest()
    assert raster_sha256(GRAY.reshape(40, 50)) != raster_sha256(GRAY)


def test_other_bytes_are_refused():
    with pytest.raises(RasterError):
        read_raster(BytesIO(b"something else"))
    cut = encode(GRAY).to_bytes()[:-9]
    with pytest.raises(RasterError, match="damaged"):
        read_raster(BytesIO(cut)).pixels()
