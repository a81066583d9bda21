"""The inside of the chest: lungs, mediastinum, heart and the vessels that pass through."""

from functools import cache

import numpy as np

from .drawing import Canvas, PointList, Points, Tree, between, blurred, curve, grow_tree, oval, tapered
from .trunk import AIR, FAT, LUNG, SIDES, Condition, draw_blob, draw_tree, rounded, texture

NODULE = (-84.0, -22.0, 104.0)  # x, y, level


# --- Lungs

_VESSEL_HU = [0.42, 0.7, 1.2, 2.0], [-690.0, -520.0, -200.0, 45.0]


@cache
def lung_vessels(sign: int) -> Tree:
    """The vessels of one lung (sign -1: right), from the hilum to the pleura."""
    rng = np.random.default_rng(40 + sign)
    raw = rng.uniform(-1, 1, (2600, 3))
    raw = raw[np.linalg.norm(raw, axis=1) < 1]
    tips = raw * (58, 84, 108) + (sign * 78, 2, 122)
    return grow_tree((sign * 30, 6, 108), tips, 0.42, 50 + sign)


@cache
def bronchi(sign: int) -> Tree:
    """The air-filled branches that are wide enough to be seen."""
    rng = np.random.default_rng(60 + sign)
    tips = rng.uniform(-1, 1, (14, 3)) * (24, 40, 50) + (sign * 62, 6, 124)
    return grow_tree((sign * 16, 12, 100), tips, 1.25, 70 + sign)


def draw_lungs(canvas: Canvas, level: float, condition: Condition) -> None:
    _, y = canvas.grid_mm()
    canvas.image[:] = LUNG + 14 * texture(canvas, 3, 3, level) + 0.35 * y
    for sign in SIDES:
        draw_tree(canvas, lung_vessels(sign), level, 4.5, _VESSEL_HU)
        draw_tree(canvas, bronchi(sign), level, 3.0, ([0.0], [-250.0]), 1.1)
        draw_tree(canvas, bronchi(sign), level, 3.4, ([0.0], [-980.0]))
        _draw_fissure(canvas, level, sign)
    x, y_mm, middle = NODULE
    radius2 = condition.nodule_mm**2 - (level - middle) ** 2
    if radius2 > 0:
        _draw_nodule(canvas, x, y_mm, radius2**0.5)


def _draw_nodule(canvas: Canvas, x: float, y: float, radius: float) -> None:
    for angle in np.arange(0, 2 * np.pi, 0.7):
        reach = radius * (1.5 + 0.4 * np.sin(3 * angle))
        canvas.stroke([(x, y), (x + reach * np.cos(angle), y + reach * np.sin(angle))], -450, 0.6)
    canvas.fill(oval(x, y, radius, radius * 0.9, 20, 2, 0.07), 48)


def _draw_fissure(canvas: Canvas, level: float, sign: int) -> None:
    depth = float(np.interp(level, [30, 210], [58, -70]))
    if 40 < level < 200:
        canvas.stroke(curve([(sign * 30, depth), (sign * 80, depth - 7), (sign * 140, depth + 3)], False), -740, 0.5)


# --- Mediastinum and heart

