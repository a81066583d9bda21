"""The ultrasound phantoms: scenes of reflecting tissue, and the scanner that turns them into speckled images.

Millimetres, x across the probe and y away from it.
"""

from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np

from .drawing import Canvas, Image, PointList, blurred, curve, noise, oval, sampled, tapered

DYNAMIC_RANGE_DB = 56.0


@dataclass
class Scene:
    """Tissue in front of the probe: reflection strength, weakening of what lies behind, and flow to the probe."""

    width_mm: float
    depth_mm: float
    mm_per_px: float
    echo: Canvas = field(init=False)
    loss: Canvas = field(init=False)
    flow: Canvas = field(init=False)

    def __post_init__(self) -> None:
        self.echo, self.loss, self.flow = (self._canvas(value) for value in (0.3, 0.0, 0.0))

    def _canvas(self, value: float) -> Canvas:
        width, height = round(self.width_mm / self.mm_per_px), round(self.depth_mm / self.mm_per_px)
        return Canvas(width, height, self.mm_per_px, value, (0, self.depth_mm / 2))

    @cached_property
    def scatterers(self) -> tuple[Image, Image]:
        """Real and imaginary part of many small reflectors; they move with the tissue."""
        shape = self.echo.image.shape
        rng = np.random.default_rng(701)
        return rng.standard_normal(shape, np.float32), rng.standard_normal(shape, np.float32)

    @cached_property
    def softened(self) -> Image:
        """Reflection strength with uneven parenchyma and edges that are not quite sharp."""
        shape = self.echo.image.shape
        uneven = 1 + 0.16 * noise(shape, 9, 702, 1.6) + 0.10 * noise(shape, 30, 703)
        return blurred(self.echo.image, 0.8) * np.maximum(uneven, 0.2).astype(np.float32)


@dataclass(frozen=True)
class Probe:
    """Where the scan lines of a probe run; radius 0 stands for a linear one, whose span is then millimetres."""

    radius_mm: float
    span: float  # degrees to each side, or millimetres to each side
    depth_mm: float
    lines: int = 320
    samples: int = 512

    def grid(self) -> tuple[Image, Image]:
        """x and y of each sample, (samples, lines)."""
        depth = np.linspace(0, self.depth_mm, self.samples, dtype=np.float32)[:, None]
        across = np.linspace(-self.span, self.span, self.lines, dtype=np.float32)[None, :]
        if not self.radius_mm:
            return np.broadcast_to(across, (self.samples, self.lines)), np.broadcast_to(
                depth, (self.samples, self.lines)
            )
        angle, reach = np.radians(across), depth + self.radius_mm
        return reach * np.sin(angle), reach * np.cos(angle) - self.radius_mm * np.cos(np.radians(self.span))

    def raster_maps(self, x_mm: Image, y_mm: Image) -> tuple[Image, Image]:
        """Where in the grid of samples the points of a raster lie (line, sample; negative outside)."""
        if not self.radius_mm:
            line, depth = x_mm + 0 * y_mm, y_mm + 0 * x_mm
        else:
            down = y_mm + self.radius_mm * np.cos(np.radians(self.span))
            line, depth = np.degrees(np.arctan2(x_mm, down)), np.hypot(x_mm, down) - self.radius_mm
        lines = (line / self.span + 1) / 2 * (self.lines - 1)
        return lines.astype(np.float32), (depth / self.depth_mm * (self.samples - 1)).astype(np.float32)


def scan(scene: Scene, probe: Probe, shift_mm: tuple[float, float] = (0, 0)) -> Image:
    """Brightness 0 to 255 of each sample, with the tissue moved by `shift_mm`."""
    x, y = probe.grid()
    column, row = _place(scene, x - shift_mm[0], y - shift_mm[1])

    def seen(image: Image) -> Image:
        return sampled(image, column, row, cv2.BORDER_REPLICATE)

    amplitude = seen(scene.softened)
    loss = np.cumsum(seen(scene.loss.image), axis=0) * probe.depth_mm / probe.samples
    sharp = amplitude * np.exp(-loss)
    parts = [_resolved(seen(part) * sharp) for part in scene.scatterers]
    envelope = np.hypot(*parts) + 0.0012
    decibel = 20 * np.log10(envelope) + _gain(probe)
    return np.asarray(np.clip(255 * (1 + (decibel - 13) / DYNAMIC_RANGE_DB), 0, 255), np.float32)


def flow_at(scene: Scene, probe: Probe, shift_mm: tuple[float, float] = (0, 0)) -> Image:
    """Speed towards the probe at each sample, -1 to 1."""
    x, y = probe.grid()
    column, row = _place(scene, x - shift_mm[0], y - shift_mm[1])
    return sampled(scene.flow.image, column, row)


