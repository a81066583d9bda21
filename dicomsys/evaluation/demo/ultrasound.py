"""Ultrasound of the demonstration (PS3.3 A.6, A.7): a cine loop with colour Doppler and two pictures of a neck."""

from collections.abc import Iterator
from datetime import date, time

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import UltrasoundImageStorage, UltrasoundMultiFrameImageStorage

from . import echo, subjects
from .drawing import Canvas, Image, noise, sampled
from .record import Series, Study, new_instance, set_pixels

WIDTH, HEIGHT = 640, 480
FRAMES, FRAME_TIME_MS = 14, 66.0
_MM_PER_PX = {"abdomen": 0.37, "thyroid": 0.108}
_CENTIMETRES, _TISSUE, _COLOUR_FLOW = 3, 1, 2  # PS3.3 C.8.5.5.1
_BOX_DEG, _BOX_MM = (-22.0, 15.0), (52.0, 112.0)  # where flow is coloured
_INK = (205, 205, 205)

Picture = NDArray[np.uint8]


def abdomen_study(today: date) -> Iterator[Dataset]:
    """One breath and heart beat of a liver with its vessels in colour, RGB."""
    study = Study(subjects.ABDOMEN, "us-abdomen", "Ultrasound abdomen", today, 1, time(8, 50))
    series = Series(study, 1, "US", UltrasoundMultiFrameImageStorage, "Liver, colour Doppler", "ABDOMEN")
    dataset = _new_image(series, 1, "ABDOMINAL", "0011")
    dataset.NumberOfFrames = FRAMES
    dataset.FrameTime = FRAME_TIME_MS
    dataset.FrameIncrementPointer = Tag("FrameTime")
    dataset.CineRate = dataset.RecommendedDisplayFrameRate = round(1000 / FRAME_TIME_MS)
    dataset.HeartRate = 65
    dataset.UltrasoundColorDataPresent = 1
    left, top, right, bottom = box_corners_px()
    dataset.SequenceOfUltrasoundRegions = [
        _region(_TISSUE, (30, 37, 609, 459), _MM_PER_PX["abdomen"]),
        _region(_COLOUR_FLOW, (left, top, right, bottom), _MM_PER_PX["abdomen"]),
    ]
    set_pixels(dataset, abdomen_frames(), 8, "RGB")
    yield dataset


def thyroid_study(today: date) -> Iterator[Dataset]:
    """A neck across, without and with a measurement, 8 bits grey."""
    study = Study(subjects.THYROID, "us-thyroid", "Ultrasound thyroid", today, 2, time(11, 30))
    series = Series(study, 1, "US", UltrasoundImageStorage, "Thyroid, transverse", "THYROID")
    plain = thyroid_picture()
    for number, picture in enumerate((plain, _measured(plain)), 1):
        dataset = _new_image(series, number, "SMALL PARTS", "0001")
        dataset.SequenceOfUltrasoundRegions = [_region(_TISSUE, (47, 55, 592, 425), _MM_PER_PX["thyroid"])]
        set_pixels(dataset, picture, 8)
        yield dataset


def abdomen_frames() -> Picture:
    """The loop, (frames, 480, 640, 3); its last frame leads into its first."""
    scene, probe = echo.abdomen(), echo.Probe(radius_mm=50, span=33, depth_mm=150)
    to_raster = _raster(probe, _MM_PER_PX["abdomen"])
    frame_of = _furniture(probe, _MM_PER_PX["abdomen"])
    inside = _inside(probe, to_raster)
    frames = np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    for i in range(FRAMES):
        phase = 2 * np.pi * i / FRAMES
        shift = (0.7 * np.cos(phase), 1.6 * np.sin(phase))
        gray = sampled(echo.scan(scene, probe, shift), *to_raster)
        speed = sampled(echo.flow_at(scene, probe, shift), *to_raster)
        pulse = 0.62 + 0.38 * max(0.0, np.sin(phase + 0.6)) ** 2
        frames[i] = _coloured(gray * inside, speed * pulse, _in_box(probe, to_raster), i)
        frames[i] = np.maximum(frames[i], frame_of)
    return frames


def thyroid_picture() -> Picture:
    """(480, 640), brightness."""
    scene, probe = echo.thyroid(), echo.Probe(radius_mm=0, span=29.5, depth_mm=40, lines=420, samples=560)
    to_raster = _raster(probe, _MM_PER_PX["thyroid"])
    gray = sampled(echo.scan(scene, probe), *to_raster) * _inside(probe, to_raster)
    return np.maximum(gray.astype(np.uint8), _furniture(probe, _MM_PER_PX["thyroid"])[..., 0])


def _raster(probe: echo.Probe, mm_per_px: float) -> tuple[Image, Image]:
    x, y = Canvas(WIDTH, HEIGHT, mm_per_px, 0, (0, probe.depth_mm / 2)).grid_mm()
    return probe.raster_maps(x, y)


def _inside(probe: echo.Probe, to_raster: tuple[Image, Image]) -> NDArray[np.bool_]:
    line, sample = to_raster
    return (line >= 0) & (line <= probe.lines - 1) & (sample >= 0) & (sample <= probe.samples - 1)


def _in_box(probe: echo.Probe, to_raster: tuple[Image, Image]) -> NDArray[np.bool_]:
    line, sample = to_raster
    angle = (2 * line / (probe.lines - 1) - 1) * probe.span
    depth = sample / (probe.samples - 1) * probe.depth_mm
    return (angle > _BOX_DEG[0]) & (angle < _BOX_DEG[1]) & (depth > _BOX_MM[0]) & (depth < _BOX_MM[1])


