"""The words on a sheet: who and what it shows, and what each image is."""

from __future__ import annotations

from apps.films.recipe import Header, Recipe
from apps.rendering.frame import ImageFile, StoredFrame
from apps.rendering.functional_groups import first_value, macro, numbers
from apps.rendering.header import Attributes
from apps.rendering.voi import Voi, Window

SEXES = {"M": "male", "F": "female", "O": "other"}
MINUS = "−"


def header_rows(header: Header) -> list[tuple[str, str]]:
    """Three rows of a left and a right text; the first left one is the patient's name."""
    person = [f"ID {header.patient_id}" if header.patient_id else "no patient ID"]
    person += [f"born {header.birth_date}"] if header.birth_date else []
    person += [SEXES.get(header.sex, header.sex)] if header.sex else []
    when = " ".join(part for part in (header.study_date, header.study_time) if part)
    accession = f"Accession {header.accession_number}" if header.accession_number else ""
    return [
        (header.patient_name or "No name", header.institution),
        (GAP.join(person), when),
        (header.study_description, accession),
    ]


def footer_text(recipe: Recipe, is_calibrated: bool) -> tuple[str, str]:
    """The middle and the right text of the last line. What is not calibrated (PS3.14) is not for diagnosis."""
    notes = [] if is_calibrated else ["not for diagnosis"]
    made = [recipe.made_at] if recipe.made_at else []
    return f"Sheet {recipe.page} of {recipe.page_count}", GAP.join(notes + made)


def caption_words(image: ImageFile, frame: int, stored: StoredFrame, voi: Voi) -> tuple[list[str], list[str]]:
    """Which image it is, and how it is shown."""
    identity = [_numbers(image, frame), _location(image.header, frame)]
    is_plain = stored.is_colour or (not stored.voi and stored.bits <= 8)
    display = ["" if is_plain else window_text(voi, is_own=bool(stored.voi)), _lossy(image.header)]
    return [word for word in identity if word], [word for word in display if word]


def window_text(voi: Voi, is_own: bool = True) -> str:
    """ "C 40 W 400"; with "auto" where neither the object nor a person chose it."""
    if not isinstance(voi, Window):
        return "VOI LUT"
    function = {"LINEAR": "", "LINEAR_EXACT": " exact", "SIGMOID": " sigmoid"}[voi.function]
    return f"C {_number(voi.center)} W {_number(voi.width)}{function}{'' if is_own else ' auto'}"


def ruler_text(length_mm: float, label: str = "") -> str:
    """ "10 cm"; with what qualifies the scale in brackets."""
    length = f"{length_mm / 10:g} cm" if length_mm >= 10 else f"{length_mm:g} mm"
    return f"{length} ({label})" if label else length


GAP = "   "


def _numbers(image: ImageFile, frame: int) -> str:
    series, number = (first_value(image.header.get(key)) for key in ("SeriesNumber", "InstanceNumber"))
    words = [f"Se {series}"] if series is not None else []
    words += [f"Im {number}"] if number is not None else []
    words += [f"Fr {frame}/{image.number_of_frames}"] if image.number_of_frames > 1 else []
    return " ".join(words)


def _location(header: Attributes, frame: int) -> str:
    """Slice Location, else where the frame lies along the axis that it is most perpendicular to."""
    location = numbers(header.get("SliceLocation"))
    if not location:
        position = numbers(macro(header, frame, "PlanePositionSequence").get("ImagePositionPatient"))
        axes = numbers(macro(header, frame, "PlaneOrientationSequence").get("ImageOrientationPatient"))
        if len(position) != 3 or len(axes) != 6:
            return ""
        location = [position[_normal_axis(axes)]]
    return f"Loc {_number(round(location[0], 1))}"


def _normal_axis(axes: list[float]) -> int:
    """0, 1 or 2: the patient axis nearest to the normal of the plane (PS3.3 C.7.6.2.1.1)."""
    (a, b, c), (d, e, f) = axes[:3], axes[3:]
    normal = [abs(b * f - c * e), abs(c * d - a * f), abs(a * e - b * d)]
    return normal.index(max(normal))


def _lossy(header: Attributes) -> str:
    """A mark where the image was ever compressed with loss (PS3.3 C.7.6.1.1.5)."""
    if str(header.get("LossyImageCompression") or "") != "01":
        return ""
    ratio = numbers(header.get("LossyImageCompressionRatio"))
    return f"lossy {_number(round(ratio[-1], 1))}:1" if ratio else "lossy"


def _number(value: float) -> str:
    """At most four significant digits after a whole number has all of its own."""
    text = f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return text.replace("-", MINUS)
