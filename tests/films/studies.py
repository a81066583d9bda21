"""Studies in the archive of a test: rows by the ORM, files at their place."""

from datetime import date, time
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from apps.archive.models import Instance, Patient, Series, Study
from apps.storage.models import Volume
from tests.dicom import ct_dataset, part10

VIEWER_PERMISSIONS = ("archive.view_study", "archive.view_every_study")


def phantom(size: int = 64, **changes: object) -> Dataset:
    """A CT image with a bright disc on a ramp, 0.5 mm pixels."""
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
    return ct_dataset(**{**values, **changes})


def store_study(
    volume: Volume, series: list[list[Dataset]], patient_id: str = "P1", name: str = "Phantom^Test"
) -> Study:
    """A study of one patient with these series, its files written."""
    first = series[0][0]
    patient, _ = Patient.objects.get_or_create(
        patient_id=patient_id, issuer="TEST", defaults={"name": name, "birth_date": date(1970, 1, 1), "sex": "O"}
    )
    study = Study.objects.create(
        study_instance_uid=first.StudyInstanceUID,
        patient=patient,
        study_date=date(2026, 1, 2),
        study_time=time(10, 11),
        accession_number="A1",
        description="Synthetic study",
        institution="Test hospital",
    )
    for number, datasets in enumerate(series, start=1):
        _store_series(volume, study, number, datasets)
    return study


def _store_series(volume: Volume, study: Study, number: int, datasets: list[Dataset]) -> None:
    row = Series.objects.create(
        series_instance_uid=f"{study.study_instance_uid[:50]}.{number}",
        study=study,
        modality=str(datasets[0].Modality),
        series_number=number,
        instance_count=len(datasets),
    )
    for at, dataset in enumerate(datasets, start=1):
        dataset.SeriesNumber, dataset.InstanceNumber = number, at
        instance = Instance.objects.create(
            sop_instance_uid=dataset.SOPInstanceUID,
            sop_class_uid=dataset.SOPClassUID,
            transfer_syntax_uid=dataset.file_meta.TransferSyntaxUID,
            series=row,
            instance_number=at,
            rows=dataset.get("Rows"),
            columns=dataset.get("Columns"),
            number_of_frames=int(dataset.get("NumberOfFrames", 1)),
            volume=volume,
            file_sha256=b"0" * 32,
            dataset_sha256=b"0" * 32,
            size_bytes=1,
        )
        path: Path = instance.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(part10(dataset))
