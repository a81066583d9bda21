"""Lines of text as masks, in any script. Sizes come from millimetres, so that print is legible at any resolution."""

from __future__ import annotations

import struct
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, features

from apps.core.errors import PermanentError

FONT_FOLDERS = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"))
PACKAGES = {
    "DejaVuSans.ttf": "fonts-dejavu-core",
    "DejaVuSans-Bold.ttf": "fonts-dejavu-core",
    "DroidSansFallbackFull.ttf": "fonts-droid-fallback",  # Chinese, Japanese
    "wqy-microhei.ttc": "fonts-wqy-microhei",  # the same and Korean
}
FALLBACKS = ("DroidSansFallbackFull.ttf", "wqy-microhei.ttc")
REGULAR = ("DejaVuSans.ttf", *FALLBACKS)
BOLD = ("DejaVuSans-Bold.ttf", *FALLBACKS)
CAP_PER_EM = 0.729  # height of a capital letter of DejaVu Sans
ASCENT_PER_EM, LINE_PER_EM = 0.98, 1.28  # room for accents above and descenders below, CJK included
ELLIPSIS = "…"
JOINERS = "\u200c\u200d"  # they shape letters of some scripts


class MissingFontError(PermanentError):
    """A font file is not installed; the text names the Debian package to install."""


@dataclass(frozen=True)
class Line:
    """One line: `mask` (height, width) is 0 where the background stays and 255 where there is ink."""

    mask: NDArray[np.uint8]
    baseline: int

    @property
    def width(self) -> int:
        """Pixels from its left to its right end."""
        return int(self.mask.shape[1])


def line_height(cap_px: float) -> int:
    """Pixels from one line to the next; cap_px is the height of a capital letter."""
    return round(cap_px / CAP_PER_EM * LINE_PER_EM)


@lru_cache(maxsize=4096)
def draw_line(text: str, cap_px: float, is_bold: bool = False) -> Line:
    """The text in one line of `line_height(cap_px)` pixels, right-to-left scripts in their order.

    Raises MissingFontError. The mask is kept for the next call: do not write into it.
    """
    em_px = round(cap_px / CAP_PER_EM)
    text, names = _printable(text), BOLD if is_bold else REGULAR
    direction = _direction(text)
    inks = [_ink(part, _font_of(part[0], names), em_px, direction) for part in _parts(text, names, direction != "rtl")]
    if direction == "rtl":
        inks.reverse()
    overhang = em_px // 4
    mask = np.zeros((line_height(cap_px), round(sum(ink.advance for ink in inks)) + 2 * overhang + 2), np.uint8)
    x = 0.0
    for ink in inks:
        left = round(x)
        area = mask[:, left : left + ink.mask.shape[1]]
        np.maximum(area, ink.mask[: area.shape[0], : area.shape[1]], out=area)
        x += ink.advance
    mask = mask[:, overhang : overhang + max(1, round(x)) + 1]
    mask.setflags(write=False)
    return Line(mask, round(em_px * ASCENT_PER_EM))


