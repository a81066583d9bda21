"""Film sizes and printer profiles: from millimetres to pixels. Plain Python."""

from __future__ import annotations

from dataclasses import dataclass

MM_PER_INCH = 25.4


def _inches(width: float, height: float) -> tuple[float, float]:
    return width * MM_PER_INCH, height * MM_PER_INCH


# Film Size ID (PS3.3 C.13.3): width and height in mm of a sheet that stands upright
FILM_SIZES_MM: dict[str, tuple[float, float]] = {
    "8INX10IN": _inches(8, 10),
    "8_5INX11IN": _inches(8.5, 11),
    "10INX12IN": _inches(10, 12),
    "10INX14IN": (257.0, 364.0),  # Japanese B4 (PS3.3 C.13.3, note)
    "11INX14IN": _inches(11, 14),
    "11INX17IN": _inches(11, 17),
    "14INX14IN": _inches(14, 14),
    "14INX17IN": _inches(14, 17),
    "24CMX24CM": (240.0, 240.0),
    "24CMX30CM": (240.0, 300.0),
    "A4": (210.0, 297.0),
    "A3": (297.0, 420.0),
}
FILM_SIZE_LABELS = {
    "8INX10IN": "8 × 10 in",
    "8_5INX11IN": "8.5 × 11 in (Letter)",
    "10INX12IN": "10 × 12 in",
    "10INX14IN": "10 × 14 in",
    "11INX14IN": "11 × 14 in",
    "11INX17IN": "11 × 17 in",
    "14INX14IN": "14 × 14 in",
    "14INX17IN": "14 × 17 in",
    "24CMX24CM": "24 × 24 cm",
    "24CMX30CM": "24 × 30 cm",
    "A4": "A4",
    "A3": "A3",
}
PORTRAIT, LANDSCAPE = "PORTRAIT", "LANDSCAPE"


@dataclass(frozen=True)
class Profile:
    """What one printer draws a sheet with: dots of the whole sheet, dots per inch, bits a sample, colour or gray.

    A calibrated device shows P-Values as the standard wants them (PS3.14); other sheets say that they are not.
    """

    width_px: int
    height_px: int
    dpi: int
    bits: int = 8
    colour: bool = False
    is_calibrated: bool = False

    @property
    def key(self) -> str:
        """The same for profiles that give the same raster."""
        words = [f"{self.width_px}x{self.height_px}", f"{self.dpi}dpi", f"{self.bits}bit"]
        words += ["colour"] if self.colour else []
        return " ".join(words + (["calibrated"] if self.is_calibrated else []))

    def px(self, mm: float) -> int:
        """The nearest whole number of dots."""
        return round(mm * self.dpi / MM_PER_INCH)


def film_mm(film_size: str, orientation: str) -> tuple[float, float]:
    """Width and height in mm of a sheet as it is looked at. Raises KeyError for an unknown Film Size ID."""
    width, height = FILM_SIZES_MM[film_size]
    return (height, width) if orientation == LANDSCAPE else (width, height)


def profile_of(width_mm: float, height_mm: float, dpi: int, colour: bool) -> Profile:
    """The profile of a device that puts dots on the whole sheet."""
    width_px, height_px = (round(mm * dpi / MM_PER_INCH) for mm in (width_mm, height_mm))
    return Profile(width_px, height_px, dpi, colour=colour)
