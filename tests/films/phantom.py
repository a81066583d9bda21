"""An image to put on film."""

import numpy as np
from pydicom.dataset import Dataset

from tests.dicom import ct_dataset


def phantom(size: int = 64, **changes: object) -> Dataset:
    """A CT image of a bright disc on a ramp, 0.5 mm pixels, window 40/400; None leaves an element out."""
    y, x = np.mgrid[:size, :size]
    pixels = (x * 4 + 900).astype("<u2")
    pixels[(y - size // 2) ** 2 + (x - size // 2) ** 2 < (size // 4) ** 2] = 1500
    values = {
        "Rows": size,
        "Columns": size,
        "PixelData": pixels.tobytes(),
        "PixelSpacing": [0.5, 0.5],
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "WindowCenter": 40,
        "WindowWidth": 400,
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": [0, 0, 0],
    }
    return ct_dataset(**{name: value for name, value in {**values, **changes}.items() if value is not None})
