"""Lots of studies to send: synthetic CT images of any size, with fresh UIDs each time and no pydicom in the loop."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from tests.dicom import ct_dataset, encode, part10

UID_LENGTH = 42  # of even length, so that no padding is needed
ROOT = "2.25."
SMALL, CT, COMPRESSED = (46, 48), (512, 512), (256, 256)  # 5 kB, 512 x 512 x 16, 128 kB


def fresh_uid() -> str:
    """A new UID, always of the same length."""
    return ROOT + str(10**36 + secrets.randbelow(9 * 10**36))


@dataclass(frozen=True)
class Lot:
    """Studies as folders of Part 10 files, and which instances each of them has."""

    folders: list[Path]
    instances: dict[str, list[str]]

    @property
    def count(self) -> int:
        """How many instances."""
        return sum(map(len, self.instances.values()))

    @property
    def sop_instance_uids(self) -> set[str]:
        """Of all studies."""
        return {uid for uids in self.instances.values() for uid in uids}


class Template:
    """One encoded CT image whose UIDs and number are replaced byte by byte."""

    def __init__(self, shape: tuple[int, int], patient_id: str = "BENCH") -> None:
        self._uids = [fresh_uid() for _ in range(3)]
        pixels = np.random.default_rng(1).normal(1000, 60, shape).clip(0, 4095).astype("<u2")
        self._dataset = ct_dataset(
            **dict(zip(("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"), self._uids, strict=True)),
            Rows=shape[0],
            Columns=shape[1],
            PixelData=pixels.tobytes(),
            PatientID=patient_id,
            InstanceNumber=1000,
        )
        self._file, self._bare = part10(self._dataset), encode(self._dataset)

    def file(self, study_uid: str, series_uid: str, sop_uid: str, number: int = 1) -> bytes:
        """A whole Part 10 file."""
        return self._replaced(self._file, (study_uid, series_uid, sop_uid), number)

    def data_set(self, study_uid: str, series_uid: str, sop_uid: str, number: int = 1) -> bytes:
        """What travels, explicit VR little endian."""
        return self._replaced(self._bare, (study_uid, series_uid, sop_uid), number)

    def _replaced(self, content: bytes, uids: Sequence[str], number: int) -> bytes:
        head, tail = content[: -self._pixel_bytes], content[-self._pixel_bytes :]
        for old, new in zip(self._uids, uids, strict=True):
            head = head.replace(old.encode(), new.encode())
        return head.replace(b"IS\x04\x001000", b"IS\x04\x00%04d" % number) + tail

    @property
    def _pixel_bytes(self) -> int:
        return len(self._dataset.PixelData)


SOP_CLASS_UID, TRANSFER_SYNTAX_UID = str(CTImageStorage), str(ExplicitVRLittleEndian)


def write_lot(folder: Path, template: Template, studies: int, instances: int) -> Lot:
    """Write so many studies of so many instances each, one folder a study."""
    lot = Lot([], {})
    for number in range(studies):
        study_uid, series_uid = fresh_uid(), fresh_uid()
        lot.folders.append(folder / f"{number:05}")
        lot.folders[-1].mkdir(parents=True)
        lot.instances[study_uid] = [fresh_uid() for _ in range(instances)]
        for at, sop_uid in enumerate(lot.instances[study_uid]):
            path = lot.folders[-1] / f"{at:06}.dcm"
            path.write_bytes(template.file(study_uid, series_uid, sop_uid, at + 1))
    return lot
