"""Spine, ribs, breast bone and shoulder girdle of the torso phantom."""

import numpy as np

from .drawing import Canvas, Points, curve, mirrored, oval, tapered
from .trunk import BONE, MARROW, MUSCLE, SIDES, VERTEBRA_MM, body_outline, cavity_outline, texture


def draw_spine(canvas: Canvas, level: float) -> None:
    """One vertebra each 24 mm: disc, pedicles and processes follow each other (sections of the same bone)."""
    phase = level % VERTEBRA_MM
    wide = float(np.interp(level, [0, 320], [15.5, 22]))
    deep = float(np.interp(level, [0, 320], [12, 16.5]))
    y = 44.0
    arch_y = y + deep
    for sign in SIDES:
        canvas.fill(oval(sign * 17, arch_y + 19, 16, 12, 10 * sign), MUSCLE - 4)
    body = curve(
        [
            (0, y - deep), (wide * 0.8, y - deep * 0.7), (wide, y), (wide * 0.85, y + deep * 0.85),
            (0, y + deep * 0.78), (-wide * 0.85, y + deep * 0.85), (-wide, y), (-wide * 0.8, y - deep * 0.7),
        ]
    )  # fmt: skip
    disc = phase < 5
    grain = texture(canvas, 1.3, 11, level)
    if disc:
        canvas.fill(body, 92)
        canvas.fill(0.65 * (body - (0, y)) + (0, y), 78)
    else:
        near_plate = min(phase - 5, VERTEBRA_MM - phase) < 3
        canvas.fill(body, BONE - 210)
        inner = canvas.mask(0.9 * (body - (0, y)) + (0, y))
        canvas.image[inner] = (MARROW + (160 if near_plate else 0) + 24 * grain)[inner]
    canal_y = arch_y + 7
    if 8 < phase < 19:
        _draw_arch(canvas, phase, wide, arch_y)
    else:
        _draw_facets(canvas, arch_y)
    canvas.fill(oval(0, canal_y, 9.5, 8.5), 8)
    canvas.fill(oval(0, canal_y, 6.0, 5.0), 42)
    if phase > 12 or phase < 4:
        tip = arch_y + 38
        canvas.fill(
            curve([(-3, arch_y + 17), (3, arch_y + 17), (2.5, tip - 4), (4, tip), (-4, tip), (-2.5, tip - 4)]),
            BONE - 150,
        )
        canvas.stroke([(0, arch_y + 20), (0, tip - 3)], MARROW, 2)


def _draw_arch(canvas: Canvas, phase: float, wide: float, arch_y: float) -> None:
    for sign in SIDES:
        canvas.stroke([(sign * wide * 0.75, arch_y - 4), (sign * 14, arch_y + 12)], BONE, 8)
        canvas.stroke([(sign * wide * 0.72, arch_y - 4), (sign * 14, arch_y + 10)], MARROW + 60, 3.5)
        if phase < 16:
            canvas.stroke([(sign * 13, arch_y + 11), (sign * 38, arch_y + 19)], BONE - 90, 7)
            canvas.stroke([(sign * 16, arch_y + 12), (sign * 35, arch_y + 18)], MARROW, 3)
        canvas.stroke([(sign * 13, arch_y + 12), (0, arch_y + 20)], BONE, 6)


def _draw_facets(canvas: Canvas, arch_y: float) -> None:
    for sign in SIDES:
        canvas.fill(oval(sign * 14, arch_y + 8, 6, 5, 25 * sign), BONE - 40)
        canvas.fill(oval(sign * 15, arch_y + 15, 6, 4.5, 25 * sign), BONE - 60)
        canvas.stroke([(sign * 9, arch_y + 12), (sign * 20, arch_y + 11)], 70, 0.9)
        canvas.stroke([(sign * 12, arch_y + 16), (0, arch_y + 19)], BONE - 60, 4)