def fit_line(text: str, cap_px: float, width_px: int, is_bold: bool = False) -> Line:
    """The line, its end replaced by an ellipsis where it would be wider than width_px."""
    line = draw_line(text, cap_px, is_bold)
    while line.width > width_px and len(text) > 1:
        keep = min(len(text) - 1, max(1, len(text) * width_px // line.width))
        text = text[:keep]
        line = draw_line(text.rstrip() + ELLIPSIS, cap_px, is_bold)
    return line


def text_problems() -> list[str]:
    """What keeps text from being drawn right on this machine, each with what to do; [] when all is well."""
    problems = []
    for name in PACKAGES:
        try:
            _font_file(name)
        except MissingFontError as error:
            problems.append(str(error))
    if not features.check("raqm"):
        problems.append("Arabic and Hebrew cannot be laid out: install the package libfribidi0")
    return problems


@dataclass(frozen=True)
class _Ink:
    """A letter, or a stretch of letters that shape each other, after a quarter of an em; then the next one begins."""

    mask: NDArray[np.uint8]
    advance: float


@lru_cache(maxsize=8192)
def _ink(part: str, name: str, em_px: int, direction: str | None) -> _Ink:
    font, overhang = _font(name, em_px), em_px // 4
    advance = font.getlength(part, direction=direction)
    canvas = Image.new("L", (round(advance) + 2 * overhang + 1, round(em_px * LINE_PER_EM) + 1))
    at = (overhang, round(em_px * ASCENT_PER_EM))
    ImageDraw.Draw(canvas).text(at, part, fill=255, font=font, anchor="ls", direction=direction)
    return _Ink(np.asarray(canvas, np.uint8), advance)


def _parts(text: str, names: tuple[str, ...], is_splittable: bool) -> Iterator[str]:
    """Stretches of one font in reading order; single letters where the script's letters do not shape each other."""
    for _, run in groupby(text, lambda c: _font_of(c, names)):
        stretch = "".join(run)
        yield from stretch if is_splittable and all(_stands_alone(c) for c in stretch) else (stretch,)


def _stands_alone(character: str) -> bool:
    """Latin, Greek, Cyrillic, punctuation, Chinese, Japanese and Korean, each with its accents in one character."""
    code = ord(character)
    known = code < 0x0590 or 0x1E00 <= code < 0x2C00 or 0x2E80 <= code < 0xFB00 or 0xFF00 <= code < 0xFFF0
    return known and not unicodedata.combining(character) and character not in JOINERS


def _printable(text: str) -> str:
    """The text without what would move or hide ink: control and formatting characters."""
    spaced = "".join(" " if c.isspace() else c for c in unicodedata.normalize("NFC", text))
    return "".join(c for c in spaced if c in JOINERS or not unicodedata.category(c).startswith("C"))


def _direction(text: str) -> str | None:
    """ "rtl" or "ltr" by the first letter, None where the layout engine knows no direction."""
    if not features.check("raqm"):
        return None
    kinds = (unicodedata.bidirectional(c) for c in text)
    return "rtl" if next((kind for kind in kinds if kind in ("L", "R", "AL")), "L") != "L" else "ltr"


@lru_cache(maxsize=4096)
def _font_of(character: str, names: tuple[str, ...]) -> str:
    """The first font that has the character; where none has, the first, which draws an empty box.

    Raises MissingFontError where a font that is not installed might have it.
    """
    missing = None
    for name in names:
        try:
            if _has(name, ord(character)):
                return name
        except MissingFontError as error:
            missing = missing or error
    if missing:
        raise missing
    return names[0]


@lru_cache(maxsize=64)
def _font(name: str, em_px: int) -> ImageFont.FreeTypeFont:
    engine = ImageFont.Layout.RAQM if features.check("raqm") else ImageFont.Layout.BASIC
    return ImageFont.truetype(str(_font_file(name)), em_px, layout_engine=engine)


@cache
def _font_file(name: str) -> Path:
    for folder in FONT_FOLDERS:
        for path in sorted(folder.rglob(name)):
            return path
    raise MissingFontError(f"the font {name} is missing: install the package {PACKAGES[name]}")


def _has(name: str, code: int) -> bool:
    starts, ends = _coverage(name)
    at = bisect_right(starts, code) - 1
    return at >= 0 and code <= ends[at]


@cache
def _coverage(name: str) -> tuple[list[int], list[int]]:
    """First and last code points of every range in the font's Unicode table (OpenType cmap, format 12)."""
    data = _font_file(name).read_bytes()
    start = struct.unpack_from(">L", data, 12)[0] if data.startswith(b"ttcf") else 0  # first font of a collection
    (tables,) = struct.unpack_from(">H", data, start + 4)
    records = (struct.unpack_from(">4sLLL", data, start + 12 + 16 * i) for i in range(tables))
    cmap = next(offset for tag, _, offset, _ in records if tag == b"cmap")
    (count,) = struct.unpack_from(">H", data, cmap + 2)
    encodings = (struct.unpack_from(">HHL", data, cmap + 4 + 8 * i) for i in range(count))
    table = next(cmap + offset for platform, encoding, offset in encodings if (platform, encoding) == (3, 10))
    (groups,) = struct.unpack_from(">L", data, table + 12)
    ranges = [struct.unpack_from(">LLL", data, table + 16 + 12 * i) for i in range(groups)]
    return [first for first, _, _ in ranges], [last for _, last, _ in ranges]
