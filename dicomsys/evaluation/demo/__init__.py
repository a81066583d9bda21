"""Demonstration studies: phantoms drawn by the program, so that a new system has something to show and to print."""

from collections.abc import Iterator
from datetime import date, datetime

from pydicom.dataset import Dataset

from . import capture, ct, mr, radiograph, ultrasound

__all__ = ["demonstration_studies"]

_STUDIES = (
    radiograph.chest_study,
    ct.torso_studies,
    mr.brain_study,
    ultrasound.abdomen_study,
    radiograph.hand_study,
    mr.spine_study,
    ct.head_study,
    ultrasound.thyroid_study,
    capture.pattern_study,
)


def demonstration_studies(today: date | None = None) -> Iterator[Dataset]:
    """Ten studies of nine phantoms, about 59 MB, with their file meta information; one data set at a time.

    For the same `today` (default: the current day) they are equal byte for byte, so that sending them again gives
    duplicates; another day gives other UIDs.
    """
    day = today or datetime.now().astimezone().date()
    for study in _STUDIES:
        yield from study(day)