def _place(scene: Scene, x: Image, y: Image) -> tuple[Image, Image]:
    column = (x + scene.width_mm / 2) / scene.mm_per_px - 0.5
    row = y / scene.mm_per_px - 0.5
    return column, row


def _resolved(signal: Image) -> Image:
    """Short along the beam, wide across it."""
    return np.asarray(cv2.GaussianBlur(signal, (0, 0), sigmaX=1.7, sigmaY=1.0)) * 3.4


def _gain(probe: Probe) -> Image:
    """What is left of the weakening with depth after the gain, and the focus zone."""
    depth = np.linspace(0, 1, probe.samples, dtype=np.float32)[:, None]
    return (1.5 - 5 * depth**3 + 2.0 * np.exp(-(((depth - 0.5) / 0.22) ** 2))).astype(np.float32)


# --- Scenes


def abdomen() -> Scene:
    """Liver with vessels, the right kidney behind it, gall bladder, diaphragm."""
    scene = Scene(width_mm=240, depth_mm=172, mm_per_px=0.4)
    echo, loss, flow = scene.echo, scene.loss, scene.flow
    echo.fill([(-120, 0), (120, 0), (120, 180), (-120, 180)], 0.34)
    _draw_layers(
        echo,
        [(0, 1.6, 1.4), (1.6, 9, 0.30), (9, 10, 1.0), (10, 18, 0.24), (18, 19.2, 1.3), (19.2, 21, 0.5)],
        convex=True,
    )
    echo.stroke(curve([(-118, 96), (-88, 120), (-50, 138), (-8, 146), (30, 152)], False), 2.6, 2.2)
    echo.fill([(-120, 98), (-88, 123), (-50, 141), (-8, 149), (30, 155), (30, 180), (-120, 180)], 0.16)
    loss.fill([(-120, 101), (-88, 126), (-50, 144), (-8, 152), (10, 156), (10, 180), (-120, 180)], 0.03)
    _draw_kidney(echo)
    for path, widths, speed in _VESSELS:
        echo.stroke(tapered(path, widths), 0.8 if speed > 0 else 0.42, 1.3, closed=True)
    for path, widths, speed in _VESSELS:
        echo.fill(tapered(path, widths), 0.010)
        for share, part in ((0.92, 0.45), (0.7, 0.75), (0.4, 1.0)):
            flow.fill(tapered(path, [share * width for width in widths]), speed * part)
    bladder = curve([(20, 34), (33, 30), (45, 36), (53, 50), (46, 58), (32, 49)])
    echo.stroke(bladder, 0.9, 1.4, closed=True)
    echo.fill(bladder, 0.006)
    loss.fill(bladder, -0.016)
    for x, y, radius in _SMALL_VESSELS:
        echo.stroke(oval(x, y, radius + 0.6, radius), 0.7, 0.8, closed=True)
        echo.fill(oval(x, y, radius, radius * 0.8), 0.015)
    return scene


_SMALL_VESSELS = (
    (-44, 54, 2.0), (-30, 92, 1.6), (14, 36, 1.5), (-66, 74, 1.8), (-14, 118, 2.2), (-58, 102, 1.4), (26, 100, 1.8),
)  # fmt: skip
_VESSELS: list[tuple[PointList, tuple[float, ...], float]] = [
    ([(94, 88), (56, 84), (28, 78), (6, 74), (-16, 77), (-36, 72), (-54, 58)], (12, 11.5, 12, 11, 9, 7, 1.5), 0.9),
    ([(2, 76), (-8, 62), (-16, 48), (-30, 36)], (5, 5.5, 4.5, 1), 0.7),
    ([(-72, 36), (-60, 62), (-42, 86), (-29, 108), (-22, 128), (-18, 146)], (1, 3.5, 5, 7, 9.5, 11), -0.85),
    ([(-98, 78), (-74, 98), (-50, 108), (-27, 116)], (1, 4, 5.5, 7), -0.6),
    ([(-4, 100), (-12, 112), (-22, 126)], (1, 4, 6), -0.7),
]


def _draw_layers(canvas: Canvas, layers: list[tuple[float, float, float]], convex: bool) -> None:
    """Skin, fat and muscle under the probe: first and last depth and reflection; a convex probe presses itself in."""
    x = np.arange(-120.0, 121.0, 8.0)
    face = np.column_stack([x, 6 - 0.0022 * x**2 if convex else 0 * x])
    for top, bottom, value in layers:
        canvas.fill(np.vstack([face + (0, top), (face + (0, bottom))[::-1]]), value)


