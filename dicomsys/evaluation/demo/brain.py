"""The head phantom: one axial section as a map of tissues, from which MR and CT take their own signals.

`level` is millimetres above the line from the eye to the ear; x to the patient's left, y to the back.
"""

from enum import IntEnum
from functools import lru_cache

import cv2
import numpy as np

from .drawing import Canvas, Image, Mask, Points, curve, mirrored, noise, oval, sampled, tapered

_SIDES = (-1, 1)


class Tissue(IntEnum):
    """What one pixel of the head is made of."""

    AIR = 0
    SKIN = 1
    FAT = 2
    MUSCLE = 3
    BONE = 4
    MARROW = 5
    CSF = 6
    GRAY = 7
    WHITE = 8
    NUCLEUS = 9
    PALLIDUM = 10
    BLOOD = 11
    VITREOUS = 12
    LENS = 13
    MUCOSA = 14
    DURA = 15


def head_outline(level: float, inset: float = 0.0) -> Points:
    """The skin, or a line `inset` millimetres below it; wider at the back."""
    rx = float(np.interp(level, [-55, -25, 5, 30, 50, 66, 80, 88], [66, 74, 77, 75, 68, 56, 36, 16])) - inset
    ry = float(np.interp(level, [-55, -25, 5, 30, 50, 66, 80, 88], [84, 92, 97, 96, 88, 74, 48, 22])) - inset
    outline = oval(0, 0, rx, ry, 0, 2.12)
    narrow = 1 + 0.11 * outline[:, 1] / ry
    middle_y = float(np.interp(level, [-55, 0, 50, 88], [2, 0, 3, 10]))
    return np.column_stack([outline[:, 0] * narrow, outline[:, 1] + middle_y])


def draw_head(canvas: Canvas, level: float) -> None:
    """Paint one section, in numbers of `Tissue`, over a canvas of air."""
    scalp = float(np.interp(level, [-55, 10, 88], [7.5, 6.0, 5.5]))
    bone = float(np.interp(level, [-55, 0, 88], [8.0, 6.5, 8.0]))
    if level < -8:
        _draw_face(canvas, level)
    canvas.fill(head_outline(level), Tissue.SKIN)
    canvas.fill(head_outline(level, 1.6), Tissue.FAT)
    if level < 32:
        _draw_temporal_muscles(canvas, level, scalp)
    canvas.fill(head_outline(level, scalp), Tissue.BONE)
    canvas.fill(head_outline(level, scalp + 2.0), Tissue.MARROW)
    canvas.fill(head_outline(level, scalp + bone - 2.0), Tissue.BONE)
    inner = scalp + bone
    if level < -8:
        _draw_base(canvas, level, inner)
        return
    brain = canvas.like(Tissue.CSF)
    cranium = canvas.mask(head_outline(level, inner))
    _draw_cerebrum(brain, level, cranium)
    canvas.fill(head_outline(level, inner - 0.8), Tissue.DURA)
    canvas.paste(brain, cranium)
    _draw_sinus(canvas, level, inner)


# --- Folds

_CELLS, _CELL_PX = 48, 8


@lru_cache(maxsize=32)
def _plane(index: int, kind: int) -> Image:
    return noise((_CELLS * _CELL_PX, _CELLS * _CELL_PX), _CELL_PX, 500 + 20 * index + kind)


def _field(u: Image, v: Image, level: float, kind: int) -> Image:
    """Smooth noise at u, v (counted in cells, 0 in the middle of the plane) which changes with the level."""
    index, part = divmod(level / 16 + 10, 1)
    low, high = _plane(int(index), kind), _plane(int(index) + 1, kind)
    plane = low * np.float32(np.cos(part * np.pi / 2)) + high * np.float32(np.sin(part * np.pi / 2))
    shape = np.broadcast_shapes(u.shape, v.shape)
    x, y = (np.broadcast_to((c + _CELLS / 2) * _CELL_PX, shape) for c in (u, v))
    return sampled(plane, x, y, cv2.BORDER_WRAP)


def _depth_mm(canvas: Canvas, inside: Mask) -> Image:
    distance = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 5)
    return np.asarray(distance * canvas.mm_per_px, np.float32)