_MEDIASTINUM: dict[float, PointList] = {
    0: [
        (-20, -60), (-34, -30), (-36, 0), (-30, 20), (-26, 56), (-44, 80), (44, 80), (26, 56), (30, 20), (36, 0),
        (34, -30), (20, -60),
    ],
    50: [
        (-8, -95), (-33, -45), (-42, -15), (-22, 12), (-21, 56), (-38, 84), (38, 84), (24, 56), (32, 20), (36, -5),
        (32, -40), (8, -95),
    ],
    70: [
        (-6, -95), (-32, -48), (-44, -18), (-20, 12), (-21, 56), (-38, 84), (38, 84), (26, 56), (42, 34), (40, -2),
        (30, -45), (6, -95),
    ],
    100: [
        (-5, -100), (-34, -50), (-47, -18), (-34, 10), (-21, 56), (-38, 84), (38, 84), (26, 56), (42, 34),
        (50, -6), (40, -48), (6, -100),
    ],
    130: [
        (-8, -100), (-52, -48), (-60, -16), (-44, 12), (-21, 56), (-38, 84), (38, 84), (24, 56), (40, 30), (72, 2),
        (68, -48), (16, -100),
    ],
    165: [
        (-16, -100), (-56, -52), (-60, -16), (-38, 16), (-21, 56), (-38, 84), (38, 84), (24, 56), (38, 30),
        (88, 4), (96, -50), (40, -100),
    ],
    195: [
        (-14, -100), (-44, -62), (-42, -20), (-30, 14), (-21, 56), (-38, 84), (38, 84), (24, 56), (38, 30),
        (66, -4), (74, -60), (36, -100),
    ],
}  # fmt: skip


_NODES = [
    (-26, 2, 76, 4.5), (-22, -6, 84, 3.5), (12, -8, 80, 4.0), (-4, 8, 106, 5.0), (38, 4, 78, 3.0),
    (-48, -40, 150, 3.0),
]  # fmt: skip


def mediastinum_outline(level: float) -> Points:
    return curve(between(level, _MEDIASTINUM))


def draw_mediastinum(canvas: Canvas, level: float, condition: Condition) -> None:
    """Fat with small vessels, lymph nodes and the thymus, and the heart."""
    strands = np.maximum(texture(canvas, 4, 13, level), 0.6)
    canvas.image[:] = FAT - 13 + 22 * strands + 8 * texture(canvas, 5, 4, level)
    for x, y, middle, radius in _NODES:
        draw_blob(canvas, rounded(level, middle, 9), x, y, radius, radius * 0.7, 42, x)
    draw_blob(canvas, rounded(level, 82, 30), 4, -82, 15, 11, -35, 30, 0.12)
    _draw_heart(canvas, level, condition)
    canvas.stroke(mediastinum_outline(level), 10, 1.6, closed=True)


def _draw_heart(canvas: Canvas, level: float, condition: Condition) -> None:
    artery, vein, wall = condition.artery, condition.vein, condition.myocardium
    left_atrium, right_atrium = rounded(level, 122, 21), rounded(level, 142, 31)
    right, left = rounded(level, 150, 40), rounded(level, 153, 41)
    if left_atrium > 0.5:
        for sign in SIDES:
            canvas.fill(tapered([(sign * 16, 4), (sign * 40, 8), (sign * 62, 16 + 4 * sign)], (15, 11, 6)), artery - 8)
    draw_blob(canvas, left_atrium, 3, 2, 36, 20, wall)
    draw_blob(canvas, left_atrium, 3, 2, 33, 17, artery - 6)
    draw_blob(canvas, right_atrium, -34, -30, 23, 32, wall, 10)
    draw_blob(canvas, right_atrium, -34, -30, 20, 29, vein + 12, 10)
    draw_blob(canvas, right, 10, -56, 47, 25, wall - 4, -20, 0.05)
    draw_blob(canvas, right, 10, -57, 42, 20, vein + 14, -20, 0.06)
    draw_blob(canvas, left, 46, -26, 48, 33, wall, -38)
    draw_blob(canvas, left, 42, -23, 36, 20, artery, -38, 0.05)
    if left > 0.6:
        for x, y in ((50, -16), (57, -38)):
            canvas.fill(oval(x, y, 6 * left, 4 * left, -38), wall + 10)
    if 118 < level < 165:  # the right coronary artery in its groove
        canvas.fill(oval(-27, -61, 8, 6, 30), FAT + 10)
        canvas.fill(oval(-27, -62, 2.2, 2.0), artery)
    if max(left, left_atrium) > 0:  # it beats while it is scanned
        canvas.image[:] = blurred(canvas.image, 0.9 / canvas.mm_per_px)


