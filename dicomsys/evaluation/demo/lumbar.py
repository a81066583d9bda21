"""The lumbar spine phantom: one sagittal section as T2-weighted signal.

Millimetres, x to the back and y downwards from the middle of the picture; `aside` is the distance from the
midline, positive to the patient's left.
"""

from functools import lru_cache

import numpy as np

from .drawing import Canvas, Image, PointList, Points, blurred, curve, noise, oval, tapered

AIR, FAT, MUSCLE, MARROW, CORTEX, FLUID, DISC, CORD, BLOOD = 8.0, 640.0, 165.0, 390.0, 90.0, 1150.0, 560.0, 470.0, 45.0

# Middle of the vertebral bodies from the tenth thoracic to the third sacral one, and what the discs below them show.
_BODIES: PointList = [
    (22, -152), (17, -124), (9, -94), (-1, -62), (-9, -29), (-12, 5), (-7, 39), (6, 71), (28, 97), (50, 116), (65, 138),
]  # fmt: skip
_DISCS = (0.75, 0.8, 0.85, 0.95, 0.9, 0.85, 0.25, 0.55, 0.1, 0.05)
_SACRUM = 8


def lumbar_signal(canvas: Canvas, aside: float) -> None:
    """Paint one section over a canvas of air."""
    _draw_body(canvas, aside)
    _draw_front(canvas, aside)
    if abs(aside) < 10:
        _draw_processes(canvas, aside)
        _draw_canal(canvas, aside)
    else:
        _draw_joints(canvas, aside)
    _draw_column(canvas, aside)
    canvas.bend(1.0, 20, 820, (aside + 20) / 40)
    canvas.image *= _coil(canvas)


@lru_cache(maxsize=12)
def _texture(shape: tuple[int, int], cell_px: float, seed: int, stretch: float) -> Image:
    return noise(shape, cell_px, seed, stretch)


def _grain(canvas: Canvas, cell_mm: float, seed: int, aside: float, stretch: float = 1.0) -> Image:
    plane = _texture(canvas.image.shape, cell_mm / canvas.mm_per_px, seed, stretch)
    return np.roll(plane, round(aside * 3), 0)


def _path(shift_mm: float) -> Points:
    """The row of the bodies, moved to the back by `shift_mm`."""
    middle = np.asarray(_BODIES, float)
    ahead = np.gradient(middle, axis=0)
    back = np.column_stack([ahead[:, 1], -ahead[:, 0]]) / np.linalg.norm(ahead, axis=1)[:, None]
    result: Points = middle + shift_mm * back
    return result


def _draw_body(canvas: Canvas, aside: float) -> None:
    back = curve([(92, -170), (84, -110), (72, -50), (66, 0), (72, 40), (92, 80), (112, 120), (122, 170)], False)
    front = [(-160, 170), (-160, -170)]
    canvas.fill(np.vstack([back, front]), 300)
    inner = back - (1.6, 0)
    skin_to_fascia = np.interp(inner[:, 1], [-170, -60, 40, 100, 170], [7, 8, 15, 15, 12])
    fascia = inner - np.column_stack([skin_to_fascia, np.zeros(len(inner))])
    fat = canvas.mask(np.vstack([inner, fascia[::-1]]))
    canvas.image[fat] = (
        FAT - 60 * np.maximum(_grain(canvas, 5, 801, aside, 2.5) - 0.8, 0) + 14 * _grain(canvas, 9, 802, aside)
    )[fat]
    muscle = canvas.mask(np.vstack([fascia, _path(26)[::-1]]))
    streaks = np.maximum(_grain(canvas, 16, 803, aside, 0.14) - 0.75, 0)
    canvas.image[muscle] = (MUSCLE + 190 * streaks + 14 * _grain(canvas, 3, 804, aside))[muscle]
    canvas.stroke(fascia, 60, 1.2)