def _near_zero(field: Image, half_px: Image | float) -> Mask:
    """Pixels nearer than `half_px` to where the field changes its sign."""
    rows, columns = np.gradient(field)
    return np.abs(field) < half_px * np.sqrt(rows**2 + columns**2 + 1e-8)


def _sulci(canvas: Canvas, level: float, brain: Mask) -> Mask:
    """Winding furrows that enter from the surface and from the cleft between the hemispheres."""
    x, y = canvas.grid_mm()
    depth = _depth_mm(canvas, brain)
    warp_x = 5.5 * _field(x / 13, y / 13, level, 1)
    warp_y = 5.5 * _field(x / 13, y / 13, level, 2)
    angle = np.arctan2((x + warp_x) * 1.25, -(y + warp_y))
    outer = _field(angle * np.float32(58 / (2 * np.pi)), (depth + warp_x) / 24, level, 3)
    inner = _field((y + warp_y) / 9, (np.abs(x) + warp_x) / 22, level, 4)
    reach = (16 if level < 34 else 22) + 6 * _field(x / 18, y / 18, level, 5)
    wide = 0.72 / canvas.mm_per_px * np.clip(1.6 - depth / 20, 0.45, 1.6)
    from_outside = _near_zero(outer, wide) & (depth < reach)
    from_cleft = _near_zero(inner, 0.7 / canvas.mm_per_px) & (np.abs(x) < 0.75 * reach) & (depth > 8)
    return (from_outside | from_cleft) & brain


def _draw_cerebrum(canvas: Canvas, level: float, cranium: Mask) -> None:
    """Fluid in the furrows, a grey ribbon along all that borders on fluid, white matter inside."""
    x, y = canvas.grid_mm()
    brain = _depth_mm(canvas, cranium) > 1.3
    cleft_mm = 0.9 + 0.5 * _field(x / 9, y / 9, level, 6)
    front, back = head_outline(level)[:, 1].min(), head_outline(level)[:, 1].max()
    if level >= 42:  # above the corpus callosum the cleft parts the hemispheres from front to back
        apart = np.broadcast_to(True, brain.shape)
    else:
        apart = np.broadcast_to((y < front + 54) | (y > back - 48), brain.shape)
    cleft = (np.abs(x + 0.8 * np.sin(y / 17)) < cleft_mm) & apart
    furrows = _sulci(canvas, level, brain) | cleft
    if -8 <= level < 26:
        furrows |= _sylvian(canvas, level)
    furrows &= brain
    surface = brain & ~furrows
    to_csf = _depth_mm(canvas, surface)
    ribbon = 3.1 + 0.6 * _field(x / 7, y / 7, level, 7)
    canvas.image[:] = np.where(surface, np.where(to_csf < ribbon, Tissue.GRAY, Tissue.WHITE), Tissue.CSF)
    _draw_centre(canvas, level)


def _sylvian(canvas: Canvas, level: float) -> Mask:
    shift = float(np.interp(level, [-8, 26], [-14, 6]))
    path = [(66, shift - 2), (54, shift - 6), (44, shift - 12), (37, shift - 8), (36, shift + 8), (40, shift + 20)]
    outline = tapered(path, (5.5, 3.2, 2.6, 2.0, 2.2, 1.2))
    return canvas.mask(outline, mirrored(outline))


def _draw_centre(canvas: Canvas, level: float) -> None:
    """White matter core, nuclei and ventricles."""
    if level < 44:
        size = float(np.interp(level, [-8, 5, 26, 44], [0.55, 0.95, 1.0, 0.8]))
        core = canvas.mask(oval(0, 2, 30 * size, 44 * size, 0, 2.3, 0.04))
        canvas.image[core] = Tissue.WHITE
    if level < 30:
        _draw_nuclei(canvas, level)
    if level < 46:
        _draw_ventricles(canvas, level)


def _round(level: float, middle: float, half: float) -> float:
    return float(np.sqrt(max(0.0, 1 - ((level - middle) / half) ** 2)))


