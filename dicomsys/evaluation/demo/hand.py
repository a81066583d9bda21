"""The hand phantom seen from the palm: how much an X-ray beam is weakened at each point.

Millimetres, x to the right and y downwards from the middle of the image plate; the fingers point up.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from .drawing import Canvas, Image, PointList, Points, blurred, curve, noise, oval, tapered

WIDTH, HEIGHT, MM_PER_PX = 900, 1290, 0.2

# Joints of each finger from the base of its metacarpal to its tip, and the width of the shafts.
_FINGERS: list[tuple[PointList, float]] = [
    ([(-27, 46), (-49, 12), (-65, -18), (-76, -40)], 10.5),
    ([(-14, 32), (-25, -26), (-33, -68), (-37, -92), (-39, -107)], 9.2),
    ([(-1, 29), (-3, -32), (-4, -79), (-4, -107), (-4, -123)], 9.4),
    ([(11, 32), (18, -23), (24, -66), (27, -92), (28, -108)], 8.4),
    ([(21, 38), (37, -12), (49, -44), (55, -61), (59, -75)], 7.6),
]
_CARPALS: list[PointList] = [
    [(-32, 47), (-23, 44), (-18, 50), (-20, 57), (-29, 58)],  # trapezium
    [(-18, 42), (-10, 39), (-7, 46), (-11, 54), (-18, 52)],  # trapezoid
    [(-7, 37), (3, 35), (8, 40), (8, 54), (2, 63), (-6, 60), (-9, 50)],  # capitate
    [(8, 38), (20, 39), (27, 44), (22, 54), (13, 60), (9, 52)],  # hamate
    [(-26, 60), (-17, 55), (-10, 58), (-9, 66), (-18, 77), (-26, 74)],  # scaphoid
    [(-8, 66), (1, 64), (8, 66), (9, 75), (1, 82), (-9, 78)],  # lunate
    [(11, 63), (21, 56), (28, 60), (26, 70), (17, 75), (11, 71)],  # triquetrum
    [(22, 62), (28, 61), (30, 67), (25, 70)],  # pisiform
]
_RADIUS: PointList = [
    (-31, 84), (-33, 78), (-24, 80), (-10, 84), (3, 86), (9, 88), (9, 96), (2, 108), (-3, 130), (-5, 160),
    (-21, 160), (-23, 130),
    (-29, 104),
]  # fmt: skip
_ULNA: PointList = [
    (12, 91), (18, 89), (25, 90), (28, 84), (30, 90), (28, 102), (25, 118), (24, 160), (12, 160), (13, 118),
    (11, 100),
]  # fmt: skip


def hand_attenuation() -> Image:
    """Weakening of the beam (natural logarithm of air over transmitted), 0 for air to about 2.5 in thick bone."""
    canvas = Canvas(WIDTH, HEIGHT, MM_PER_PX, center_mm=(-4, -7))
    carpals = [(curve(carpal), 0.85) for carpal in _CARPALS]
    small = [(oval(-43, 15, 2.6, 3.4, 30), 0.35), (oval(-50, 10, 2.2, 3.0, 20), 0.3), (carpals[7][0], 0.4)]
    long = [*_finger_bones(), (curve(_RADIUS), 1.25), (curve(_ULNA), 1.0)]
    bones = sum(
        (_bones(canvas, shapes) for shapes in (long, carpals[0:7:2], carpals[1:7:2], small)), canvas.like().image
    )
    return _soft_tissue(canvas) + blurred(bones, 1.0) * (1 + 0.11 * _grain(canvas))


def _grain(canvas: Canvas) -> Image:
    """Trabeculae: fine lines, mostly along the fingers."""
    shape = canvas.image.shape
    return 0.7 * noise(shape, 5.5, 401, 0.45) + 0.5 * noise(shape, 3.0, 402) + 0.5 * noise(shape, 26, 403)


def _finger_bones() -> list[tuple[Points, float]]:
    bones = []
    for joints, width in _FINGERS:
        last = len(joints) - 2
        for i in range(last + 1):
            outline = _long_bone(joints[i], joints[i + 1], width * (1.0, 0.92, 0.8, 0.66)[i], tip=i == last)
            bones.append((outline, 1.0 - 0.12 * i))
    return bones


def _long_bone(base: tuple[float, float], end: tuple[float, float], width: float, tip: bool) -> Points:
    """Base, waist and head of a tubular bone; a finger's last one ends in a tuft."""
    a, b = np.array(base), np.array(end)
    along = (b - a) / np.linalg.norm(b - a)
    length = float(np.linalg.norm(b - a)) - (1.0 if tip else 2.6)
    across = np.array([-along[1], along[0]])
    if tip:
        profile = (
            (0, 0.5), (0.03, 0.74), (0.10, 0.8), (0.25, 0.5), (0.5, 0.36), (0.75, 0.33), (0.87, 0.44),
            (0.96, 0.44), (1, 0.2),
        )  # fmt: skip
    else:
        profile = (
            (0, 0.5), (0.03, 0.7), (0.1, 0.72), (0.26, 0.53), (0.5, 0.43), (0.72, 0.44), (0.86, 0.6), (0.94, 0.6),
            (1, 0.26),
        )  # fmt: skip
    middle = np.array([a + along * (1.0 + length * station) for station, _ in profile])
    aside = np.array([across * width * half for _, half in profile])
    return curve(np.vstack([middle + aside, (middle - aside)[::-1]]))


