"""How data sets are encoded: byte order, explicit or implicit VR, and their lengths (PS3.5 7, PS3.5 A)."""

from collections.abc import Callable
from struct import Struct
from typing import NamedTuple

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED_LITTLE = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD

_SHORT_VRS = b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split()
_LONG_VRS = b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split()
IS_LONG = dict.fromkeys(_SHORT_VRS, False) | dict.fromkeys(_LONG_VRS, True)
"""Every VR, and whether its length has 32 bits (PS3.5 7.1.2)."""


class ByteOrder(NamedTuple):
    """How the head of an element is unpacked: (buffer, offset) -> numbers; struct.error where the buffer ends."""

    explicit: Callable[..., tuple[int, int, bytes, int]]
    """Group, element, VR, 16-bit length."""
    implicit: Callable[..., tuple[int, int, int]]
    """Group, element, 32-bit length."""
    long: Callable[..., tuple[int]]


def _byte_order(sign: str) -> ByteOrder:
    return ByteOrder(*(Struct(sign + layout).unpack_from for layout in ("HH2sH", "HHL", "L")))


LITTLE, BIG = _byte_order("<"), _byte_order(">")


class Encoding(NamedTuple):
    """How one data set is encoded, as its bytes say; `transfer_syntax_uid` is what its file meta says, if anything."""

    implicit: bool
    little: bool
    deflated: bool
    transfer_syntax_uid: str

    @property
    def order(self) -> ByteOrder:
        """Its byte order."""
        return LITTLE if self.little else BIG


def encoding_of(transfer_syntax_uid: str, first: bytes) -> Encoding:
    """What the transfer syntax says, corrected by the first 6 bytes of the data set: group, element and perhaps VR."""
    if transfer_syntax_uid == DEFLATED_LITTLE:
        return Encoding(False, True, True, transfer_syntax_uid)
    implicit = not (first[4:6].isalpha() and first[4:6].isupper())
    little = transfer_syntax_uid != EXPLICIT_BIG
    if not transfer_syntax_uid:
        little = implicit or first[1:2] == b"\0"
        transfer_syntax_uid = IMPLICIT_LITTLE if implicit else EXPLICIT_LITTLE if little else EXPLICIT_BIG
    return Encoding(implicit, little, False, transfer_syntax_uid)