def _draw_front(canvas: Canvas, aside: float) -> None:
    """Bowel and fat in front of the spine, blurred by breathing, and the great vessel next to it."""
    belly = canvas.like(400)
    rng = np.random.default_rng(805)
    for x, y, size, value in rng.uniform((-140, -165, 8, 120), (-44, 165, 20, 620), (70, 4)):
        loop = oval(x + aside * 0.6, y, size, size * 0.75, 3 * x, 2, 0.12)
        belly.fill(loop, 210)
        belly.fill(loop.mean(0) + (1 - 2.2 / size) * (loop - loop.mean(0)), value)
    belly.image += 60 * _grain(canvas, 4, 806, aside, 1.6)
    belly.bend(4.0, 16, 830)
    belly.image = blurred(belly.image, 1.7 / canvas.mm_per_px)
    front = np.vstack([_path(-19), [(-160, 170), (-160, -170)]])
    canvas.paste(belly, canvas.mask(front))
    canvas.fill(tapered(_path(-21), (9, 7, 8, 10, 12, 9)), FAT - 170)
    vessel = _path(-28)[:9] - (np.array([0, 1, 2, 3, 3, 2, 0, -4, -9])[:, None] * (1, 0))
    if -2 < aside < 14:
        canvas.fill(tapered(vessel, (18, 17, 16, 14, 13, 7, 3)), BLOOD)
    elif aside < -6:
        canvas.fill(tapered(vessel, (15, 18, 20, 19, 17, 9, 2)), BLOOD + 30)


def _corners(i: int, half_depth: float, half_height: float) -> Points:
    """A vertebral body with waists and rounded edges."""
    middle = np.asarray(_BODIES[i], float)
    row = np.asarray(_BODIES, float)
    down = np.gradient(row, axis=0)[i]
    down = down / np.linalg.norm(down)
    back = np.array([down[1], -down[0]])
    shape = [
        (-1, -0.88), (-0.88, -1), (0, -0.93), (0.88, -1), (1, -0.88), (0.94, 0), (1, 0.88), (0.88, 1), (0, 0.93),
        (-0.88, 1), (-1, 0.88), (-0.92, 0),
    ]  # fmt: skip
    return curve([middle + back * half_depth * x + down * half_height * y for x, y in shape])


def _draw_column(canvas: Canvas, aside: float) -> None:
    row = np.asarray(_BODIES, float)
    for i in range(len(row) - 1):
        _draw_disc(canvas, i, row[i], row[i + 1])
    marrow = MARROW + 26 * _grain(canvas, 2.2, 807, aside) + 20 * _grain(canvas, 9, 808, aside)
    for i in range(len(row)):
        sacral = i >= _SACRUM
        depth = float(np.interp(i, [0, 3, 7, 8, 10], [14.5, 16, 17.5, 14, 8]))
        height = float(np.interp(i, [0, 3, 7, 8, 10], [11.5, 12.6, 13.2, 12.2, 10.5]))
        body = _corners(i, depth, height)
        canvas.fill(body, CORTEX)
        inside = canvas.mask(_corners(i, depth - 0.8, height - 0.9))
        canvas.image[inside] = marrow[inside] + 25 * sacral
        if abs(aside) < 5 and not sacral:  # the vein that leaves the body at its back
            middle = row[i]
            canvas.stroke([middle + (depth * 0.25, 0), middle + (depth * 0.92, 0.5)], MARROW + 260, 1.6)


def _draw_disc(canvas: Canvas, i: int, above: Points, below: Points) -> None:
    middle, down = (above + below) / 2, below - above
    turn = float(np.degrees(np.arctan2(-down[0], down[1])))
    depth = float(np.interp(i, [0, 3, 7, 8, 9], [14.5, 16.2, 18, 12, 8]))
    height = float(np.interp(i, [0, 2, 5, 7, 8, 9], [3.4, 4.4, 5.8, 5.2, 2.2, 1.6]))
    wet = _DISCS[i]
    if wet < 0.3 and i < _SACRUM:
        height, depth = height * 0.8, depth + 2.4  # narrowed and bulging
    canvas.fill(oval(middle[0], middle[1], depth, height, turn, 3.2), 70)
    canvas.fill(oval(middle[0] + 0.5, middle[1], depth * 0.70, height * 0.62, turn, 2.6), 70 + wet * DISC)
    canvas.fill(oval(middle[0] + 0.5, middle[1], depth * 0.5, 0.7, turn), 70 + 0.72 * wet * DISC)


