"""Brushes for the phantoms: outlines in millimetres, tapering trees, and noise that looks like tissue."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[np.floating[Any]]
Mask: TypeAlias = NDArray[np.bool_]
Points: TypeAlias = NDArray[np.float64]  # (n, 2), millimetres, x to the right and y downwards
PointList: TypeAlias = Sequence[tuple[float, float]]

_SUBPIXEL_BITS = 4  # fixed-point coordinates of OpenCV


class Canvas:
    """A float32 raster with coordinates in millimetres; `center_mm` is the point shown in its middle."""

    def __init__(
        self, width: int, height: int, mm_per_px: float, value: float = 0.0, center_mm: tuple[float, float] = (0, 0)
    ) -> None:
        self.image: Image = np.full((height, width), value, np.float32)
        self.mm_per_px = mm_per_px
        self._first_mm = np.array(center_mm) - mm_per_px * (np.array([width, height]) - 1) / 2

    def to_pixels(self, points: Points | PointList) -> Points:
        """The same points counted in pixels from the centre of the first one."""
        return (np.asarray(points, float) - self._first_mm) / self.mm_per_px

    def grid_mm(self) -> tuple[Image, Image]:
        """The x and y of every pixel, as a row and a column that broadcast."""
        height, width = self.image.shape
        x = self._first_mm[0] + self.mm_per_px * np.arange(width)
        y = self._first_mm[1] + self.mm_per_px * np.arange(height)
        return x[None, :].astype(np.float32), y[:, None].astype(np.float32)

    def fill(self, outline: Points | PointList, value: float) -> None:
        """Paint the inside of a closed outline."""
        cv2.fillPoly(self.image, [self._fixed(outline)], value, shift=_SUBPIXEL_BITS)

    def stroke(self, path: Points | PointList, value: float, width_mm: float, closed: bool = False) -> None:
        """Paint a line of at least one pixel along a path."""
        width = max(1, round(width_mm / self.mm_per_px))
        cv2.polylines(self.image, [self._fixed(path)], closed, value, width, shift=_SUBPIXEL_BITS)

    def lines(self, start: Points, end: Points, values: NDArray[np.float64], widths_mm: NDArray[np.float64]) -> None:
        """Paint many straight lines, the narrowest first, so that wide ones lie on top."""
        ends = np.hstack([self._fixed(start), self._fixed(end)]).tolist()
        widths = np.maximum(1, np.round(widths_mm / self.mm_per_px)).astype(int).tolist()
        shades = values.tolist()
        for i in np.argsort(widths_mm).tolist():
            x1, y1, x2, y2 = ends[i]
            cv2.line(self.image, (x1, y1), (x2, y2), shades[i], widths[i], shift=_SUBPIXEL_BITS)

    def mask(self, *outlines: Points | PointList) -> Mask:
        """True inside any of the outlines."""
        inside = np.zeros(self.image.shape, np.uint8)
        for outline in outlines:
            cv2.fillPoly(inside, [self._fixed(outline)], 1, shift=_SUBPIXEL_BITS)
        return inside.view(bool)

    def paste(self, other: "Canvas", where: Mask) -> None:
        """Take over what another canvas of the same size shows in `where`."""
        np.copyto(self.image, other.image, where=where)

    def bend(self, by_mm: float, cell_mm: float, seed: int, drift: float = 0.0) -> None:
        """Shift everything a little, here and there differently, so that no outline stays ideal; `drift` 0 to 1."""
        shift = _bends(self.image.shape, cell_mm / self.mm_per_px, by_mm / self.mm_per_px, seed)
        mix = (np.cos(drift * np.pi / 2), np.sin(drift * np.pi / 2))
        x, y = (np.float32(mix[0]) * shift[i] + np.float32(mix[1]) * shift[i + 2] for i in (0, 1))
        rows, columns = self.image.shape
        x, y = x + np.arange(columns, dtype=np.float32), y + np.arange(rows, dtype=np.float32)[:, None]
        self.image = sampled(self.image, x, y, cv2.BORDER_REPLICATE)

    def like(self, value: float = 0.0) -> "Canvas":
        """An empty canvas of the same size and place."""
        other = Canvas(1, 1, self.mm_per_px)
        other.image, other._first_mm = np.full_like(self.image, value), self._first_mm
        return other

    def _fixed(self, points: Points | PointList) -> NDArray[np.int32]:
        return np.round(self.to_pixels(points) * (1 << _SUBPIXEL_BITS)).astype(np.int32)


_ANGLES = np.linspace(0, 2 * np.pi, 72, endpoint=False)
_COSINE, _SINE = np.cos(_ANGLES), np.sin(_ANGLES)


def oval(
    x: float, y: float, radius_x: float, radius_y: float, turn_deg: float = 0, power: float = 2, wobble: float = 0
) -> Points:
    """A closed superellipse (power 2: an ellipse; more: squarer), `wobble` makes it less regular."""
    c, s = _COSINE, _SINE
    if power != 2:
        c, s = (np.sign(part) * np.abs(part) ** (2 / power) for part in (c, s))
    px, py = radius_x * c, radius_y * s
    if wobble:
        uneven = 1 + wobble * (
            0.6 * np.sin(2 * _ANGLES + x) + 0.5 * np.sin(3 * _ANGLES + y) + 0.3 * np.sin(5 * _ANGLES + x + y)
        )
        px, py = px * uneven, py * uneven
    turn = np.radians(turn_deg)
    return np.column_stack([x + px * np.cos(turn) - py * np.sin(turn), y + px * np.sin(turn) + py * np.cos(turn)])


def curve(points: Points | PointList, closed: bool = True, steps: int = 8) -> Points:
    """A Catmull-Rom curve through the points."""
    p = np.asarray(points, float)
    p = np.vstack([p[-1:], p, p[:2]]) if closed else np.vstack([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    a, b, c, d = (p[i : len(p) - 3 + i, None, :] for i in range(4))
    bends = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    smooth: Points = bends.reshape(-1, 2)
    return smooth if closed else np.vstack([smooth, p[-2:-1]])


def between(at: float, keys: dict[float, PointList]) -> Points:
    """The outline at one level, between the outlines given for the levels next to it."""
    levels = sorted(keys)
    stack = np.asarray([keys[level] for level in levels], float)
    place = float(np.interp(at, levels, np.arange(len(levels))))
    low = min(int(place), len(levels) - 2)
    result: Points = stack[low] + (place - low) * (stack[low + 1] - stack[low])
    return result


def tapered(path: Points | PointList, widths_mm: Sequence[float] | NDArray[np.floating[Any]]) -> Points:
    """The outline of a smooth vessel along a path, with its widths from the first to the last point."""
    middle = curve(path, closed=False)
    ahead = np.gradient(middle, axis=0)
    across = ahead[:, ::-1] * (-0.5, 0.5) / np.linalg.norm(ahead, axis=1)[:, None]
    width = np.interp(np.linspace(0, 1, len(middle)), np.linspace(0, 1, len(widths_mm)), widths_mm)[:, None]
    result: Points = np.vstack([middle + across * width, (middle - across * width)[::-1]])
    return result


def mirrored(points: Points | PointList) -> Points:
    """The same outline on the other side of the midline."""
    return np.asarray(points, float) * (-1, 1)


def noise(shape: tuple[int, int], cell_px: float, seed: int, stretch: float = 1.0) -> Image:
    """Smooth noise of zero mean and unit deviation; structures are about `cell_px` high, `stretch` times as wide."""
    height, width = shape
    rows, columns = max(4, round(height / cell_px) + 3), max(4, round(width / cell_px / stretch) + 3)
    coarse: Image = np.random.default_rng(seed).standard_normal((rows, columns), np.float32)
    grown = coarse if cell_px * max(stretch, 1) <= 1 else resized(coarse, width, height)
    fine: Image = grown[:height, :width]
    return (fine - fine.mean()) / fine.std()


@cache
def _bends(shape: tuple[int, int], cell_px: float, by_px: float, seed: int) -> list[Image]:
    return [np.float32(by_px) * noise(shape, cell_px, seed + i) for i in range(4)]


def sampled(image: Image, x_px: Image, y_px: Image, beyond: int = cv2.BORDER_CONSTANT) -> Image:
    """The values of an image at other places than its pixels; `beyond` it: 0 or as OpenCV's border types say."""
    x, y = np.ascontiguousarray(x_px, np.float32), np.ascontiguousarray(y_px, np.float32)
    return np.asarray(cv2.remap(image, x, y, cv2.INTER_LINEAR, None, beyond), np.float32)