def rib_span(rib: int) -> tuple[float, float, float]:
    """Level of the head of one rib (1 to 12), how far it descends to its front end, and the angle of that end."""
    falls = float(np.interp(rib, [1, 3, 6, 12], [34, 62, 88, 74]))
    front = float(np.interp(rib, [1, 10, 11, 12], [2.35, 1.95, 1.25, 0.9]))
    return -14 + VERTEBRA_MM * (rib - 1), falls, front


def draw_ribs(canvas: Canvas, level: float) -> None:
    """What a section cuts of each rib (they fall to the front), their cartilage and the breast bone."""
    path = cavity_outline(level, 4.0)
    for rib in range(1, 13):
        head, falls, front = rib_span(rib)
        first, last = (0.42 + 1.93 * np.clip((level + edge - head) / falls, 0, 1.35) ** 0.85 for edge in (-5.5, 5.5))
        _draw_rib_piece(canvas, path, first, min(last, front))
        if rib <= 10 and last > front:
            _draw_cartilage(canvas, path, max(first, front), min(last, 2.78))
    _draw_sternum(canvas, level, float(path[:, 1].min()))


def _arc(path: Points, first: float, last: float) -> Points:
    place = np.linspace(first, last, 14) / (2 * np.pi) * len(path)
    return np.column_stack([np.interp(place, np.arange(len(path)), path[:, i]) for i in (0, 1)])


def _draw_rib_piece(canvas: Canvas, path: Points, first: float, last: float) -> None:
    if last - first < 0.03:
        return
    margin = min(0.05, (last - first) / 4)
    arc, core = _arc(path, first, last), _arc(path, first + margin, last - margin)
    for side in (arc, mirrored(arc)):
        canvas.stroke(side, BONE, 7.0)
    for side in (core, mirrored(core)):
        canvas.stroke(side, MARROW + 20, 3.4)


def _draw_cartilage(canvas: Canvas, path: Points, first: float, last: float) -> None:
    if last - first > 0.03:
        for side in (_arc(path, first, last), mirrored(_arc(path, first, last))):
            canvas.stroke(side, 105, 8.5)


def _draw_sternum(canvas: Canvas, level: float, front_y: float) -> None:
    if 34 < level < 168:
        wide = float(np.interp(level, [34, 50, 62, 140, 168], [30, 27, 16, 18, 7]))
        canvas.fill(oval(0, front_y - 2, wide, 6.5, 0, 2.6), BONE - 250)
        canvas.fill(oval(0, front_y - 2, wide - 2, 4.5, 0, 2.6), 130)


def draw_shoulder_girdle(canvas: Canvas, level: float) -> None:
    """Collar bones in the highest sections, shoulder blades down to their tips."""
    edge_x = float(body_outline(level).max(0)[0])
    for sign in SIDES:
        if level < 34:
            out = float(np.interp(level, [0, 34], [80, 30]))
            front = float(body_outline(level)[:, 1].min()) + 17
            clavicle = [(sign * (out - 34), front + 3), (sign * (out - 8), front), (sign * (out + 26), front + 9)]
            canvas.fill(tapered(clavicle, (5, 12, 11, 4)), BONE)
            canvas.fill(tapered(clavicle, (1, 7, 6, 1)), MARROW + 40)
        if level < 128:
            length = float(np.interp(level, [0, 40, 128], [1.0, 1.0, 0.35]))
            blade = curve([(sign * (edge_x - 26), 22), (sign * (edge_x - 40), 50), (sign * (edge_x - 66), 72)], False)
            part = blade[: max(4, int(len(blade) * length))]
            canvas.stroke(part, BONE - 40, 4.5)
            canvas.fill(oval(part[1, 0], part[1, 1], 7 * length, 9 * length, 20 * sign), BONE - 80)
            canvas.fill(oval(part[1, 0], part[1, 1], 4 * length, 6 * length, 20 * sign), MARROW)
