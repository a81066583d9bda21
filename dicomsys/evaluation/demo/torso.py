"""The torso phantom: one axial section of chest and upper abdomen in Hounsfield units."""

import numpy as np

from .belly import abdomen_mask, draw_abdomen
from .drawing import Canvas, PointList, Points, curve, mirrored, oval
from .skeleton import draw_ribs, draw_shoulder_girdle, draw_spine
from .thorax import draw_great_vessels, draw_lungs, draw_mediastinum, mediastinum_outline
from .trunk import AIR, ENHANCED, FAT, MUSCLE, Condition, body_outline, cavity_outline, texture


def draw_section(canvas: Canvas, level: float, condition: Condition = ENHANCED) -> None:
    """Paint one section over a canvas of air."""
    _draw_wall(canvas, level)
    inside = canvas.mask(cavity_outline(level))
    organs, middle = canvas.like(), canvas.like()
    draw_lungs(organs, level, condition)
    if level < 215:
        draw_mediastinum(middle, level, condition)
        organs.paste(middle, canvas.mask(mediastinum_outline(level)))
    abdomen = abdomen_mask(canvas, level)
    if abdomen is not None:
        belly = canvas.like(FAT)
        draw_abdomen(belly, level, condition)
        organs.paste(belly, abdomen)
    canvas.paste(organs, inside)
    draw_great_vessels(canvas, level, condition)
    draw_spine(canvas, level)
    draw_ribs(canvas, level)
    draw_shoulder_girdle(canvas, level)
    canvas.bend(1.7, 44, 20, abs(level) / 400)
    table = canvas.like(AIR)
    _draw_table(table)
    canvas.paste(table, (canvas.image < AIR + 15) & (table.image > AIR))


def _draw_wall(canvas: Canvas, level: float) -> None:
    """Skin, fat with its septa, and the muscles of the trunk with fat between them."""
    canvas.fill(body_outline(level), 35.0)
    skin = canvas.mask(body_outline(level, 2.2))
    canvas.image[skin] = FAT + 9 * texture(canvas, 7, 1, level)[skin]
    fat_mm = float(np.interp(level, [0, 60, 180, 320], [10, 12, 14, 17]))
    muscles = canvas.like(FAT)
    for outline in _muscles(level, fat_mm):
        muscles.fill(outline, MUSCLE)
        muscles.stroke(outline, FAT + 25, 1.2, closed=True)
    muscles.fill(cavity_outline(level, 9.0), MUSCLE - 6)
    muscles.stroke(cavity_outline(level, 10.0), FAT + 15, 2.0, closed=True)
    striated = texture(canvas, 2.6, 2, level, 3.0)
    fibre = np.where(muscles.image > 0, -10 * np.maximum(striated, -0.5) ** 2, 8 * striated)
    muscles.image += fibre.astype(np.float32)
    canvas.paste(muscles, canvas.mask(body_outline(level, fat_mm)))


def _muscles(level: float, fat_mm: float) -> list[Points]:
    """Muscles of both sides outside the ribs, back to front (later ones cover earlier ones)."""
    edge = body_outline(level, fat_mm)
    edge_x, front_y = float(edge[:, 0].max()), float(edge[:, 1].min())
    girdle = float(np.interp(level, [0, 60, 130, 170], [1.0, 0.9, 0.45, 0.0]))
    side = float(np.interp(level, [0, 150, 230, 290], [1.0, 0.8, 0.7, 0.9]))
    shapes = []
    if girdle > 0.05:
        shapes += [
            oval(edge_x - 50, 47, 44 * girdle, 15 * girdle + 2, -52, 2.2, 0.05),  # subscapularis
            oval(edge_x - 34, 60, 46 * girdle, 14 * girdle + 2, -48, 2.2, 0.05),  # infraspinatus
            oval(edge_x - 20, 22, 18 * girdle, 22 * girdle, 10, 2.2, 0.06),  # teres
        ]
    shapes += [
        oval(edge_x - 13 * side, 14, 13 * side, 64, 8, 2.2, 0.04),  # latissimus, serratus
        oval(edge_x - 38, 64, 34 * side, 15 * side, -42, 2.2, 0.05),
        curve([(4, 96), (50, 97), (92, 84), (60, 88), (22, 87)]),  # trapezius
        oval(33, 85, 28, 14.5, 8, 2.4, 0.03),  # erector of the spine
    ]
    shapes += _front_muscles(level, front_y)
    return [both for shape in shapes for both in (shape, mirrored(shape))]


def _front_muscles(level: float, front_y: float) -> list[Points]:
    def from_front(points: PointList) -> Points:
        return curve(np.asarray(points, float) + (0, front_y))

    if level > 140:
        return [from_front([(4, 1), (40, 4), (72, 18), (66, 25), (38, 16), (5, 12)])]
    bulk = float(np.interp(level, [0, 30, 80, 140], [0.8, 1.2, 1.0, 0.45]))
    minor = [(56, 16), (92, 28), (118, 50), (104, 54), (82, 36), (58, 26)]
    major = [
        (8, 7), (34, 2), (62, 2), (106, 18), (132, 42), (116, 26 + 22 * bulk), (84, 8 + 17 * bulk),
        (48, 5 + 15 * bulk), (12, 15),
    ]  # fmt: skip
    return [from_front(minor), from_front(major)] if bulk > 0.7 else [from_front(major)]


def _draw_table(canvas: Canvas) -> None:
    """The couch: a mattress over a thin shell that is filled with foam."""
    top = curve([(-190, 84), (-120, 100), (-60, 108), (0, 110.5), (60, 108), (120, 100), (190, 84)], False)
    bottom = curve([(190, 84), (150, 122), (80, 136), (0, 139), (-80, 136), (-150, 122), (-190, 84)], False)
    mattress = np.vstack([top, (top - (0, 7))[::-1]])
    canvas.fill(np.vstack([top, bottom]), -935)
    canvas.stroke(np.vstack([top, bottom]), -380, 1.6, closed=True)
    canvas.fill(mattress, -900)
    canvas.stroke(mattress, -780, 0.6, closed=True)
