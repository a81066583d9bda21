"""The organs below the diaphragm."""

from functools import cache

import numpy as np

from .drawing import Canvas, Mask, PointList, Tree, between, curve, grow_tree, oval, tapered
from .thorax import mediastinum_outline
from .trunk import AIR, FAT, MUSCLE, SIDES, WATER, Condition, cavity_outline, draw_blob, draw_tree, rounded, texture

_LIVER: dict[float, PointList] = {
    200: [
        (64, -72), (30, -95), (-40, -112), (-122, -82), (-152, 0), (-132, 62), (-92, 92), (-48, 60), (-32, 22),
        (-10, -8), (14, -32), (42, -48),
    ],
    240: [
        (38, -76), (10, -98), (-50, -112), (-126, -76), (-152, 0), (-134, 62), (-98, 88), (-62, 58), (-46, 22),
        (-32, -8), (-6, -34), (16, -60),
    ],
    290: [
        (-18, -82), (-40, -95), (-70, -102), (-126, -70), (-150, 0), (-134, 58), (-104, 76), (-86, 50), (-80, 18),
        (-66, -10), (-52, -38), (-34, -62),
    ],
    330: [
        (-70, -60), (-80, -80), (-100, -84), (-126, -62), (-144, 0), (-132, 46), (-114, 60), (-104, 36), (-98, 10),
        (-94, -14), (-88, -34), (-78, -50),
    ],
}  # fmt: skip


@cache
def _liver_vessels() -> Tree:
    rng = np.random.default_rng(80)
    raw = rng.uniform(-1, 1, (330, 3))
    tips = raw[np.linalg.norm(raw, axis=1) < 1] * (62, 78, 62) + (-76, -10, 222)
    return grow_tree((-34, -6, 236), tips, 0.95, 81)


def abdomen_mask(canvas: Canvas, level: float) -> Mask | None:
    """What lies below the diaphragm: two domes, then everything but the recesses of the lungs."""
    if level < 150:
        return None
    domes = []
    for x, top in ((-66.0, 156.0), (70.0, 168.0)):
        grown = (level - top) / 72
        if grown > 0:
            size = np.sqrt(1 - (1 - min(grown, 1.0)) ** 2) + 0.25 * max(0.0, grown - 1)
            domes.append(oval(x, -8 + 10 * size, 74 * size, 92 * size, 0, 2.2))
    if level < 190:
        return canvas.mask(*domes) & ~canvas.mask(mediastinum_outline(level))
    middle = oval(0, -20, 60, 92, 0, 2.6)
    return canvas.mask(middle, [(-30, -60), (30, -60), (40, 100), (-40, 100)], *domes)


def draw_abdomen(canvas: Canvas, level: float, condition: Condition) -> None:
    canvas.image += 8 * texture(canvas, 5, 6, level)
    _draw_liver(canvas, level, condition)
    if level > 240:
        _draw_mesentery(canvas, level, condition)
    _draw_stomach(canvas, level)
    _draw_spleen(canvas, level, condition)
    if level > 232:
        _draw_bowel(canvas, level)
    for sign in SIDES:
        if level > 188:
            crus = [(sign * 8, 4), (sign * 20, 20), (sign * 25, 46)]
            canvas.stroke(curve(crus, False), MUSCLE, float(np.interp(level, [190, 330], [8, 4])))
        draw_blob(canvas, rounded(level, 340, 75), sign * 36, 46, 19, 17, MUSCLE)
        _draw_kidney(canvas, level, condition, sign)
    if 236 < level < 274:
        pancreas = np.array([(-26, -16), (-4, -26), (22, -18), (52, 2), (70, 16)], float)
        canvas.fill(tapered(pancreas, (19, 12, 15, 11, 14, 9)), 40 + 0.4 * condition.spleen)
        canvas.fill(tapered(pancreas + (0, 6), (8, 7, 6, 5)), condition.vein)
    if level > 262:
        canvas.fill(oval(3, -2, 3.6, 3.6), condition.artery)
        canvas.fill(oval(-9, -4, 5.4, 5), condition.vein)


def _draw_liver(canvas: Canvas, level: float, condition: Condition) -> None:
    outline = curve(between(level, _LIVER))
    liver = canvas.like(condition.liver)
    liver.image += 3 * texture(canvas, 4, 7, level)
    vein = condition.vein if condition.vein > 60 else condition.liver - 14
    draw_tree(
        liver, _liver_vessels(), level, 4.0, ([0.9, 2.2], [condition.liver + 0.2 * (vein - condition.liver), vein])
    )
    if 210 < level < 262:
        liver.stroke(curve([(-2, -100), (-6, -70), (-4, -44)], False), FAT + 40, 3.5)
    canvas.paste(liver, canvas.mask(outline) & canvas.mask(cavity_outline(level, -2.5)))
    gall_bladder = rounded(level, 272, 26)
    draw_blob(canvas, gall_bladder, -46, -48, 20, 15, 45, 40)
    draw_blob(canvas, gall_bladder, -46, -48, 18, 13, WATER + 4, 40)


