"""Radiographs of the demonstration: a chest (Digital X-Ray, PS3.3 A.26) and a hand (Computed Radiography, A.2)."""

from collections.abc import Iterator
from datetime import date, time

import cv2
import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr import codes
from pydicom.sr.coding import Code
from pydicom.uid import ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation

from . import chest, hand, subjects
from .drawing import Image, blurred, noise
from .record import Series, Study, new_instance, set_pixels

WHITE = 4095  # 12 bits


def chest_study(today: date) -> Iterator[Dataset]:
    """A frontal chest, MONOCHROME1: the highest stored value is black, as on film exposed to the full beam."""
    study = Study(subjects.CHEST, "dx-chest", "Chest PA", today, 0, time(1, 25))
    series = Series(study, 1, "DX", DigitalXRayImageStorageForPresentation, "Chest PA", "CHEST")
    dataset = new_instance(series, 1)
    _describe_exposure(dataset, "PA", 125, 1800, chest.MM_PER_PX)
    _describe_digital_x_ray(dataset)
    set_pixels(dataset, (WHITE - chest_brightness()).astype(np.uint16), 12, "MONOCHROME1")
    dataset.PresentationLUTShape = "INVERSE"
    yield dataset


def hand_study(today: date) -> Iterator[Dataset]:
    """A right hand, MONOCHROME2."""
    study = Study(subjects.HAND, "cr-hand", "Right hand PA", today, 4, time(16, 48))
    series = Series(study, 1, "CR", ComputedRadiographyImageStorage, "Hand PA", "HAND")
    dataset = new_instance(series, 1)
    _describe_exposure(dataset, "PA", 50, 1000, hand.MM_PER_PX)
    dataset.Laterality = "R"
    dataset.PatientOrientation = ["L", "H"]
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.WindowCenter, dataset.WindowWidth = 1900, 3700
    set_pixels(dataset, hand_brightness().astype(np.uint16), 12)
    yield dataset


def chest_brightness() -> Image:
    """0 (dark) to 4095 (bright), with the differences of the large parts reduced as detectors do it."""
    weakening = chest.chest_attenuation()
    even = weakening - 0.5 * blurred(weakening, 170)
    bright = np.interp(even, [-0.75, -0.2, 0.2, 0.9, 1.9, 2.9], [30, 260, 700, 1500, 2900, 3900]).astype(np.float32)
    bright += (18 + 0.008 * bright) * noise(bright.shape, 1.4, 910)
    bright[weakening < 0.02] = 20
    _stamp(bright, "L", (1600, 190), 5.0)
    return np.clip(np.rint(bright), 0, WHITE)


def hand_brightness() -> Image:
    """0 (dark) to 4095 (bright)."""
    weakening = hand.hand_attenuation()
    bright = np.interp(weakening, [0, 0.05, 0.7, 1.4, 2.2], [90, 200, 1450, 2850, 3950]).astype(np.float32)
    bright += (22 + 0.008 * bright) * noise(bright.shape, 1.4, 911)
    _stamp(bright, "R", (60, 1180), 4.0)
    return np.clip(np.rint(bright), 0, WHITE)


def _stamp(bright: Image, letter: str, corner: tuple[int, int], size: float) -> None:
    """The lead letter that marks the side."""
    layer = np.zeros(bright.shape, np.uint8)
    cv2.putText(layer, letter, corner, cv2.FONT_HERSHEY_SIMPLEX, size, 255, round(3.4 * size), cv2.LINE_AA)
    share = blurred(layer.astype(np.float32), 1.0) / 255
    bright += share * (WHITE - 150 - bright)


def _describe_exposure(dataset: Dataset, view: str, kvp: int, distance_mm: int, mm_per_px: float) -> None:
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.ViewPosition = view
    dataset.KVP = kvp
    dataset.DistanceSourceToDetector = distance_mm
    dataset.ExposureTime, dataset.XRayTubeCurrent, dataset.Exposure = 12, 250, 3
    dataset.ImagerPixelSpacing = [mm_per_px, mm_per_px]
    dataset.BurnedInAnnotation = "NO"


def _describe_digital_x_ray(dataset: Dataset) -> None:
    """DX Series, Anatomy, Image, Detector and Positioning Modules (PS3.3 C.8.11.1 to C.8.11.5)."""
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", ""]
    dataset.PatientOrientation = ["L", "F"]
    dataset.ImageLaterality = "U"
    dataset.AnatomicRegionSequence = [_coded(codes.SCT.Chest)]
    dataset.ViewCodeSequence = [_coded(codes.CID4010.PosteroAnterior)]
    dataset.ViewCodeSequence[0].ViewModifierCodeSequence = []
    dataset.PositionerType = "NONE"
    dataset.AcquisitionContextSequence = []
    dataset.PixelIntensityRelationship, dataset.PixelIntensityRelationshipSign = "LOG", 1
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "US"
    dataset.LossyImageCompression = "00"
    dataset.DetectorType = "SCINTILLATOR"
    dataset.AcquisitionDeviceProcessingDescription = ""
    dataset.WindowCenter, dataset.WindowWidth = [2048, 2500], [4096, 3200]
    dataset.WindowCenterWidthExplanation = ["NORMAL", "LUNG"]


def _coded(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item
