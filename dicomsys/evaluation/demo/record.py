"""Data sets of the demonstration: what every instance says besides its picture."""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from uuid import NAMESPACE_OID, uuid5

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, RLELossless

from .subjects import Subject

_SEED = "dicomsys demonstration 1"


@dataclass(frozen=True)
class Study:
    """One examination; `today` enters every UID, so that the data of another day are other studies."""

    subject: Subject
    key: str
    description: str
    today: date
    days_ago: int
    at: time

    def uid(self, *parts: object) -> UID:
        """A UID below 2.25 (PS3.5 B.2), always the same for the same day and parts."""
        name = "/".join(str(part) for part in (_SEED, self.today.isoformat(), self.key, *parts))
        return UID(f"2.25.{uuid5(NAMESPACE_OID, name).int}")

    @property
    def started(self) -> datetime:
        """When the examination began, in local time."""
        return datetime.combine(self.today - timedelta(days=self.days_ago), self.at)

    @property
    def accession_number(self) -> str:
        """At most 16 characters: day and patient."""
        return f"D{self.started:%y%m%d}{self.subject.patient_id[-4:]}"


@dataclass(frozen=True)
class Series:
    """One series of a study: everything its instances share."""

    study: Study
    number: int
    modality: str
    sop_class_uid: UID
    description: str
    body_part: str
    transfer_syntax_uid: UID = ExplicitVRLittleEndian

    @property
    def started(self) -> datetime:
        """Three minutes after the series before."""
        return self.study.started + timedelta(minutes=3 * self.number)

    @property
    def frame_of_reference_uid(self) -> UID:
        """Shared by all series of a study: the phantom lies still."""
        return self.study.uid("frame of reference")


def new_instance(series: Series, number: int) -> Dataset:
    """A data set without picture: Patient, Study, Series, Equipment and SOP Common Modules (PS3.3 C.7.1 to C.12.1)."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = series.transfer_syntax_uid
    _set_character_set(dataset, series.study.subject)
    dataset.SOPClassUID = series.sop_class_uid
    dataset.SOPInstanceUID = series.study.uid(series.number, number)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    _describe_patient(dataset, series.study)
    _describe_study(dataset, series.study)
    _describe_series(dataset, series)
    taken = series.started + timedelta(seconds=number)
    dataset.InstanceNumber = number
    dataset.AcquisitionNumber = 1
    dataset.InstanceCreationDate = dataset.AcquisitionDate = dataset.ContentDate = f"{taken:%Y%m%d}"
    dataset.InstanceCreationTime = dataset.AcquisitionTime = dataset.ContentTime = f"{taken:%H%M%S}"
    return dataset


def _set_character_set(dataset: Dataset, subject: Subject) -> None:
    if subject.character_set:
        several = isinstance(subject.character_set, tuple)
        dataset.SpecificCharacterSet = list(subject.character_set) if several else subject.character_set


def _describe_patient(dataset: Dataset, study: Study) -> None:
    subject = study.subject
    dataset.PatientName = subject.name
    dataset.PatientID = subject.patient_id
    dataset.IssuerOfPatientID = "DEMO"
    dataset.PatientBirthDate = f"{subject.born:%Y%m%d}"
    dataset.PatientSex = subject.sex
    dataset.PatientAge = subject.age_on(study.started.date())
    dataset.PatientComments = "Drawn by a program for demonstration; not a person"


def _describe_study(dataset: Dataset, study: Study) -> None:
    dataset.StudyInstanceUID = study.uid()
    dataset.StudyID = study.subject.patient_id[-4:]
    dataset.StudyDescription = study.description
    dataset.StudyDate, dataset.StudyTime = f"{study.started:%Y%m%d}", f"{study.started:%H%M%S}"
    dataset.AccessionNumber = study.accession_number
    dataset.ReferringPhysicianName = "Demo^Referrer"


def _describe_series(dataset: Dataset, series: Series) -> None:
    dataset.Modality = series.modality
    dataset.SeriesInstanceUID = series.study.uid(series.number)
    dataset.SeriesNumber = series.number
    dataset.SeriesDescription = series.description
    dataset.SeriesDate, dataset.SeriesTime = f"{series.started:%Y%m%d}", f"{series.started:%H%M%S}"
    if series.body_part:
        dataset.BodyPartExamined = series.body_part
    dataset.Manufacturer = "Demonstration"
    dataset.ManufacturerModelName = "Phantom"
    dataset.InstitutionName = "Demonstration"
    dataset.StationName = f"DEMO-{series.modality}"
    dataset.DeviceSerialNumber = "1"
    dataset.SoftwareVersions = "1"


def place(dataset: Dataset, series: Series, first_mm: tuple[float, float, float], axes: tuple[int, ...]) -> None:
    """Image Plane and Frame of Reference Modules (PS3.3 C.7.6.2, C.7.4.1); `axes`: direction of rows, then columns."""
    dataset.FrameOfReferenceUID = series.frame_of_reference_uid
    dataset.PositionReferenceIndicator = ""
    dataset.PatientPosition = "HFS"
    dataset.ImagePositionPatient = [f"{value:.4f}" for value in first_mm]
    dataset.ImageOrientationPatient = list(axes)


def set_pixels(
    dataset: Dataset, pixels: NDArray[np.generic], bits_stored: int, photometric: str = "MONOCHROME2"
) -> None:
    """Image Pixel Module (PS3.3 C.7.6.3) from an array (rows, columns), (frames, rows, columns, 3) or like it."""
    colour = photometric == "RGB"
    dataset.SamplesPerPixel = 3 if colour else 1
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = photometric
    dataset.Rows, dataset.Columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    dataset.BitsAllocated = 8 * pixels.dtype.itemsize
    dataset.BitsStored, dataset.HighBit = bits_stored, bits_stored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    dataset["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    if dataset.file_meta.TransferSyntaxUID == RLELossless:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian  # as it is until now
        dataset.compress(RLELossless, encoding_plugin="pylibjpeg", generate_instance_uid=False)