def _draw_stomach(canvas: Canvas, level: float) -> None:
    size = rounded(level, 226, 56)
    if size < 0.15:
        return
    x, y = float(np.interp(level, [180, 280], [66, 44])), float(np.interp(level, [180, 280], [-8, -60]))
    canvas.fill(oval(x, y, 46 * size, 34 * size, -28, 2.2, 0.06), 62)
    lumen = canvas.mask(oval(x, y, 42 * size, 29.5 * size, -28, 2.2, 0.07))
    _, rows = canvas.grid_mm()
    meal = 22 + 14 * texture(canvas, 6, 8, level)
    canvas.image[lumen] = np.where(rows < y - 8 * size, AIR + 20, meal)[lumen]


def _draw_spleen(canvas: Canvas, level: float, condition: Condition) -> None:
    size = rounded(level, 222, 54)
    if size > 0.15:
        shape = np.array([(142, -24), (146, 36), (114, 86), (52, 92), (60, 62), (84, 36), (94, 0), (116, -24)])
        center = np.array([112, 42])
        spleen = canvas.mask(curve(center + size * (shape - center))) & canvas.mask(cavity_outline(level, -2.5))
        canvas.image[spleen] = condition.spleen + 2.5 * texture(canvas, 4, 9, level)[spleen]


def _draw_kidney(canvas: Canvas, level: float, condition: Condition, sign: int) -> None:
    size = rounded(level, 296 if sign > 0 else 304, 50)
    if size < 0.2:
        return
    x, y, turn = sign * 60, 38, -sign * 35
    canvas.fill(oval(x, y, 25 * size, 31 * size, turn, 2.1, 0.03), condition.kidney)
    for angle in np.radians([-130, -80, -30, 20, 70, 130]):
        px, py = 15 * np.cos(angle) * size, 20 * np.sin(angle) * size
        canvas.fill(
            oval(x + sign * px, y + py, 6 * size, 5.5 * size, float(np.degrees(angle)) * sign), 0.68 * condition.kidney
        )
    if size > 0.75:
        hilum = curve(
            [
                (x, y - 10), (x + sign * 6, y), (x, y + 11), (x - sign * 16, y + 2), (x - sign * 27, y - 8),
                (x - sign * 14, y - 16),
            ]
        )  # fmt: skip
        canvas.fill(hilum, FAT + 15)
        canvas.fill(oval(x - sign * 8, y - 2, 9, 4, sign * 20), 20)
        canvas.stroke([(x - sign * 12, y - 7), (sign * 12, 16)], condition.vein, 5)


_LOOPS = [  # x, y, radius, share of gas, first level; colon where the radius exceeds 15 mm
    (108, -38, 21, 0.9, 226), (70, -78, 20, 1.0, 270), (28, -84, 18, 1.0, 278), (-16, -88, 19, 0.3, 284),
    (104, 4, 18, 0.5, 262), (108, 44, 17, 0.2, 276), (-70, -86, 21, 1.0, 300), (-88, -40, 20, 0.4, 308),
    (34, -46, 13, 0.0, 268), (58, -40, 14, 0.0, 264), (80, -28, 13, 0.3, 272), (76, 2, 12, 0.0, 270),
    (52, -14, 13, 0.0, 276), (28, -20, 11, 0.0, 280), (8, -50, 12, 0.3, 282), (-18, -52, 13, 0.0, 288),
    (82, 28, 11, 0.0, 284), (-34, -32, 14, 0.2, 276), (-46, -8, 12, 0.0, 284),
]  # fmt: skip


def _draw_bowel(canvas: Canvas, level: float) -> None:
    """Loops with a wall, food or stool, and gas that floats (the phantom lies on its back)."""
    _, rows = canvas.grid_mm()
    contents = texture(canvas, 3, 10, level)
    for x, y, radius, gas, first in _LOOPS:
        size = min(1.0, (level - first) / 10) * (1 + 0.08 * float(np.sin(level / 9 + x)))
        if size < 0.3:
            continue
        left, top = x + 4 * float(np.sin(level / 14 + y)), y + 4 * float(np.cos(level / 12 + x))
        r, turn = radius * size, x + level
        canvas.fill(oval(left, top, r, r * 0.8, turn, 2, 0.07), 62)
        lumen = canvas.mask(oval(left, top, r - 2.2, r * 0.8 - 2.2, turn, 2, 0.08))
        food = 30 + 20 * contents[lumen]
        if radius > 15:
            food = np.where(food < 6, food - 260, food)
        height = np.broadcast_to(rows, lumen.shape)[lumen]
        canvas.image[lumen] = np.where(height < top + (gas - 0.8) * r, AIR + 40, food)


def _draw_mesentery(canvas: Canvas, level: float, condition: Condition) -> None:
    rng = np.random.default_rng(90)
    for x, y in rng.uniform((-40, -70), (90, 10), (46, 2)):
        drift = 5 * np.sin(level / 15 + x)
        path = [(x + drift, y), (x + drift + 4 * np.sin(y), y + 3 * np.cos(x))]
        canvas.stroke(path, 0.7 * condition.vein, 1.6)