def resized(image: Image, width: int, height: int) -> Image:
    """Means of pixels when it becomes smaller, a smooth surface when it becomes larger."""
    how = cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (width, height), interpolation=how), np.float32)


def blurred(image: Image, sigma_px: float) -> Image:
    """A Gaussian blur; wide ones are made on a smaller copy."""
    if sigma_px < 5:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_px), np.float32)
    height, width = image.shape
    small = resized(image, max(1, width // 4), max(1, height // 4))
    return resized(blurred(small, sigma_px / 4), width, height)


@dataclass(frozen=True)
class Tree:
    """Vessels as straight pieces: two ends (n, 3) in millimetres and the radius of each piece."""

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    radius: NDArray[np.float64]

    def within(self, level: float, half_thickness: float) -> "Tree":
        """What of the pieces lies in a slab across the third axis."""
        low, high = level - half_thickness, level + half_thickness
        rise = self.end[:, 2] - self.start[:, 2]
        rise = np.where(np.abs(rise) < 1e-6, 1e-6, rise)
        a, b = (low - self.start[:, 2]) / rise, (high - self.start[:, 2]) / rise
        enter, leave = np.clip(np.minimum(a, b), 0, 1), np.clip(np.maximum(a, b), 0, 1)
        hit = leave > enter
        along = self.end - self.start
        start, end = self.start + enter[:, None] * along, self.start + leave[:, None] * along
        return Tree(start[hit], end[hit], self.radius[hit])


def grow_tree(root: tuple[float, float, float], tips: NDArray[np.float64], tip_radius: float, seed: int) -> Tree:
    """Vessels from a root to all tips: each tip joins where the way is short, radii follow Murray's law."""
    rng = np.random.default_rng(seed)
    count = 2 * len(tips) + 1
    points, way, parent = np.zeros((count, 3)), np.zeros(count), np.zeros(count, int)
    points[0] = root
    for known, tip in zip(range(1, count, 2), tips[np.argsort(((tips - root) ** 2).sum(1))], strict=True):
        apart = np.sqrt(((points[:known] - tip) ** 2).sum(1))
        near = int(np.argmin(apart + 0.4 * way[:known]))
        length = float(apart[near])
        points[known] = (points[near] + tip) / 2 + rng.normal(0, 0.07 * length, 3)
        points[known + 1] = tip
        way[known], way[known + 1] = way[near] + length / 2, way[near] + length
        parent[known], parent[known + 1] = near, known
    flow = (~np.isin(np.arange(count), parent)).astype(float)
    for i in range(count - 1, 0, -1):
        flow[parent[i]] += flow[i]
    return Tree(points[parent[1:]], points[1:], tip_radius * np.cbrt(flow[1:]))
