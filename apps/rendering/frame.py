"""One frame of a stored image: decoded by itself, with what its header says about showing it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import get_decoder

from apps.core.errors import PermanentError
from apps.rendering.colour import palette_to_rgb, samples_to_rgb
from apps.rendering.functional_groups import numbers
from apps.rendering.grayscale import read_modality, read_voi
from apps.rendering.header import Attributes, UnreadableImageError, find_image
from apps.rendering.resize import resize
from apps.rendering.spacing import PixelSpacing, pixel_aspect, pixel_spacing
from apps.rendering.voi import P_MAX, Modality, Rescale, Voi, Window, eight_bits, full_range, gray_values

warnings.filterwarnings("ignore", module=r"pydicom\.")  # their text quotes values, which may be a person's

GRAYSCALE = ("MONOCHROME1", "MONOCHROME2")
COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420", "YBR_PARTIAL_422")
PIXEL_ELEMENTS = {
    "rows": "Rows",
    "columns": "Columns",
    "samples_per_pixel": "SamplesPerPixel",
    "photometric_interpretation": "PhotometricInterpretation",
    "planar_configuration": "PlanarConfiguration",
    "bits_allocated": "BitsAllocated",
    "bits_stored": "BitsStored",
    "pixel_representation": "PixelRepresentation",
}


class UndecodableFrameError(PermanentError):
    """A frame cannot be shown; the text says why in plain words and names the SOP Instance UID."""


@dataclass(frozen=True)
class StoredFrame:
    """Stored values of one frame and the parameters of its grayscale pipeline.

    pixels: (rows, columns) stored values of any integer or float type, or (rows, columns, 3) 8-bit RGB.
    bits: Bits Stored; 0 where the values are floating point.
    padding: lowest and highest stored value that mark "no image here" (PS3.3 C.7.5.1.1.2).
    pixel_aspect: height of a pixel divided by its width.
    """

    pixels: NDArray[Any]
    is_inverse: bool = False
    modality: Modality = field(default_factory=Rescale)
    voi: tuple[Voi, ...] = ()
    padding: tuple[float, float] | None = None
    spacing: PixelSpacing | None = None
    pixel_aspect: float = 1.0
    bits: int = 16

    @property
    def is_colour(self) -> bool:
        """Whether `pixels` are RGB."""
        return self.pixels.ndim == 3

    def default_voi(self) -> Voi:
        """What the object asks for, VOI LUT before window; else from the lowest to the highest value.

        Up to 8 bits these are the lowest and highest possible ones, so that the frames of a run look alike; else those
        of this frame, without padding.
        """
        return self.voi[0] if self.voi else self._range()

    def _range(self) -> Window:
        is_float = self.pixels.dtype.kind == "f"
        ends = self._possible_ends() if 0 < self.bits <= 8 and not is_float else self._actual_ends()
        low, high = sorted(float(end) for end in self.modality.apply(np.array(ends, np.float64)))
        if is_float:
            return Window((low + high) / 2, max(high - low, 1e-12), "LINEAR_EXACT")
        return full_range(low, high)

    def _possible_ends(self) -> tuple[float, float]:
        lowest = -(2 ** (self.bits - 1)) if self.pixels.dtype.kind == "i" else 0
        return lowest, lowest + 2**self.bits - 1

    def _actual_ends(self) -> tuple[float, float]:
        values = self.pixels
        if self.padding:
            kept = values[(values < self.padding[0]) | (values > self.padding[1])]
            values = kept if kept.size else values
        if values.dtype.kind == "f":
            values = values[np.isfinite(values)]
        return (values.min(), values.max()) if values.size else (0, 1)


def p_values(frame: StoredFrame, voi: Voi | None = None, maximum: int = P_MAX) -> NDArray[np.uint16]:
    """Grayscale P-Values (rows, columns), 0 to maximum; `voi` replaces what the object asks for.

    Raises ValueError for a colour frame: it has no P-Values.
    """
    if frame.is_colour:
        raise ValueError("a colour frame has no grayscale P-Values")
    return gray_values(frame.pixels, frame.modality, voi or frame.default_voi(), frame.is_inverse, maximum)


def picture(
    frame: StoredFrame, width: int, height: int, voi: Voi | None = None, out: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """The frame as 8-bit gray (height, width) or RGB (height, width, 3): first the LUT, then the resize.

    A gray frame is drawn into `out` (height, width) where it is given.
    """
    if frame.is_colour:
        return np.asarray(resize(frame.pixels, width, height), np.uint8)
    return eight_bits(resize(p_values(frame, voi), width, height), out)


class ImageFile:
    """One stored image: its header, read once, and its frames, decoded one at a time and never kept.

    Raises OSError where the file cannot be opened, UndecodableFrameError where it holds no image.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._found = find_image(path)
        except UnreadableImageError as error:
            raise UndecodableFrameError(f"image {path.stem} cannot be shown: {error}") from error
        self.header = self._found.header
        self.sop_instance_uid = str(self.header.get("SOPInstanceUID") or path.stem)
        self._options = self._decoding_options()
        self.number_of_frames: int = self._options["number_of_frames"]

    def stored_frame(self, frame: int = 1) -> StoredFrame:
        """Decode one frame, counted from 1 (PS3.3 C.7.6.16). Raises UndecodableFrameError, OSError."""
        if not 1 <= frame <= self.number_of_frames:
            raise self._error(f"there is no frame {frame}, only {self.number_of_frames}")
        samples, photometric = self._decode(frame)
        spacing = pixel_spacing(self.header, frame)
        aspect = pixel_aspect(self.header, spacing)
        if photometric in GRAYSCALE and samples.ndim == 2:
            return self._grayscale(samples, frame, photometric == "MONOCHROME1", spacing, aspect)
        if photometric in COLOURS and samples.ndim == 3:
            rgb = samples_to_rgb(samples, self._options["bits_stored"])
            return StoredFrame(rgb, spacing=spacing, pixel_aspect=aspect)
        if photometric == "PALETTE COLOR" and samples.ndim == 2:
            return StoredFrame(self._coloured(samples), spacing=spacing, pixel_aspect=aspect)
        raise self._error(f"its photometric interpretation {photometric[:16]!r} is not supported")

    def _error(self, reason: str) -> UndecodableFrameError:
        return UndecodableFrameError(f"image {self.sop_instance_uid} cannot be shown: {reason}")

    def _decoding_options(self) -> dict[str, Any]:
        """What pydicom's decoders want to know (PS3.3 C.7.6.3); absent elements are left out."""
        values = {name: self.header.get(keyword) for name, keyword in PIXEL_ELEMENTS.items()}
        options = {name: value for name, value in values.items() if value not in (None, "")}
        frames = numbers(self.header.get("NumberOfFrames"))[:1]
        options["number_of_frames"] = max(1, int(frames[0])) if frames else 1
        options["pixel_keyword"] = self._found.keyword
        if self._found.vr:
            options["pixel_vr"] = self._found.vr
        if "ExtendedOffsetTable" in self.header and "ExtendedOffsetTableLengths" in self.header:
            options["extended_offsets"] = tuple(
                self.header.get(key) for key in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
            )
        return options

    def _decode(self, frame: int) -> tuple[NDArray[Any], str]:
        """Samples (rows, columns[, 3]) and their photometric interpretation after decoding."""
        try:
            decoder = get_decoder(self._found.syntax)
        except NotImplementedError as error:
            raise self._error(f"its transfer syntax {self._found.syntax} is not supported") from error
        with self.path.open("rb") as file:
            file.seek(self._found.offset)
            source: Any = file if self._found.offset else self.header
            try:
                samples, properties = decoder.as_array(source, index=frame - 1, **self._options)
            except Exception as error:  # decoders raise anything on damaged data
                raise self._error(self._reason(error)) from error
        return samples, str(properties["photometric_interpretation"])

    def _reason(self, error: Exception) -> str:
        if isinstance(error, (AttributeError, TypeError)):
            return "its header lacks what describes the pixels"
        if self._found.syntax.is_encapsulated:
            return f"its compressed pixel data ({self._found.syntax.name}) cannot be decoded"
        return "its pixel data does not fit what its header says of it"

    def _grayscale(
        self, samples: NDArray[Any], frame: int, is_inverse: bool, spacing: PixelSpacing | None, aspect: float
    ) -> StoredFrame:
        is_signed = samples.dtype.kind == "i"
        return StoredFrame(
            pixels=samples,
            is_inverse=is_inverse,
            modality=read_modality(self.header, frame, is_signed),
            voi=read_voi(self.header, frame, is_signed),
            padding=_padding(self.header),
            spacing=spacing,
            pixel_aspect=aspect,
            bits=self._options.get("bits_stored", 0),
        )

    def _coloured(self, indices: NDArray[Any]) -> NDArray[np.uint8]:
        try:
            return palette_to_rgb(indices, cast(Dataset, self.header))
        except Exception as error:  # a palette is read from up to six elements, any may be damaged
            raise self._error("its palette cannot be read") from error


def decode_frame(file: Path | ImageFile, frame: int = 1) -> StoredFrame:
    """One decoded frame, counted from 1; give an ImageFile when more frames of the same file follow.

    Raises UndecodableFrameError, or OSError where the file cannot be read.
    """
    return (file if isinstance(file, ImageFile) else ImageFile(file)).stored_frame(frame)


def _padding(header: Attributes) -> tuple[float, float] | None:
    ends = numbers(header.get("PixelPaddingValue"))[:1]
    if not ends:
        return None
    ends += numbers(header.get("PixelPaddingRangeLimit"))[:1]
    return min(ends), max(ends)
