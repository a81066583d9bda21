"""Every real grayscale file, drawn by DCMTK and by us, pixel by pixel."""

import csv
import os
import shutil
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from apps.core.errors import PermanentError
from apps.rendering.frame import StoredFrame, decode_frame, p_values
from apps.rendering.voi import Rescale, Window, eight_bits
from tests.rendering.images import image, write

DATA = os.environ.get("DICOMSYS_TEST_DATA", "")
TOOLS = {"1.2.840.10008.1.2.4.8": "dcml2pnm", "1.2.840.10008.1.2.4.5": "dcmj2pnm", "1.2.840.10008.1.2.4.7": "dcmj2pnm"}
LOSSY_OR_UNKNOWN_TO_DCMTK = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.9")
# By how much a sample may differ: the conversion from YBR is rounded in different places
COLOUR_KINDS = {"RGB": 0, "PALETTE COLOR": 0, "YBR_FULL": 2, "YBR_FULL_422": 1}
pytestmark = pytest.mark.skipif(not shutil.which("dcm2pnm"), reason="dcm2pnm is missing: apt-get install dcmtk")


def dcmtk(path: Path, syntax: str, *options: str) -> np.ndarray | None:
    """The first frame as DCMTK shows it, (rows, columns) of 8 bits; None where DCMTK cannot."""
    tool = next((tool for prefix, tool in TOOLS.items() if syntax.startswith(prefix)), "dcm2pnm")
    output = subprocess.run([tool, "-q", "-O", "+op", *options, str(path)], capture_output=True).stdout
    words, at = [], 0
    while len(words) < 4 and at < len(output):
        end = next((i for i in range(at, len(output)) if output[i : i + 1].isspace()), len(output))
        if output[at : at + 1] == b"#":
            end = output.index(b"\n", at)
        elif end > at:
            words.append(output[at:end])
        at = end + 1
    if len(words) < 4 or words[0] != b"P5":
        return None
    columns, rows = int(words[1]), int(words[2])
    return np.frombuffer(output, np.uint8, offset=at)[: rows * columns].reshape(rows, columns)


def window_options(window: Window) -> list[str]:
    function = ["+Wfs"] if window.function == "SIGMOID" else ["+Wfl"]
    return [*function, "+Ww", repr(window.center), repr(window.width)]


def exact(stored: int, frame: StoredFrame, window: Window) -> Fraction:
    """255 y of a LINEAR window, without rounding."""
    x = stored * Fraction(frame.modality.slope) + Fraction(frame.modality.intercept)
    y = (x - (Fraction(window.center) - Fraction(1, 2))) / (Fraction(window.width) - 1) + Fraction(1, 2)
    return 255 * (1 - y if frame.is_inverse else y)


def differences(path: Path, syntax: str, frame: StoredFrame, window: Window) -> list[str]:
    """Where the pictures differ, apart from whole numbers of which DCMTK's arithmetic loses the last bit."""
    theirs = dcmtk(path, syntax, *window_options(window))
    if theirs is None:
        return []
    ours = eight_bits(p_values(frame, window))
    if ours.shape != theirs.shape:
        return [f"{path.name}: {ours.shape} is not {theirs.shape}"]
    pairs = set(zip(*(part[ours != theirs].tolist() for part in (frame.pixels, ours, theirs)), strict=True))
    return [
        f"{path.name} {window}: stored {stored} gives {our}, not {their}"
        for stored, our, their in pairs
        if window.function == "SIGMOID" or exact(stored, frame, window) != our or their != our - 1
    ]


def is_comparable(row: dict[str, str], frame: StoredFrame) -> bool:
    """DCMTK cuts the output of a rescale to whole numbers, and reads 32 bits of big endian in another order."""
    is_whole = isinstance(frame.modality, Rescale) and frame.modality.slope % 1 == frame.modality.intercept % 1 == 0
    is_big = row["bits"].startswith("32") and row["transfer_syntax"].startswith("1.2.840.10008.1.2.2 ")
    return is_whole and not frame.is_colour and frame.pixels.dtype.kind in "iu" and not is_big


def compare(row: dict[str, str]) -> tuple[str, list[str]]:
    path, syntax = Path(DATA) / row["path"], row["transfer_syntax"].split(" ")[0]
    if syntax.startswith(LOSSY_OR_UNKNOWN_TO_DCMTK) or row["broken"] == "yes":
        return "left out", []
    try:
        frame = decode_frame(path)
    except PermanentError:
        return "not decodable", []
    if not is_comparable(row, frame):
        return "left out", []
    own = next((voi for voi in frame.voi if isinstance(voi, Window) and voi.width >= 2), frame._range())
    linear, sigmoid = Window(own.center, own.width), Window(own.center, own.width, "SIGMOID")
    return "compared", differences(path, syntax, frame, linear) + differences(path, syntax, frame, sigmoid)


@pytest.mark.skipif(not DATA, reason="DICOMSYS_TEST_DATA is not set: real files are needed")
def test_windows_of_real_files_are_drawn_bit_by_bit_as_dcmtk_draws_them():
    with (Path(DATA) / "MANIFEST.csv").open() as manifest:
        rows = [row for row in csv.DictReader(manifest) if row["photometric"].startswith("MONOCHROME")]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(compare, rows))
    assert [text for _, texts in results for text in texts] == []
    assert Counter(kind for kind, _ in results)["compared"] > 350


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("function", ["LINEAR", "SIGMOID"])
@pytest.mark.parametrize("window", [(40, 400), (-600.5, 1500), (100, 2), (0, 4000)])
def test_windows_are_drawn_bit_by_bit_as_dcmtk_draws_them(tmp_path, photometric, function, window):
    stored = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    dataset = image(stored, PhotometricInterpretation=photometric, RescaleSlope=1, RescaleIntercept=-1024)
    path = write(tmp_path, dataset)
    asked = Window(*map(float, window), function)
    assert dcmtk(path, "", *window_options(asked)) is not None
    assert differences(path, "", decode_frame(path), asked) == []


def dcmtk_colour(path: Path, syntax: str) -> np.ndarray | None:
    """The first frame as RGB; None where DCMTK cannot."""
    tool = next((tool for prefix, tool in TOOLS.items() if syntax.startswith(prefix)), "dcm2pnm")
    output = subprocess.run([tool, "-q", "-O", "+op", str(path)], capture_output=True).stdout
    return np.asarray(Image.open(BytesIO(output)).convert("RGB")) if output.startswith(b"P6") else None


@pytest.mark.skipif(not DATA, reason="DICOMSYS_TEST_DATA is not set: real files are needed")
def test_colours_of_real_files_are_those_of_dcmtk():
    compared = 0
    with (Path(DATA) / "MANIFEST.csv").open() as manifest:
        rows = [
            row for row in csv.DictReader(manifest) if row["photometric"] in COLOUR_KINDS and row["broken"] != "yes"
        ]
    for row in rows:
        path, syntax = Path(DATA) / row["path"], row["transfer_syntax"].split(" ")[0]
        theirs = None if syntax.startswith("1.2.840.10008.1.2.4.9") else dcmtk_colour(path, syntax)
        if theirs is not None:
            worst = np.abs(decode_frame(path).pixels.astype(int) - theirs).max()
            assert worst <= COLOUR_KINDS[row["photometric"]], row["path"]
            compared += 1
    assert compared > 40