def _draw_nuclei(canvas: Canvas, level: float) -> None:
    insula = _round(level, 8, 20)
    putamen, thalamus, caudate = _round(level, 8, 18), _round(level, 12, 15), _round(level, 14, 20)
    shapes: list[tuple[float, Points, Tissue]] = [
        (insula, tapered([(31, -18), (34, -4), (32, 12)], (2.6 * insula, 2.6 * insula)), Tissue.GRAY),
        (putamen, curve([(18, -20), (26, -17), (29, -4), (27, 10), (22, 8), (19, -6)]), Tissue.NUCLEUS),
        (putamen - 0.2, curve([(14, -8), (19, -10), (21.5, 0), (19, 8), (16, 2)]), Tissue.PALLIDUM),
        (thalamus, curve([(3, 2), (8, -3), (14, 4), (18, 15), (14, 23), (6, 20), (3, 12)]), Tissue.NUCLEUS),
        (caudate, oval(13, -25, 5.5 * caudate, 9.5 * caudate, -18), Tissue.NUCLEUS),
    ]
    for size, shape, tissue in shapes:
        if size > 0.25:
            middle = shape.mean(0)
            grown = middle + (0.55 + 0.45 * size) * (shape - middle)
            canvas.fill(grown, tissue)
            canvas.fill(mirrored(grown), tissue)


def _draw_ventricles(canvas: Canvas, level: float) -> None:
    front, body, back = _round(level, 20, 15), _round(level, 30, 11), _round(level, 16, 15)
    third = _round(level, 4, 15)
    for shape in _lateral_ventricle(front, body, back):
        canvas.fill(shape, Tissue.CSF)
        canvas.fill(mirrored(shape), Tissue.CSF)
    if third > 0.2:
        canvas.fill(oval(0, 8, 2.2 * third + 0.6, 13 * third, 0), Tissue.CSF)
    if front > 0.3:
        canvas.fill(tapered([(0, -34), (0, -20), (0, -4)], (1.2, 1.0, 1.0)), Tissue.WHITE)
    if back > 0.3:  # choroid plexus
        for sign in _SIDES:
            canvas.fill(oval(sign * 25, 33, 2.6 * back, 5 * back, -sign * 30, 2, 0.15), Tissue.MUCOSA)
    if -8 <= level < 6:
        canvas.fill(curve([(0, 24), (11, 30), (13, 36), (0, 33), (-13, 36), (-11, 30)]), Tissue.CSF)


def _lateral_ventricle(front: float, body: float, back: float) -> list[Points]:
    shapes = []
    if front > 0.2:
        shapes.append(tapered([(2.5, -12), (5, -22), (10, -31), (14, -38)], (5 * front, 7 * front, 7.5 * front, 1)))
    if body > 0.2:
        shapes.append(tapered([(11, -34), (8, -18), (9, 2), (15, 20), (22, 33)], (2, 8 * body, 9 * body, 9 * body, 3)))
    if back > 0.2:
        shapes.append(
            tapered([(17, 20), (24, 29), (26, 40), (22, 54), (17, 64)], (4, 9 * back, 9 * back, 5 * back, 0.6))
        )
    return shapes


def _draw_sinus(canvas: Canvas, level: float, inner: float) -> None:
    back = float(head_outline(level, inner)[:, 1].max())
    front = float(head_outline(level, inner)[:, 1].min())
    canvas.fill([(-4, back + 1), (4, back + 1), (0, back - 7)], Tissue.BLOOD)
    if level > 10:
        canvas.fill([(-2.5, front - 0.5), (2.5, front - 0.5), (0, front + 5)], Tissue.BLOOD)
        canvas.stroke([(0, front), (0, front + 28)], Tissue.DURA, 0.6)


def _draw_temporal_muscles(canvas: Canvas, level: float, scalp: float) -> None:
    thick = float(np.interp(level, [-55, -10, 32], [14, 9, 0]))
    edge = head_outline(level, scalp)
    side = edge[(np.abs(edge[:, 1] + 22) < 34) & (edge[:, 0] > 0)]
    side = side[np.argsort(side[:, 1])]
    muscle = curve(np.vstack([side[::3] + (4.5 * thick / 9, 0), (side[::3] - (8, 0))[::-1]]))
    canvas.fill(muscle, Tissue.MUSCLE)
    canvas.fill(mirrored(muscle), Tissue.MUSCLE)


