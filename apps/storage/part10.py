"""The head of a DICOM file (PS3.10 7.1). Plain Python."""

from struct import pack

from apps.core.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME


def part10_head(
    sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, calling_ae_title: str, called_ae_title: str
) -> bytes:
    """Preamble, prefix and group 0002, explicit VR little endian; the data set follows as received.

    (0002,0016) Source and (0002,0017) Sending AE title are the caller's, (0002,0018) Receiving is ours.
    """
    elements = b"".join(
        (
            b"\x02\x00\x01\x00OB\x00\x00\x02\x00\x00\x00\x00\x01",
            _element(0x0002, b"UI", sop_class_uid, b"\0"),
            _element(0x0003, b"UI", sop_instance_uid, b"\0"),
            _element(0x0010, b"UI", transfer_syntax_uid, b"\0"),
            _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID, b"\0"),
            _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME, b" "),
            _element(0x0016, b"AE", calling_ae_title, b" "),
            _element(0x0017, b"AE", calling_ae_title, b" "),
            _element(0x0018, b"AE", called_ae_title, b" "),
        )
    )
    return bytes(128) + b"DICM" + pack("<HH2sHL", 2, 0, b"UL", 4, len(elements)) + elements


def _element(element: int, vr: bytes, value: str, padding: bytes) -> bytes:
    raw = value.encode("ascii", "replace")
    raw += padding * (len(raw) % 2)
    return pack("<HH2sH", 2, element, vr, len(raw)) + raw