# --- Vessels and airways that pass through all sections

_Course = list[tuple[float, float, float, float]]  # level, x, y, radius

_DESCENDING_AORTA: _Course = [(66, 25, 26, 13), (150, 24, 32, 12), (220, 12, 27, 11), (330, 6, 22, 9.5)]
_ASCENDING_AORTA: _Course = [(66, -15, -26, 15), (100, -12, -30, 16), (122, 2, -24, 15)]
_SUPERIOR_CAVA: _Course = [(54, -34, -22, 8), (120, -38, -20, 10)]
_INFERIOR_CAVA: _Course = [(168, -28, -2, 13), (240, -22, 10, 12), (330, -17, 18, 11)]
_OESOPHAGUS: _Course = [(0, 4, 16, 6), (90, 8, 20, 6), (160, 14, 18, 7), (205, 24, 6, 8)]
_TRACHEA: _Course = [(0, 0, -2, 9), (92, -2, 2, 9)]
_ARCH_BRANCHES: list[_Course] = [
    [(0, -20, -20, 5), (58, -13, -24, 6.5)],
    [(0, 19, -16, 3.8), (58, 2, -14, 4.2)],
    [(0, 28, -8, 4.5), (58, 18, 2, 5)],
]


def _at(level: float, course: _Course) -> tuple[float, float, float] | None:
    levels = [step[0] for step in course]
    if not levels[0] <= level <= levels[-1]:
        return None
    x, y, radius = (float(np.interp(level, levels, [step[i] for step in course])) for i in (1, 2, 3))
    return x, y, radius


def _draw_tube(canvas: Canvas, level: float, course: _Course, value: float, wall: float | None = None) -> None:
    place = _at(level, course)
    if place:
        x, y, radius = place
        if wall is not None:
            canvas.fill(oval(x, y, radius + 1.8, radius + 1.6), wall)
        canvas.fill(oval(x, y, radius, radius * 0.95, 0, 2, 0.02), value)


def draw_great_vessels(canvas: Canvas, level: float, condition: Condition) -> None:
    artery, vein = condition.artery, condition.vein
    if 44 <= level <= 56:
        canvas.fill(tapered([(-38, -24), (-8, -40), (36, -38)], (13, 11, 8)), vein)
    if 84 <= level <= 97:
        canvas.fill(tapered([(24, -36), (42, -14), (54, 12), (66, 30)], (26, 22, 14, 6)), vein + 20)
    if 92 <= level <= 110:
        canvas.fill(tapered([(24, -40), (8, -12), (-20, -3), (-48, 2), (-64, 8)], (26, 19, 17, 13, 7)), vein + 20)
    _draw_tube(canvas, level, [(88, 26, -32, 13), (116, 22, -46, 15)], vein + 20)
    for course in _ARCH_BRANCHES:
        _draw_tube(canvas, level, course, artery)
    _draw_tube(canvas, level, _SUPERIOR_CAVA, vein + 25)
    _draw_tube(canvas, level, _INFERIOR_CAVA, vein)
    _draw_tube(canvas, level, _OESOPHAGUS, 48)
    if 20 < level < 150:
        canvas.fill(oval(_at(level, _OESOPHAGUS)[0] - 1, 18.5, 1.8, 1.2), -600)  # type: ignore[index]
    if 58 <= level <= 74:
        arch = curve([(-16, -28), (2, -22), (20, 0), (26, 26)], False)
        canvas.stroke(arch, artery, 25 * rounded(level, 66, 12))
    _draw_tube(canvas, level, _ASCENDING_AORTA, artery)
    _draw_tube(canvas, level, _DESCENDING_AORTA, artery)
    _draw_tube(canvas, level, _TRACHEA, AIR, 40)
    for sign in SIDES:
        main: _Course = [(88, sign * 5, 2, 7), (116, sign * 30, 8, 5.5)]
        _draw_tube(canvas, level, main, AIR, 35)