def box_corners_px() -> tuple[int, int, int, int]:
    """The rectangle round the colour box: first column and row, last column and row."""
    probe = echo.Probe(radius_mm=50, span=33, depth_mm=150)
    rows, columns = np.nonzero(_in_box(probe, _raster(probe, _MM_PER_PX["abdomen"])))
    return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())


def _coloured(gray: Image, speed: Image, box: NDArray[np.bool_], frame: int) -> Picture:
    """Grey tissue, with red to yellow for flow to the probe and blue to cyan for flow away from it."""
    speed = speed * (1 + 0.22 * noise(speed.shape, 5, 760 + frame))
    picture = np.repeat(np.clip(gray, 0, 255)[..., None], 3, axis=2)
    shown = box & (np.abs(speed) > 0.16) & (gray < 120)
    picture[shown] = _flow_colours(speed[shown])
    edge = box & ~np.asarray(cv2.erode(box.astype(np.uint8), np.ones((3, 3), np.uint8))).astype(bool)
    picture[edge] = (90, 200, 90)
    return picture.astype(np.uint8)


def _flow_colours(speed: Image) -> Image:
    strength = np.clip(np.abs(speed), 0, 1)
    main, second = 90 + 165 * np.minimum(1.4 * strength, 1), 255 * np.maximum(strength - 0.45, 0) / 0.55
    nothing = np.zeros_like(main)
    to_probe, away = np.stack([main, second, nothing], -1), np.stack([nothing, second, main], -1)
    return np.where((speed > 0)[..., None], to_probe, away).astype(np.float32)


# --- What the scanner writes around the picture


def _furniture(probe: echo.Probe, mm_per_px: float) -> Picture:
    """Scale of depth, grey and colour bars, settings: (480, 640, 3)."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    first_row = (HEIGHT - 1) / 2 - probe.depth_mm / 2 / mm_per_px
    step_mm = 10 if probe.radius_mm else 5
    for i, depth in enumerate(np.arange(0, probe.depth_mm + 0.1, step_mm)):
        row = round(first_row + depth / mm_per_px)
        long = 8 if i % 5 == 0 else 4
        cv2.line(picture, (WIDTH - 12 - long, row), (WIDTH - 12, row), _INK, 1)
        if i % 5 == 0 and i:
            _write(picture, f"{depth / 10:g}", (WIDTH - 44, row + 4))
    bar = np.linspace(255, 0, 120)[:, None, None]
    picture[90:210, 12:20] = bar
    if probe.radius_mm:
        scale = np.linspace(1, -1, 100, dtype=np.float32)[:, None] * np.ones((1, 10), np.float32)
        picture[250:350, 12:22] = _flow_colours(scale)
        _write(picture, "cm/s", (10, 228))
        _write(picture, "+24", (10, 244))
        _write(picture, "-24", (10, 364))
    lines = (
        ("C5-1", "15 Hz", "15 cm", "MI 1.1", "2D 56 dB", "CF 2.5 MHz")
        if probe.radius_mm
        else ("L12-5", "40 mm", "MI 0.9", "2D 56 dB")
    )
    for i, line in enumerate(lines):
        _write(picture, line, (WIDTH - 80, 24 + 15 * i) if probe.radius_mm else (14 + 90 * i, 20))
    _write(picture, "DEMONSTRATION", (12, 470))
    return picture


def _write(picture: Picture, text: str, corner: tuple[int, int]) -> None:
    cv2.putText(picture, text, corner, cv2.FONT_HERSHEY_SIMPLEX, 0.4, _INK, 1, cv2.LINE_AA)


def _measured(picture: Picture) -> Picture:
    """Two calipers at the nodule and what they measure."""
    marked = picture.copy()
    ends = [
        (round(WIDTH / 2 + x / _MM_PER_PX["thyroid"]), round(HEIGHT / 2 + (y - 20) / _MM_PER_PX["thyroid"]))
        for x, y in ((-18.5, 15.5), (-10.7, 16.9))
    ]
    for end in ends:
        cv2.drawMarker(marked, end, 255, cv2.MARKER_CROSS, 11, 1)
    for share in np.linspace(0.1, 0.9, 9):
        x, y = (round(a + share * (b - a)) for a, b in zip(*ends, strict=True))
        marked[y, x] = 255
    cv2.putText(marked, "+ Dist 7.9 mm", (450, 448), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 230, 1, cv2.LINE_AA)
    return marked


def _new_image(series: Series, number: int, kind: str, modes: str) -> Dataset:
    """US Image Module without pixels (PS3.3 C.8.5.6)."""
    dataset = new_instance(series, number)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", kind, modes]
    dataset.PatientOrientation = ""
    dataset.LossyImageCompression = "00"
    dataset.BurnedInAnnotation = "NO"
    return dataset


def _region(data_type: int, corners_px: tuple[int, int, int, int], mm_per_px: float) -> Dataset:
    """One item of the US Region Calibration Module (PS3.3 C.8.5.5); physical deltas in centimetres."""
    item = Dataset()
    item.RegionSpatialFormat = 1  # 2D
    item.RegionDataType = data_type
    item.RegionFlags = 0 if data_type == _COLOUR_FLOW else 1
    item.RegionLocationMinX0, item.RegionLocationMinY0, item.RegionLocationMaxX1, item.RegionLocationMaxY1 = corners_px
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = _CENTIMETRES
    item.PhysicalDeltaX = item.PhysicalDeltaY = mm_per_px / 10
    return item
