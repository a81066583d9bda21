"""Synthetic images for the film benchmarks, and DCMTK as the peer."""

import subprocess
from pathlib import Path

import numpy as np
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from apps.films.geometry import Profile, film_mm, profile_of
from apps.films.recipe import Header, Recipe, RecipeCell
from tests.dicom import ct_dataset

HEADER = Header(
    "Phantom, Test (模型)", "P1", "1970-01-01", "O", "2026-01-02", "10:11", "CT abdomen", "A1", "Test hospital"
)
FILM, COLUMNS, ROWS = "14INX17IN", 4, 5


def write_ct(folder: Path, count: int) -> list[Path]:
    """CT images of 512 x 512 x 16 bits: a noisy body with organs, window 40/400."""
    rng, paths = np.random.default_rng(1), []
    y, x = np.mgrid[-1:1:512j, -1:1:512j]
    body = np.where((x / 0.8) ** 2 + (y / 0.6) ** 2 < 1, 1060, 24)
    uids = {"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid()}
    for number in range(count):
        organ = np.where((x - 0.3 * np.sin(number)) ** 2 + y**2 < 0.05, 120, 0)
        pixels = np.clip(body + organ + rng.normal(0, 12, body.shape), 0, 4095).astype("<u2")
        paths.append(_write(folder / f"{number:04}.dcm", pixels, InstanceNumber=number + 1, **uids))
    return paths


def write_radiograph(folder: Path) -> Path:
    """A DX image of 4280 x 3520."""
    noise = np.random.default_rng(2).normal(2000, 300, (3520, 4280))
    return _write(folder / "dx.dcm", np.clip(noise, 0, 4095).astype("<u2"), Modality="DX")


def sheet(count: int, dpi: int, columns: int = COLUMNS, rows: int = ROWS) -> tuple[Recipe, Profile]:
    """A sheet with everything on it, its images named "0", "1" and so on."""
    width_mm, height_mm = film_mm(FILM, "PORTRAIT")
    cells = tuple(RecipeCell(at + 1, str(at)) for at in range(count))
    recipe = Recipe(width_mm, height_mm, columns, rows, made_at="2026-01-02 10:11", header=HEADER, cells=cells)
    return recipe, profile_of(width_mm, height_mm, dpi, colour=False)


def dcm2pnm(paths: list[Path], width_px: int) -> None:
    """Each image windowed and scaled to this width by DCMTK, one process an image."""
    options = ["-q", "+Wi", "1", "+i", "1", "+Sxv", str(width_px)]
    for path in paths:
        subprocess.run(["dcm2pnm", *options, str(path), "/dev/null"], check=True)


def _write(path: Path, pixels: np.ndarray, **changes: object) -> Path:
    dataset = ct_dataset(
        Rows=pixels.shape[0],
        Columns=pixels.shape[1],
        PixelData=pixels.tobytes(),
        PixelSpacing=[0.7, 0.7],
        SliceLocation=-120.5,
        RescaleSlope=1,
        RescaleIntercept=-1024,
        WindowCenter=40,
        WindowWidth=400,
        **changes,
    )
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)
    return path
