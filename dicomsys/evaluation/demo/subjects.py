"""The phantoms' names, each in another character set (PS3.3 C.12.1.1.2); none is a person's."""

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True)
class Subject:
    """What the Patient Module (PS3.3 C.7.1.1) says of a phantom; more than one character set: extensions."""

    patient_id: str
    name: str
    character_set: str | tuple[str, ...] | None
    born: date
    sex: str

    def age_on(self, day: date) -> str:
        """Age String (PS3.5 6.2)."""
        years = day.year - self.born.year - ((day.month, day.day) < (self.born.month, self.born.day))
        return f"{years:03d}Y"


TORSO = Subject("DEMO-0001", "Demo^Chest", None, date(1961, 4, 12), "M")
HAND = Subject("DEMO-0002", "Phantom^Größe", "ISO_IR 100", date(1988, 9, 3), "F")
CHEST = Subject("DEMO-0003", "Образец^Грудь", "ISO_IR 144", date(1974, 1, 27), "M")
BRAIN = Subject("DEMO-0004", "Ομοίωμα^Κεφαλή", "ISO_IR 126", date(1990, 6, 15), "F")
ABDOMEN = Subject("DEMO-0005", "Phantom^Fukubu=模型^腹部=もけい^ふくぶ", ("", "ISO 2022 IR 87"), date(1969, 11, 8), "F")
THYROID = Subject(
    "DEMO-0006", "Mohyeong^Gapsangseon=模型^甲狀腺=모형^갑상선", ("", "ISO 2022 IR 149"), date(1982, 2, 19), "F"
)
LUMBAR = Subject("DEMO-0007", "Moxing^Yaozhui=模型^腰椎", "GB18030", date(1979, 7, 30), "M")
HEAD = Subject("DEMO-0008", "نموذج^رأس", "ISO_IR 127", date(1957, 12, 1), "M")
PATTERN = Subject("DEMO-0009", "דגם^הדפסה", "ISO_IR 138", date(2000, 1, 1), "O")