def _draw_canal(canvas: Canvas, aside: float) -> None:
    """Fluid with the end of the cord and the nerve roots, fat behind it, ligaments along both sides."""
    narrow = float(np.sqrt(1 - (aside / 11) ** 2))
    widths = np.array([15.5, 16, 16.5, 17, 17, 16.5, 15, 14.5, 11, 7, 2]) * narrow
    middle = _path(26)
    canvas.fill(tapered(middle + (1.2, 0), widths + 6), FAT - 80)
    canvas.fill(tapered(middle, widths + 2.2), CORTEX + 20)
    canvas.fill(tapered(middle, widths), FLUID)
    roots = canvas.mask(tapered(_path(27.5)[3:9], np.array([10, 11, 10, 9, 7, 4]) * narrow))
    strands = _grain(canvas, 44, 809, aside, 0.03)
    canvas.image[roots] -= (430 * np.clip(strands + 0.6, 0, 1.5))[roots]
    if abs(aside) < 6:
        canvas.fill(tapered(_path(26.5)[:5], (8.5, 8.8, 9.5, 6.5, 0.6)), CORD)
        canvas.fill(tapered(_path(26.5)[:4], (1.2, 1.2, 1.0)), CORD + 90)


def _draw_processes(canvas: Canvas, aside: float) -> None:
    """Spinous processes with fat and ligaments between them."""
    size = float(np.interp(abs(aside), [0, 4, 8], [1, 0.8, 0.25]))
    behind = _path(38)
    canvas.fill(tapered(_path(44)[:9], (16, 22, 24, 16)), FAT - 130)
    for i in range(9):
        x, y = behind[i] + (2, 11)
        droop = float(np.interp(i, [0, 3, 9], [13, 5, 3]))
        long = float(np.interp(i, [0, 4, 7, 9], [26, 31, 25, 14])) * size
        high = float(np.interp(i, [0, 4, 7, 9], [5, 9.5, 7.5, 4]))
        process = curve(
            [
                (x - 3, y - 4),
                (x + long * 0.4, y - 0.7 * high + droop * 0.5),
                (x + long, y - high + droop), (x + long + 2, y + droop), (x + long, y + high + droop),
                (x + long * 0.4, y + 0.7 * high + droop * 0.4),
                (x - 2, y + 4),
            ]
        )  # fmt: skip
        canvas.fill(process, CORTEX)
        canvas.fill(process.mean(0) + 0.9 * (process - process.mean(0)), MARROW + 30)
        canvas.fill(tapered([(x + 4, y + high + 3), (x + long, y + high + 6 + droop)], (5, 3)), MUSCLE + 150)


def _draw_joints(canvas: Canvas, aside: float) -> None:
    """Beside the canal: nerve roots in fat under each pedicle, and the joints behind."""
    near = _path(24)
    canvas.fill(tapered(near[:9], (15, 16, 17, 15)), FAT - 60)
    joint = _path(34)
    for i in range(9):
        if i < 8:
            pedicle = np.array([_path(12)[i] - (0, 4), near[i] - (0, 5), joint[i] + (1, -2)])
            canvas.fill(tapered(pedicle, (15, 11, 13)), CORTEX)
            canvas.fill(tapered(pedicle, (12.6, 8.6, 10.6)), MARROW)
        half = (near[i] + near[min(i + 1, 9)]) / 2
        canvas.fill(oval(half[0] - 1.5, half[1] - 4.5, 3.6, 2.9, 20), 230)
        canvas.fill(oval(half[0] + 2.6, half[1] - 1.5, 1.1, 1.1), BLOOD)
        low, high = joint[i] + (3, 12), joint[i] + (8.5, 19)
        for place, size in ((high, 6.6), (low, 5.6)):
            canvas.fill(oval(place[0], place[1], size, size * 1.5, -22, 2.2, 0.05), CORTEX)
            canvas.fill(oval(place[0], place[1], size - 1.5, size * 1.5 - 1.8, -22, 2.2, 0.05), MARROW + 10)
        canvas.stroke([low + (5, -5), low + (1.5, 9)], 900 if i in (5, 6) else 420, 0.9)


def _coil(canvas: Canvas) -> Image:
    """The coil lies under the back: what is far from it is darker."""
    x, y = canvas.grid_mm()
    away = np.sqrt((105 - x) ** 2 + (0.45 * y) ** 2)
    return (0.6 + 0.65 * np.exp(-((away / 125) ** 2))).astype(np.float32)
