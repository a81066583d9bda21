"""Whether a data set is the one that its C-STORE request names: what is acknowledged must be found under that name."""

from struct import error as StructError  # noqa: N812

from apps.archive.encoding import IS_LONG, UNDEFINED, Encoding, encoding_of
from apps.core.errors import PermanentError

SOP_CLASS_UID, SOP_INSTANCE_UID = 0x00080016, 0x00080018
HEAD_BYTES_MAX = 64 * 1024


class MismatchError(PermanentError):
    """SOP Class or SOP Instance UID of the data set differ from those of the request (PS3.4 B.2.3)."""


def check_identity(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, content: memoryview) -> None:
    """The same for a whole data set. Raises MismatchError."""
    identity = Identity(sop_class_uid.encode(), sop_instance_uid.encode(), transfer_syntax_uid)
    identity.feed(content)
    if identity.is_another:
        raise MismatchError("the data set is not the one that the request names")


class Identity:
    """Compares the UIDs of one data set with those of its request while the data set arrives (PS3.4 B.2.3).

    A data set whose beginning cannot be read passes: ingest keeps it aside with a reason, which loses nothing.
    """

    def __init__(self, sop_class_uid: bytes, sop_instance_uid: bytes, transfer_syntax_uid: str) -> None:
        self._named = {SOP_CLASS_UID: sop_class_uid, SOP_INSTANCE_UID: sop_instance_uid}
        self._transfer_syntax_uid = transfer_syntax_uid
        self._head = b""
        self._at = 0  # of the first element that is not yet whole
        self._is_decided = False
        self.is_another = False

    def feed(self, piece: memoryview) -> None:
        """Look at the next bytes of the data set."""
        if self._is_decided or not piece:
            return
        self._head += piece[: HEAD_BYTES_MAX - len(self._head)]
        try:
            self.is_another = self._differs(encoding_of(self._transfer_syntax_uid, self._head[:6]))
            self._is_decided = True
        except StructError:  # more is needed
            self._is_decided = len(self._head) >= HEAD_BYTES_MAX
        except KeyError:  # an unknown VR
            self._is_decided = True

    def _differs(self, encoding: Encoding) -> bool:
        head, order = self._head, encoding.order
        if encoding.deflated:
            return False
        while True:
            vr, at = b"", self._at
            if encoding.implicit:
                group, element, length = order.implicit(head, at)
                at += 8
            else:
                group, element, vr, length = order.explicit(head, at)
                at += 8
                if IS_LONG[vr]:
                    (length,) = order.long(head, at)
                    at += 4
            tag = group << 16 | element
            if tag > SOP_INSTANCE_UID or length == UNDEFINED:
                return False
            at += length
            named = self._named.get(tag)
            if named is not None and length:
                if at > len(head):
                    raise StructError
                if head[at - length : at].strip(b" \0") != named:
                    return True
            self._at = at
