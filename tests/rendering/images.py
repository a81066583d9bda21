"""Data sets for rendering, written as files."""

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from apps.rendering.frame import ImageFile
from tests.dicom import ct_dataset

KINDS = {"u": 0, "i": 1}


def image(pixels: np.ndarray, **changes: object) -> Dataset:
    """A data set with these stored values: (rows, columns[, 3]) of 8 or 16 bits; keywords as in `ct_dataset`."""
    bits = pixels.dtype.itemsize * 8
    is_colour = pixels.ndim == 3
    values = {
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "SamplesPerPixel": 3 if is_colour else 1,
        "PhotometricInterpretation": "RGB" if is_colour else "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": KINDS[pixels.dtype.kind],
        "PixelData": pixels.astype(pixels.dtype.newbyteorder("<")).tobytes(),
    }
    if is_colour:
        values["PlanarConfiguration"] = 0
    return ct_dataset(**{**values, **changes})


def write(folder: Path, dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> Path:
    """The data set as a Part 10 file."""
    path = folder / f"{generate_uid()}.dcm"
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)
    return path


def opened(folder: Path, dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> ImageFile:
    """The file, opened."""
    return ImageFile(write(folder, dataset, syntax))
