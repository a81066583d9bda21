"""What all parts of the torso phantom share: its outlines, densities and textures.

Coordinates are millimetres as in PS3.3 C.7.6.2.1.1: x to the patient's left, y to the back. `level` counts
downwards from the top of the lungs, so Patient Z is -level.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .drawing import Canvas, Image, Points, Tree, noise, oval

AIR, LUNG, FAT, WATER, MUSCLE, MARROW, BONE = -1000.0, -860.0, -100.0, 5.0, 58.0, 210.0, 720.0


@dataclass(frozen=True)
class Condition:
    """What differs between two examinations of the same phantom."""

    artery: float = 210.0
    vein: float = 150.0
    liver: float = 112.0
    spleen: float = 124.0
    kidney: float = 175.0
    myocardium: float = 105.0
    nodule_mm: float = 8.5


ENHANCED = Condition()
PLAIN = Condition(artery=44, vein=42, liver=60, spleen=50, kidney=34, myocardium=45, nodule_mm=5.0)

VERTEBRA_MM = 24.0
SIDES = (-1, 1)


def body_outline(level: float, inset: float = 0.0) -> Points:
    """The skin, or a line `inset` millimetres below it."""
    rx = np.interp(level, [0, 40, 110, 200, 320], [160, 166, 168, 160, 156]) - inset
    front = np.interp(level, [0, 50, 110, 200, 320], [84, 106, 122, 124, 122]) - inset
    back = np.interp(level, [0, 50, 320], [98, 104, 106]) - inset
    t = np.linspace(0, 2 * np.pi, 160, endpoint=False)
    c, s = np.cos(t), np.sin(t)
    power = np.where(s > 0, 2 / 2.7, 2 / 2.25)
    x = rx * np.sign(c) * np.abs(c) ** power
    y = np.where(s > 0, back, front) * np.sign(s) * np.abs(s) ** power
    dip = np.interp(level, [0, 60, 150, 220], [3, 5, 2, 0])
    return np.column_stack([x, y - 7 * (s > 0) * np.exp(-((x / 13) ** 2)) + dip * (s < 0) * np.exp(-((x / 30) ** 2))])


def cavity_outline(level: float, outset: float = 0.0) -> Points:
    """The inner side of the ribs, or a line `outset` millimetres outside; starts at the spine, left side first."""
    rx = np.interp(level, [-14, 0, 15, 45, 100, 180, 320], [30, 54, 76, 112, 134, 139, 134]) + outset
    front = np.interp(level, [-14, 0, 30, 80, 150, 320], [30, 42, 68, 93, 103, 105]) + outset
    back = np.interp(level, [-14, 0, 30, 80, 320], [54, 66, 78, 84, 84]) + outset
    t = np.linspace(0, 2 * np.pi, 181)[:-1]
    c, s = np.cos(t), np.sin(t)
    x = rx * np.sign(s) * np.abs(s) ** (2 / 2.2)
    y = np.where(c > 0, back, front) * np.sign(c) * np.abs(c) ** (2 / 2.2)
    return np.column_stack([x, y])


@lru_cache(maxsize=20)
def _texture(shape: tuple[int, int], cell_px: float, seed: int, stretch: float) -> Image:
    return noise(shape, cell_px, seed, stretch)


def texture(canvas: Canvas, cell_mm: float, seed: int, level: float, stretch: float = 1.0) -> Image:
    """Texture that drifts slowly from section to section."""
    plane = _texture(canvas.image.shape, max(1.0, cell_mm / canvas.mm_per_px), seed, stretch)
    return np.roll(plane, (round(level * 0.7), round(level * 0.4)), (0, 1))


def rounded(level: float, middle: float, half: float) -> float:
    """How large a rounded body is in one section, 1 at its middle and 0 beyond its ends."""
    return float(np.sqrt(max(0.0, 1 - ((level - middle) / half) ** 2)))


def draw_blob(
    canvas: Canvas,
    size: float,
    x: float,
    y: float,
    rx: float,
    ry: float,
    value: float,
    turn: float = 0,
    wobble: float = 0.03,
) -> None:
    if size > 0.12:
        canvas.fill(oval(x, y, rx * size, ry * size, turn, 2.1, wobble), value)


def draw_tree(
    canvas: Canvas,
    tree: Tree,
    level: float,
    half_mm: float,
    radii_and_hu: tuple[list[float], list[float]],
    wall_mm: float = 0,
) -> None:
    """Paint what crosses a section; thin vessels fill their pixels only in part, so the density follows the radius."""
    part = tree.within(level, half_mm)
    values = np.interp(part.radius, *radii_and_hu)
    canvas.lines(part.start[:, :2], part.end[:, :2], values, 2 * (part.radius + wall_mm))
