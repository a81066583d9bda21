"""The chest phantom seen from the back: how much a frontal X-ray beam is weakened at each point.

It uses the ribs and lung vessels of the torso phantom, stretched to a deep breath. Millimetres, x to the
patient's left (to the right of the film), y downwards from the middle of the film.
"""

import cv2
import numpy as np

from . import skeleton, thorax, trunk
from .drawing import Canvas, Image, PointList, Points, Tree, blurred, curve, mirrored, noise, oval, resized, tapered

WIDTH, HEIGHT, MM_PER_PX = 1760, 2140, 0.2
_TOP_MM, _STRETCH = -158.0, 1.2  # where level 0 of the torso lies, and millimetres of film a millimetre of level
_SIDES = (-1, 1)

_RIGHT_LUNG: PointList = [
    (-26, -150), (-50, -163), (-80, -146), (-106, -104), (-124, -48), (-134, 20), (-138, 76), (-137, 112),
    (-118, 96), (-88, 82),
    (-60, 80), (-34, 92), (-16, 97), (-7, 40), (-8, -30), (-9, -100),
]  # fmt: skip
_LEFT_LUNG: PointList = [
    (26, -150), (50, -163), (80, -146), (106, -104), (124, -48), (135, 20), (139, 80), (138, 122), (120, 108), (92, 96),
    (66, 94), (40, 104), (14, 104), (7, 40), (8, -30), (9, -100),
]  # fmt: skip
_HEART: PointList = [
    (-26, -120), (-29, -80), (-31, -42), (-38, -18), (-50, 12), (-55, 44), (-48, 74), (-34, 98), (24, 114),
    (78, 102), (96, 78),
    (88, 46), (68, 14), (48, -10), (41, -24), (36, -36), (38, -52), (34, -66), (24, -76), (22, -120), (0, -140),
]  # fmt: skip