# --- Below the eyes: base of the skull, cerebellum, brain stem


def _draw_base(canvas: Canvas, level: float, inner: float) -> None:
    marrow = canvas.mask(head_outline(level, inner - 4))
    x, y = canvas.grid_mm()
    mixed = _field(x / 7, y / 7, level, 8)
    canvas.image[marrow] = np.where(mixed > 0.9, Tissue.BONE, np.where(mixed < -0.7, Tissue.MUSCLE, Tissue.MARROW))[
        marrow
    ]
    fossa = oval(
        0,
        46,
        float(np.interp(level, [-50, -34, -8], [34, 50, 62])),
        float(np.interp(level, [-50, -8], [38, 44])),
        0,
        2.2,
    )
    size = float(np.interp(level, [-46, -34, -8], [0.0, 0.7, 1.15]))
    temporal = oval(42, -14, 25 * size, 34 * size, 8, 2.2, 0.04)
    chambers = [fossa] + ([temporal, mirrored(temporal)] if size > 0.2 else [])
    within = canvas.mask(head_outline(level, inner))
    for chamber in chambers:
        canvas.stroke(chamber, Tissue.BONE, 4, closed=True)
    brain = canvas.like(Tissue.CSF)
    cranium = canvas.mask(*chambers) & within
    _draw_lobes(brain, level, cranium, canvas.mask(fossa))
    canvas.paste(brain, cranium)
    _draw_petrous(canvas, level)
    _draw_sinus(canvas, level, inner)
    if level < -11:
        _draw_orbits(canvas, level)
        _draw_nose(canvas, level)


def _draw_petrous(canvas: Canvas, level: float) -> None:
    """The ridge between the temporal lobe and the cerebellum, with the air cells of the mastoid in its lower part."""
    thick = float(np.interp(level, [-50, -26, -8], [1.2, 0.9, 0.12]))
    for sign in _SIDES:
        ridge = tapered([(sign * 17, 12), (sign * 40, 18), (sign * 66, 30)], (6 * thick, 14 * thick, 20 * thick))
        canvas.fill(ridge, Tissue.BONE)
        if thick > 0.5:
            cells = noise(canvas.image.shape, 2.4 / canvas.mm_per_px, 95) > -0.1
            mastoid = canvas.mask(tapered([(sign * 44, 20), (sign * 64, 32)], (9 * thick, 17 * thick)))
            canvas.image[cells & mastoid] = Tissue.AIR


def _draw_lobes(canvas: Canvas, level: float, cranium: Mask, fossa: Mask) -> None:
    x, y = canvas.grid_mm()
    depth = _depth_mm(canvas, cranium)
    lobes = depth > 1.2
    furrows = _sulci(canvas, level, lobes)
    cortex = lobes & ~furrows
    canvas.image[:] = np.where(cortex, np.where(_depth_mm(canvas, cortex) < 3.0, Tissue.GRAY, Tissue.WHITE), Tissue.CSF)
    _draw_cerebellum(canvas, level, depth, fossa)
    stem = float(np.interp(level, [-50, -36, -20, -8], [8, 12, 17, 14]))
    canvas.fill(oval(0, 18, stem + 6, stem + 2), Tissue.CSF)
    canvas.fill(oval(0, 19, stem, stem * 0.82, 0, 2.3), Tissue.WHITE)
    canvas.fill(oval(0, 8, 2.0, 2.0), Tissue.BLOOD)
    fourth = _round(level, -26, 18)
    if fourth > 0.3:
        canvas.fill(curve([(0, 30), (9 * fourth, 34), (0, 42), (-9 * fourth, 34)]), Tissue.CSF)


