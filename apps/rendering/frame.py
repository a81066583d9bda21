"""One frame of a stored image: decoded by itself, with what its header says about showing it."""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.pixels import get_decoder
from pydicom.pixels.utils import as_pixel_options
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from apps.core.errors import PermanentError
from apps.rendering.colour import palette_to_rgb, samples_to_rgb
from apps.rendering.functional_groups import numbers
from apps.rendering.grayscale import read_modality, read_voi
from apps.rendering.resize import resize
from apps.rendering.spacing import PixelSpacing, pixel_aspect, pixel_spacing
from apps.rendering.voi import P_MAX, Modality, Rescale, Voi, Window, full_range, gray_values

warnings.filterwarnings("ignore", module=r"pydicom\.")  # their text quotes values, which may be a person's

PIXEL_KEYWORDS = {0x7FE00010: "PixelData", 0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData"}
GRAYSCALE = ("MONOCHROME1", "MONOCHROME2")
COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420", "YBR_PARTIAL_422")
DEFLATED = (DeflatedExplicitVRLittleEndian,)


class UndecodableFrameError(PermanentError):
    """A frame cannot be shown; the text says why in plain words and names the SOP Instance UID."""


@dataclass(frozen=True)
class StoredFrame:
    """Stored values of one frame and the parameters of its grayscale pipeline.

    pixels: (rows, columns) stored values of any integer or float type, or (rows, columns, 3) 8-bit RGB.
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

    @property
    def is_colour(self) -> bool:
        """Whether `pixels` are RGB."""
        return self.pixels.ndim == 3

    def default_voi(self) -> Voi:
        """What the object asks for, VOI LUT before window; else the range of its values without padding."""
        return self.voi[0] if self.voi else self._range()

    def _range(self) -> Window:
        values = self.pixels
        if self.padding:
            kept = values[(values < self.padding[0]) | (values > self.padding[1])]
            values = kept if kept.size else values
        if values.dtype.kind == "f":
            values = values[np.isfinite(values)]
        ends = np.array([values.min(), values.max()] if values.size else [0, 1], np.float64)
        low, high = sorted(float(end) for end in self.modality.apply(ends))
        if values.dtype.kind == "f":
            return Window((low + high) / 2, max(high - low, 1e-12), "LINEAR_EXACT")
        return full_range(low, high)


def p_values(frame: StoredFrame, voi: Voi | None = None, maximum: int = P_MAX) -> NDArray[np.uint16]:
    """Grayscale P-Values (rows, columns), 0 to maximum; `voi` replaces what the object asks for.

    Raises ValueError for a colour frame: it has no P-Values.
    """
    if frame.is_colour:
        raise ValueError("a colour frame has no grayscale P-Values")
    return gray_values(frame.pixels, frame.modality, voi or frame.default_voi(), frame.is_inverse, maximum)


def picture(frame: StoredFrame, width: int, height: int, voi: Voi | None = None) -> NDArray[np.uint8]:
    """The frame as 8-bit gray (height, width) or RGB (height, width, 3): first the LUT, then the resize."""
    if frame.is_colour:
        return np.asarray(resize(frame.pixels, width, height), np.uint8)
    return (resize(p_values(frame, voi), width, height) // np.uint16(257)).astype(np.uint8)


class ImageFile:
    """The header of one stored file, read once; frames are decoded one at a time and never kept.

    Raises OSError where the file cannot be opened, UndecodableFrameError where it holds no image.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            self.dataset = _read(file)
            self.sop_instance_uid = str(self.dataset.get("SOPInstanceUID") or path.stem)
            self._syntax = _transfer_syntax(self.dataset)
            self._options, self._offset = self._find_pixels(file)
        self.number_of_frames = int(self._options["number_of_frames"])

    def stored_frame(self, frame: int = 1) -> StoredFrame:
        """Decode one frame, counted from 1 (PS3.3 C.7.6.16). Raises UndecodableFrameError, OSError."""
        if not 1 <= frame <= self.number_of_frames:
            raise self._error(f"there is no frame {frame}, only {self.number_of_frames}")
        samples, photometric = self._decode(frame)
        spacing = pixel_spacing(self.dataset, frame)
        aspect = pixel_aspect(self.dataset, spacing)
        if photometric in GRAYSCALE and samples.ndim == 2:
            return _grayscale(self.dataset, frame, samples, photometric == "MONOCHROME1", spacing, aspect)
        if photometric in COLOURS and samples.ndim == 3:
            return StoredFrame(
                samples_to_rgb(samples, int(self.dataset.BitsStored)), spacing=spacing, pixel_aspect=aspect
            )
        if photometric == "PALETTE COLOR" and samples.ndim == 2:
            return StoredFrame(self._coloured(samples), spacing=spacing, pixel_aspect=aspect)
        raise self._error(f"its photometric interpretation {photometric[:16]!r} is not supported")

    def _error(self, reason: str) -> UndecodableFrameError:
        return UndecodableFrameError(f"image {self.sop_instance_uid} cannot be shown: {reason}")

    def _find_pixels(self, file: BinaryIO) -> tuple[dict[str, Any], int]:
        """Decoding options, and where the value of the pixel element starts (0: it is in the data set)."""
        try:
            options = as_pixel_options(self.dataset)
            if self._syntax in DEFLATED:
                return options, 0
            tag, vr = _element_head(file, self.dataset.original_encoding[1] is not False)
        except (AttributeError, KeyError, TypeError, ValueError, struct.error) as error:
            raise self._error("it holds no pixel data") from error
        options["pixel_keyword"] = PIXEL_KEYWORDS[tag]
        if vr:
            options["pixel_vr"] = vr
        return options, file.tell()

    def _decode(self, frame: int) -> tuple[NDArray[Any], str]:
        """Samples (rows, columns[, 3]) and their photometric interpretation after decoding."""
        try:
            decoder = get_decoder(self._syntax)
        except NotImplementedError as error:
            raise self._error(f"its transfer syntax {self._syntax} is not supported") from error
        with self.path.open("rb") as file:
            file.seek(self._offset)
            source = file if self._offset else self.dataset
            try:
                samples, properties = decoder.as_array(source, index=frame - 1, **self._options)
            except Exception as error:  # decoders raise anything on damaged data
                raise self._error(self._reason(error)) from error
        return samples, str(properties["photometric_interpretation"])

    def _reason(self, error: Exception) -> str:
        if isinstance(error, (AttributeError, TypeError)):
            return "its header lacks what describes the pixels"
        if self._syntax.is_encapsulated:
            return f"its compressed pixel data ({self._syntax.name}) cannot be decoded"
        return "its pixel data does not fit what its header says of it"

    def _coloured(self, indices: NDArray[Any]) -> NDArray[np.uint8]:
        try:
            return palette_to_rgb(indices, self.dataset)
        except Exception as error:  # a palette is read from up to six elements, any may be damaged
            raise self._error("its palette cannot be read") from error


def decode_frame(file: Path | ImageFile, frame: int = 1) -> StoredFrame:
    """One decoded frame, counted from 1; give an ImageFile when more frames of the same file follow.

    Raises UndecodableFrameError, or OSError where the file cannot be read.
    """
    return (file if isinstance(file, ImageFile) else ImageFile(file)).stored_frame(frame)


def _read(file: BinaryIO) -> FileDataset:
    """The header, the file standing at the pixel element; a deflated data set is read whole."""
    try:
        dataset = dcmread(file, stop_before_pixels=True, force=True)
        if dataset.file_meta.get("TransferSyntaxUID") in DEFLATED:
            file.seek(0)
            dataset = dcmread(file, force=True)
    except OSError:
        raise
    except Exception as error:  # pydicom raises anything on damaged data
        raise UndecodableFrameError("the file cannot be read as DICOM") from error
    return dataset


def _transfer_syntax(dataset: FileDataset) -> UID:
    """What the file meta says, else what the data set was read with."""
    named = dataset.file_meta.get("TransferSyntaxUID")
    if named:
        return UID(named)
    is_implicit, is_little_endian = dataset.original_encoding
    if not is_little_endian:
        return ExplicitVRBigEndian
    return ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian


def _element_head(file: BinaryIO, is_little_endian: bool) -> tuple[int, str]:
    """Tag and VR ("" when implicit) of the element at the file's position, which moves to its value (PS3.5 7.1).

    Some writers name an explicit transfer syntax and write implicit VR; the element itself tells.
    """
    group, element, vr, _ = struct.unpack("<HH2sH" if is_little_endian else ">HH2sH", file.read(8))
    if not (vr.isalpha() and vr.isupper()):
        return group << 16 | element, ""
    file.seek(4, 1)
    return group << 16 | element, vr.decode("ascii")


def _grayscale(
    dataset: Dataset,
    frame: int,
    samples: NDArray[Any],
    is_inverse: bool,
    spacing: PixelSpacing | None,
    aspect: float,
) -> StoredFrame:
    is_signed = samples.dtype.kind == "i"
    return StoredFrame(
        samples,
        is_inverse,
        read_modality(dataset, frame, is_signed),
        read_voi(dataset, frame, is_signed),
        _padding(dataset),
        spacing,
        aspect,
    )


def _padding(dataset: Dataset) -> tuple[float, float] | None:
    ends = numbers(dataset.get("PixelPaddingValue"))[:1]
    if not ends:
        return None
    ends += numbers(dataset.get("PixelPaddingRangeLimit"))[:1]
    return min(ends), max(ends)
