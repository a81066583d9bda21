"""Synthetic data sets, small and valid enough to be stored."""

from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from apps.storage.part10 import part10_head


def ct_dataset(**changes: object) -> Dataset:
    """A CT image of 8 x 8 pixels with fresh UIDs; keyword arguments replace elements, None removes one."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.StudyDate, dataset.StudyTime = "20260102", "101112"
    dataset.AccessionNumber, dataset.Modality = "A1", "CT"
    dataset.StudyDescription, dataset.SeriesDescription = "Synthetic study", "Synthetic series"
    dataset.ReferringPhysicianName = "Demo^Referrer"
    dataset.PatientName, dataset.PatientID, dataset.IssuerOfPatientID = "Phantom^Test", "P1", "TEST"
    dataset.PatientBirthDate, dataset.PatientSex = "19700101", "O"
    dataset.StudyID, dataset.SeriesNumber, dataset.InstanceNumber = "1", 1, 1
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows = dataset.Columns = 8
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PixelData = np.arange(64, dtype="<u2").tobytes()
    for keyword, value in changes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


def series_of(count: int, **changes: object) -> list[Dataset]:
    """`count` CT images of one series."""
    study, series = generate_uid(), generate_uid()
    common = {"StudyInstanceUID": study, "SeriesInstanceUID": series, **changes}
    return [ct_dataset(InstanceNumber=number + 1, **common) for number in range(count)]


def encode(dataset: Dataset, *, implicit: bool = False) -> bytes:
    """The data set's bytes as they travel, little endian."""
    from pydicom.filebase import DicomFileLike
    from pydicom.filewriter import write_dataset

    buffer = DicomFileLike(BytesIO())
    buffer.is_little_endian, buffer.is_implicit_VR = True, implicit
    write_dataset(buffer, dataset)
    return buffer.parent.getvalue()


def part10(dataset: Dataset, calling: str = "SENDER") -> bytes:
    """The file that the receiver would write."""
    head = part10_head(
        str(dataset.SOPClassUID), str(dataset.SOPInstanceUID), str(ExplicitVRLittleEndian), calling, "DICOMSYS"
    )
    return head + encode(dataset)


def write_part10(folder: Path, dataset: Dataset) -> Path:
    """The file on disk."""
    path = folder / f"{dataset.SOPInstanceUID}.dcm"
    path.write_bytes(part10(dataset))
    return path