def _draw_kidney(canvas: Canvas) -> None:
    canvas.fill(oval(58, 112, 52, 27, -14, 2.1, 0.02), 0.9)
    canvas.fill(oval(58, 112, 50.5, 25.5, -14, 2.1, 0.02), 0.22)
    for angle in np.radians(range(0, 360, 36)):
        x, y = 34 * np.cos(angle), 15 * np.sin(angle)
        canvas.fill(oval(58 + x * 0.97 + y * 0.24, 112 - x * 0.24 + y * 0.97, 5.5, 4.4), 0.12)
    canvas.fill(oval(58, 112, 27, 9.5, -14, 2.2, 0.12), 1.15)
    for x, y in ((44, 114), (60, 111), (74, 108)):
        canvas.fill(oval(x, y, 3.4, 2.0, -14), 0.12)


def thyroid() -> Scene:
    """A neck across: both lobes, windpipe, carotid arteries, jugular veins and one nodule."""
    scene = Scene(width_mm=64, depth_mm=42, mm_per_px=0.1)
    echo, loss = scene.echo, scene.loss
    echo.fill([(-32, 0), (32, 0), (32, 45), (-32, 45)], 0.16)
    _draw_layers(echo, [(0, 0.9, 1.3), (0.9, 4.0, 0.28), (4.0, 4.5, 1.2), (4.5, 5.4, 0.12)], convex=False)
    for y in (1.7, 2.5, 3.3):
        echo.stroke(curve([(-30, y), (-14, y + 0.3), (4, y - 0.2), (30, y + 0.2)], False), 0.7, 0.15)
    for sign in (-1, 1):
        _draw_neck_side(echo, sign)
    echo.fill(tapered([(-9, 9.5), (0, 8.6), (9, 9.5)], (3.0, 2.2, 3.0)), 0.5)
    ring = oval(0, 20, 8.6, 9.8)
    echo.fill(ring, 0.04)
    for i in range(4):
        arc = curve(
            [
                (-6.8, 14.4 + 2.4 * i), (-3.6, 11.2 + 2.4 * i), (0, 10.4 + 2.4 * i), (3.6, 11.2 + 2.4 * i),
                (6.8, 14.4 + 2.4 * i),
            ],
            False,
        )  # fmt: skip
        echo.stroke(arc, 2.2 / (1 + 1.6 * i), 0.5)
    loss.fill([(-7.4, 16), (7.4, 16), (9.5, 45), (-9.5, 45)], 0.12)
    echo.fill(oval(-14.6, 16.2, 3.9, 3.0, 10, 2, 0.05), 0.115)
    echo.stroke(oval(-14.6, 16.2, 4.1, 3.2, 10, 2, 0.05), 0.26, 0.25, closed=True)
    echo.fill(oval(-15.4, 15.6, 0.5, 0.4), 1.6)
    return scene


def _draw_neck_side(canvas: Canvas, sign: int) -> None:
    strap = curve(
        [(sign * x, y) for x, y in ((1, 5.4), (10, 5.2), (19, 7.6), (25, 12), (22, 13), (15, 9.2), (8, 7.6), (1, 7.4))]
    )
    canvas.fill(strap, 0.085)
    for i in range(5):
        line = [(sign * 2, 5.9 + 0.35 * i), (sign * 11, 5.9 + 0.4 * i), (sign * 20, 8.8 + 0.5 * i)]
        canvas.stroke(curve(line, False), 0.2, 0.12)
    lobe = curve(
        [
            (sign * x, y)
            for x, y in ((7, 10), (12, 8.9), (17, 11), (19, 15.5), (17.4, 20.5), (13.4, 23.6), (9.6, 21), (8.2, 15))
        ]
    )
    canvas.fill(lobe, 0.42)
    canvas.stroke(lobe, 0.8, 0.25, closed=True)
    canvas.fill(tapered([(sign * 8, 25), (sign * 14, 27.5), (sign * 24, 26.5), (sign * 29, 30)], (3, 5, 6, 4)), 0.09)
    canvas.fill(tapered([(sign * 6, 31), (sign * 15, 34), (sign * 28, 36)], (3, 5.5, 6)), 0.11)
    canvas.stroke(curve([(sign * 5, 29.6), (sign * 14, 31.4), (sign * 28, 33)], False), 0.8, 0.35)
    for x, y, rx, ry in ((22.0, 19.0, 3.1, 3.0), (24.6, 12.9, 3.9, 2.0)):
        canvas.fill(oval(sign * x, y, rx + 0.35, ry + 0.35), 0.95)
        canvas.fill(oval(sign * x, y, rx, ry), 0.006)