def chest_attenuation() -> Image:
    """Weakening of the beam (natural logarithm of air over transmitted), about 0 for air to 6 under the diaphragm."""
    coarse = Canvas(WIDTH // 2, HEIGHT // 2, MM_PER_PX * 2)
    soft = _soft_tissue(coarse)
    image = resized(soft, WIDTH, HEIGHT)
    canvas = Canvas(WIDTH, HEIGHT, MM_PER_PX)
    image += _lung_markings(canvas)
    image += _bones(canvas)
    image += _airways(canvas)
    return image


def _thickness(canvas: Canvas, outline: Points | PointList, edge_mm: float) -> Image:
    """1 well inside, falling like the edge of a ball over `edge_mm` towards the outline."""
    inside = canvas.mask(curve(outline)).astype(np.uint8)
    depth = np.minimum(cv2.distanceTransform(inside, cv2.DIST_L2, 5) * canvas.mm_per_px / edge_mm, 1)
    return blurred(np.sqrt(1 - (1 - depth) ** 2).astype(np.float32), 1.2)


def _soft_tissue(canvas: Canvas) -> Image:
    body = [(0, -260), (38, -240), (42, -196), (70, -178), (120, -168), (168, -140), (200, -80), (212, 80), (220, 260)]
    outline = [(-x, y) for x, y in reversed(body[1:])] + [(float(x), float(y)) for x, y in body]
    inside = _soft(canvas, curve(outline), 1.2)
    x, y = canvas.grid_mm()
    down = np.interp(y, [-214, -165, -110, 40, 214], [1.6, 2.4, 3.0, 3.3, 4.2]).astype(np.float32)
    image = inside * np.sqrt(np.maximum(0.0, 1 - (x / 205) ** 2)) * down
    fading = np.interp(y, [-165, -90, 60, 115], [0.72, 1, 1, 0.9]).astype(np.float32)
    heart = 0.55 * _thickness(canvas, _HEART, 14) + 0.25 * _thickness(canvas, _HEART, 50)  # it displaces lung
    for lung in (_RIGHT_LUNG, _LEFT_LUNG):
        air = 1.40 * _thickness(canvas, lung, 34) + 0.55 * _thickness(canvas, lung, 7)
        image -= air * fading * (1 - heart)
    for outline_mm, edge_mm, amount in _shadows():
        image += amount * _soft(canvas, outline_mm, edge_mm)
    return image + (0.03 * noise(image.shape, 30, 301) + 0.02 * noise(image.shape, 6, 304)) * inside


def _soft(canvas: Canvas, outline: Points, edge_mm: float) -> Image:
    return blurred(canvas.mask(outline).astype(np.float32), edge_mm / canvas.mm_per_px)


def _shadows() -> list[tuple[Points, float, float]]:
    """Further outlines, the width of their edges and what they add."""
    aorta = tapered([(20, -60), (31, -52), (30, -10), (26, 60), (20, 120)], (20, 24, 23, 22, 21))
    bubble = oval(70, 128, 27, 14, -12, 2.2, 0.07)
    shadows = [(aorta, 1.6, 0.20), (bubble, 1.2, -0.75), (oval(66, 148, 36, 30), 12, -0.25)]
    for sign in _SIDES:
        hilum = tapered([(sign * 24, -22), (sign * 42, -14), (sign * 54, 8), (sign * 58, 32)], (14, 20, 13, 4))
        muscle = curve([(sign * 96, -160), (sign * 150, -120), (sign * 146, -60), (sign * 118, -70), (sign * 84, -126)])
        shadows += [(hilum, 3.5, 0.36), (muscle, 5, 0.3), (oval(sign * 86, 58, 62, 58, sign * 12), 5, 0.14)]
    return shadows


def _y(level: Image | np.ndarray | float) -> np.ndarray:
    return _TOP_MM + _STRETCH * np.asarray(level)


def _lung_markings(canvas: Canvas) -> Image:
    markings = np.zeros_like(canvas.image)
    for sign, lung in ((-1, _RIGHT_LUNG), (1, _LEFT_LUNG)):
        layer = canvas.like()
        _draw_projected(layer, thorax.lung_vessels(sign))
        region = _soft(canvas, curve(lung), 1.2) * (1 - 0.6 * _soft(canvas, curve(_HEART), 3.0))
        markings += blurred(layer.image, 1.8) * region
    return markings


def _draw_projected(canvas: Canvas, tree: Tree) -> None:
    start, end = (np.column_stack([ends[:, 0], _y(ends[:, 2])]) for ends in (tree.start, tree.end))
    shades = np.interp(tree.radius, [0.42, 0.8, 1.6, 4], [0.07, 0.16, 0.34, 0.5])
    canvas.lines(start, end, shades, 2.4 * tree.radius)


def _airways(canvas: Canvas) -> Image:
    air = canvas.like()
    air.fill(tapered([(1, -214), (0, -150), (-2, -100), (-3, -62)], (17, 17, 16, 17)), 0.5)
    air.fill(tapered([(-3, -66), (-16, -46), (-34, -26)], (13, 13, 8)), 0.36)
    air.fill(tapered([(-3, -66), (14, -48), (40, -32)], (12, 11, 7)), 0.36)
    return -blurred(air.image, 7)


# --- Bones


def _bones(canvas: Canvas) -> Image:
    grain = 1 + 0.10 * noise(canvas.image.shape, 5, 302) + 0.06 * noise(canvas.image.shape, 14, 303)
    bones = np.zeros_like(canvas.image)
    for part in (_back_ribs, _front_ribs, _girdle, _spine):
        layer = canvas.like()
        part(layer)
        bones += layer.image
    return blurred(bones, 3.2) * grain


def _draw_bone(canvas: Canvas, path: Points | PointList, widths_mm: tuple[float, ...], strength: float) -> None:
    """A hollow bone: most is in the way of the beam just inside its edges."""
    for share, amount in ((1.0, 0.55), (0.93, 0.85), (0.85, 1.0), (0.74, 0.86), (0.6, 0.74), (0.4, 0.68)):
        canvas.fill(tapered(path, [share * width for width in widths_mm]), strength * amount)


def _rib_path(rib: int, first: float, last: float) -> Points:
    """The middle of a rib from angle to angle round the chest (0 at the spine, pi at the breast bone)."""
    head, falls, _ = skeleton.rib_span(rib)
    angle = np.linspace(first, last, 7)
    fallen = 1.15 * falls * (np.clip(angle - 0.3, 0, None) / 2.05) ** 1.5
    across = [_along_wall(float(head + fall), float(at)) for fall, at in zip(fallen, angle, strict=True)]
    return np.column_stack([across, _y(head + fallen)])


def _along_wall(level: float, angle: float) -> float:
    path = trunk.cavity_outline(level, 3.0)
    return float(np.interp(angle / (2 * np.pi) * len(path), np.arange(len(path)), path[:, 0]))


def _back_ribs(canvas: Canvas) -> None:
    for rib in range(12, 0, -1):
        path = _rib_path(rib, 0.1, 1.62 if rib < 11 else skeleton.rib_span(rib)[2])
        for side in (path, mirrored(path)):
            _draw_bone(canvas, side, (4, 8, 9, 10, 10.5, 10, 6), 0.36)


def _front_ribs(canvas: Canvas) -> None:
    for rib in range(10, 0, -1):
        path = _rib_path(rib, 1.5, float(np.interp(rib, [1, 2, 7, 10], [2.5, 2.55, 2.35, 1.95])))
        for side in (path, mirrored(path)):
            _draw_bone(canvas, side, (6, 9, 11, 12, 13, 13, 12), 0.25)


def _girdle(canvas: Canvas) -> None:
    for sign in _SIDES:
        blade = curve(
            [
                (sign * 128, -146), (sign * 116, -118), (sign * 112, -70), (sign * 122, -18), (sign * 134, 4),
                (sign * 141, -16), (sign * 147, -60), (sign * 152, -112), (sign * 160, -128), (sign * 150, -142),
            ]
        )  # fmt: skip
        canvas.fill(blade, 0.14)
        canvas.stroke(blade, 0.30, 1.6, closed=True)
        _draw_bone(canvas, [(sign * 118, -126), (sign * 142, -140), (sign * 166, -150)], (3, 7, 13), 0.40)
        canvas.fill(oval(sign * 174, -122, 22, 25), 0.62)
        canvas.stroke(oval(sign * 174, -122, 22, 25), 0.85, 1.4, closed=True)
        _draw_bone(canvas, [(sign * 180, -110), (sign * 190, -60), (sign * 194, 0)], (32, 24, 22), 0.8)
        collar = [
            (sign * 12, -124), (sign * 34, -131), (sign * 68, -143), (sign * 104, -152), (sign * 136, -150),
            (sign * 156, -154),
        ]  # fmt: skip
        _draw_bone(canvas, collar, (19, 13, 11, 11, 13, 12), 0.52)


def _spine(canvas: Canvas) -> None:
    for i in range(-3, 14):
        y = float(_y(trunk.VERTEBRA_MM * i + 14))
        half = 13.5 + 0.42 * i
        body = curve(
            [
                (-half, y - 12), (0, y - 11), (half, y - 12), (half * 0.88, y), (half, y + 12), (0, y + 11),
                (-half, y + 12), (-half * 0.88, y),
            ]
        )  # fmt: skip
        canvas.fill(body, 0.17)
        canvas.stroke(body, 0.25, 1.4, closed=True)
        for sign in _SIDES:
            canvas.fill(
                tapered(
                    [(sign * half * 0.7, y - 5), (sign * (half + 5), y - 7), (sign * (half + 11), y - 9)], (7, 6, 4)
                ),
                0.2,
            )
            canvas.stroke(oval(sign * half * 0.66, y - 3, 2.8, 4.6), 0.33, 1.2, closed=True)
        canvas.fill(tapered([(0, y + 1), (0.5, y + 7), (0, y + 13)], (2.5, 4.5, 3)), 0.30)