def _bones(canvas: Canvas, shapes: Sequence[tuple[Points, float]]) -> Image:
    """Shells of hard bone around spongy bone, for outlines that do not touch: brightest just inside the edge."""
    thick = canvas.like()
    for outline, amount in shapes:
        thick.fill(outline, amount)
    inside = (thick.image > 0).astype(np.uint8)
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, 5) * canvas.mm_per_px
    ball = np.sqrt(1 - (1 - np.minimum(depth / 4.5, 1)) ** 2)
    shell = np.exp(-(((depth - 1.0) / 0.85) ** 2))
    return np.asarray(thick.image * (0.56 * ball + 0.46 * shell), np.float32)


def _soft_tissue(canvas: Canvas) -> Image:
    shapes: list[Points] = []
    for joints, width in _FINGERS:
        path = list(joints)
        (x0, y0), (x1, y1) = path[-2], path[-1]
        reach = 7 / float(np.hypot(x1 - x0, y1 - y0))
        path[-1] = (x1 + (x1 - x0) * reach, y1 + (y1 - y0) * reach)
        shapes.append(tapered(path, _finger_widths(width, len(path))))
        shapes.append(oval(x1, y1, width * 0.86, width * 0.95))
    palm = [
        (-30, -16), (-14, -30), (4, -34), (22, -26), (42, -14), (44, 14), (37, 44), (33, 76), (34, 112), (36, 170),
        (-36, 170), (-37, 112), (-40, 80), (-46, 54), (-54, 26), (-46, 2),
    ]  # fmt: skip
    shapes.append(curve(palm))
    inside = canvas.mask(*shapes).astype(np.uint8)
    depth = np.minimum(cv2.distanceTransform(inside, cv2.DIST_L2, 5) * canvas.mm_per_px / 17, 1)
    flesh = blurred(np.sqrt(1 - (1 - depth) ** 2).astype(np.float32), 7)
    muscles = _muscles(canvas, [((-38, 30), 17, 30, -32), ((26, 18), 12, 30, 14)])
    lines = 0.02 * noise(flesh.shape, 9, 404, 0.4) + 0.03 * noise(flesh.shape, 40, 405)
    return 0.80 * flesh * (1 + lines) + 0.16 * muscles


def _muscles(canvas: Canvas, bellies: Sequence[tuple[tuple[float, float], float, float, float]]) -> Image:
    layer = canvas.like()
    for (x, y), rx, ry, turn in bellies:
        layer.fill(oval(x, y, rx, ry, turn), 1.0)
    return blurred(layer.image, 24)


def _finger_widths(width: float, joints: int) -> list[float]:
    return list(np.interp(np.linspace(0, 1, joints + 2), [0, 0.5, 1], [2.9 * width, 2.35 * width, 1.45 * width]))