def _draw_cerebellum(canvas: Canvas, level: float, depth: Image, fossa: Mask) -> None:
    """Thin leaves along the surface, white matter in the middle of each half."""
    x, y = canvas.grid_mm()
    back = fossa & (y > 24 + 0.1 * np.abs(x)) & (depth > 1.2)
    bent = depth + 2.6 * _field(x / 12, y / 12, level, 9)
    leaves = np.abs(np.sin(np.pi * bent / 3.2)) < 0.17
    core = np.minimum(((np.abs(x) - 20) / 17) ** 2 + ((y - 48) / 17) ** 2, 9.0)
    white = core + 0.35 * _field(x / 5, y / 5, level, 10) < 0.8
    tissue = np.where(white, Tissue.WHITE, np.where(leaves & (core > 1.3), Tissue.CSF, Tissue.GRAY))
    branch = (np.abs(np.sin(np.pi * bent / 3.2 + np.pi / 2)) < 0.22) & (core < 3.2)
    tissue = np.where(branch & ~white, Tissue.WHITE, tissue)
    canvas.image[back] = tissue[back]
    vermis = back & (np.abs(x) < 1.0 + 0.5 * np.sin(y / 3)) & (y > 66)
    canvas.image[vermis] = Tissue.CSF


def _draw_orbits(canvas: Canvas, level: float) -> None:
    eye = _round(level, -24, 13)
    for sign in _SIDES:
        cone = np.array([(14, -84), (32, -93), (49, -82), (43, -62), (22, -38), (15, -52)]) * (sign, 1)
        canvas.fill(curve(cone), Tissue.FAT)
        canvas.stroke(curve(np.roll(cone, -2, axis=0)[:5], False), Tissue.BONE, 2.0)
        for a, b in (((18, -78), (20, -46)), ((45, -76), (25, -46))):
            canvas.fill(tapered([(sign * a[0], a[1]), (sign * b[0], b[1])], (2, 4, 2)), Tissue.MUSCLE)
        if eye > 0.3:
            canvas.fill(oval(sign * 32, -86, 12.5 * eye, 12.5 * eye), Tissue.MUSCLE)
            canvas.fill(oval(sign * 32, -86, 11.5 * eye, 11.5 * eye), Tissue.VITREOUS)
            canvas.fill(oval(sign * 32, -86 - 9.5 * eye, 4.5 * eye, 2.2 * eye), Tissue.LENS)
        if eye > 0.9:
            canvas.fill(tapered([(sign * 31, -75), (sign * 25, -52), (sign * 16, -36)], (3.4, 3.2, 3.2)), Tissue.WHITE)


def _draw_nose(canvas: Canvas, level: float) -> None:
    canvas.fill(curve([(-12, -88), (0, -94), (12, -88), (13, -56), (9, -34), (-9, -34), (-13, -56)]), Tissue.MUCOSA)
    for x in (-9, -4.6, 4.6, 9):
        for y in (-80, -68, -57):
            canvas.fill(oval(x, y, 1.7, 4.6, 0, 2.6, 0.1), Tissue.AIR)
    for sign in _SIDES:
        canvas.fill(oval(sign * 6, -40, 4.6, 6.5, 0, 2.6), Tissue.AIR)


def _draw_face(canvas: Canvas, level: float) -> None:
    """Brow, cheeks, nose and ears in front of the skull."""
    brow = float(np.interp(level, [-50, -30, -12, -8], [14, 13, 8, 0]))
    front = float(head_outline(level)[:, 1].min()) - brow
    nose = _round(level, -46, 30)
    tip = front - 20 * nose
    half = [
        (3, tip + 1), (6, tip + 6), (9 + 3 * nose, front), (20, front + 2), (36, front + 10), (50, front + 28),
        (58, -44),
    ]  # fmt: skip
    face = [(-x, y) for x, y in reversed(half)] + [(float(x), float(y)) for x, y in half] + [(0, 20)]
    canvas.fill(curve(face), Tissue.SKIN)
    canvas.fill(curve(0.965 * (np.array(face) + (0, 20)) - (0, 20)), Tissue.FAT)
    if level < -12:
        for sign in _SIDES:
            canvas.fill(tapered([(sign * 74, 8), (sign * 82, 16), (sign * 84, 26)], (6, 4, 3)), Tissue.SKIN)
