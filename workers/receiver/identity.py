"""Whether a data set is the one that its C-STORE request names: what is acknowledged must be found under that name."""

from io import BytesIO
from typing import Any

from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID

from apps.core.errors import PermanentError

SOP_CLASS_UID, SOP_INSTANCE_UID = 0x00080016, 0x00080018
HEAD_BYTES = 64 * 1024


class MismatchError(PermanentError):
    """SOP Class or SOP Instance UID of the data set differ from those of the request (PS3.4 B.2.3)."""


def check_identity(request: Any, transfer_syntax: UID) -> None:
    """Compare the request's affected UIDs with the data set's. Raises MismatchError.

    A data set whose beginning cannot be read passes: ingest keeps it aside with a reason, which loses nothing.
    """
    if transfer_syntax.is_deflated:
        return
    head = BytesIO(bytes(request.DataSet.getbuffer()[:HEAD_BYTES]))
    try:
        found = read_dataset(
            head, transfer_syntax.is_implicit_VR, transfer_syntax.is_little_endian, stop_when=_is_behind_uids
        )
        uids = [str(found.get(tag).value if tag in found else "") for tag in (SOP_CLASS_UID, SOP_INSTANCE_UID)]
    except Exception:  # the edge: any odd byte sequence, judged by ingest
        return
    named = [str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)]
    if any(uid and _bare(uid) != _bare(name) for uid, name in zip(uids, named, strict=True)):
        raise MismatchError("the data set is not the one that the request names")


def _is_behind_uids(tag: BaseTag, vr: str | None, length: int) -> bool:
    return tag > SOP_INSTANCE_UID


def _bare(uid: str) -> str:
    return uid.strip(" \0")
