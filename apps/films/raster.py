"""A drawn page as bytes: a line of text, then the pixels as a PDF and a PNG take them (Up predictor, zlib).

The compressed stream goes into a PDF as it is, so that what is printed is bit by bit what was kept.
"""

from __future__ import annotations

import re
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import IO

import numpy as np
from numpy.typing import NDArray

from apps.core.errors import PermanentError

UP = 2  # every row is the difference to the one above (PNG 9.2; ISO 32000-1 7.4.4.4)
BANDS, THREADS = 8, 2
ZLIB_HEAD, LAST_BLOCK = b"\x78\x01", b"\x03\x00"  # RFC 1950: 32 kB window, fastest; RFC 1951: an empty final block
_HEAD = re.compile(rb"dicomsys raster 1 (\d{1,6}) (\d{1,6}) ([13]) 8\n")
_HEAD_BYTES = 64


class RasterError(PermanentError):
    """Stored bytes are not a raster of this program."""


@dataclass(frozen=True)
class StoredRaster:
    """A page as it is kept: 8 bits a sample, 1 (gray) or 3 (RGB) samples a pixel; `stream` is zlib data."""

    width_px: int
    height_px: int
    samples: int
    stream: bytes

    def to_bytes(self) -> bytes:
        """What is stored."""
        return b"dicomsys raster 1 %d %d %d 8\n" % (self.width_px, self.height_px, self.samples) + self.stream

    def pixels(self) -> NDArray[np.uint8]:
        """Gray (height, width) or RGB (height, width, 3). Raises RasterError."""
        row_bytes = self.width_px * self.samples
        try:
            rows = np.frombuffer(zlib.decompress(self.stream), np.uint8).reshape(self.height_px, row_bytes + 1)
        except (zlib.error, ValueError) as error:
            raise RasterError("a stored raster is damaged") from error
        pixels = rows[:, 1:].copy()
        for above, row in zip(pixels, pixels[1:], strict=False):
            row += above
        return pixels if self.samples == 1 else pixels.reshape(self.height_px, self.width_px, 3)


def raster_sha256(pixels: NDArray[np.uint8]) -> str:
    """SHA-256 (hex) over height, width, samples, bits and every pixel: the identity of what is printed."""
    samples = 1 if pixels.ndim == 2 else pixels.shape[2]
    digest = sha256(b"%d %d %d 8\n" % (*pixels.shape[:2], samples))
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def encode(pixels: NDArray[np.uint8]) -> StoredRaster:
    """The page without loss. Its bands are compressed side by side; their number does not depend on the machine."""
    height, width = pixels.shape[:2]
    flat = pixels.reshape(height, -1)
    rows = np.empty((height, flat.shape[1] + 1), np.uint8)
    rows[:, 0] = UP
    rows[0, 1:] = flat[0]
    np.subtract(flat[1:], flat[:-1], out=rows[1:, 1:])
    with ThreadPoolExecutor(THREADS) as pool:
        bands = list(pool.map(_compress, np.array_split(rows, BANDS)))
    checksum = zlib.adler32(rows.data).to_bytes(4, "big")
    stream = ZLIB_HEAD + b"".join(bands) + LAST_BLOCK + checksum
    return StoredRaster(width, height, 1 if pixels.ndim == 2 else 3, stream)


def _compress(rows: NDArray[np.uint8]) -> bytes:
    """A piece of a deflate stream (RFC 1951) that ends at a byte and refers to nothing before it."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -15, 8, zlib.Z_RLE)  # pages are mostly black: runs are enough
    return packer.compress(rows.data) + packer.flush(zlib.Z_FULL_FLUSH)


def read_raster(file: IO[bytes]) -> StoredRaster:
    """The page that was stored. Raises RasterError."""
    data = file.read()
    head = _HEAD.match(data[:_HEAD_BYTES])
    if not head:
        raise RasterError("a stored file is not a raster")
    width, height, samples = (int(number) for number in head.groups())
    return StoredRaster(width, height, samples, data[head.end() :])
