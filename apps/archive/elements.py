"""Raw values from the beginning of a DICOM file (PS3.10 7, PS3.5 7), from any bytes, within bounds.

A parser of our own reads explicit and implicit VR in either byte order; what it finds odd goes to pydicom. The file is
read once, from front to back, and never as a whole. Nothing here imports Django.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable
from hashlib import sha256
from io import BytesIO, FileIO
from struct import error as StructError  # noqa: N812

from pydicom.filereader import data_element_generator

from apps.archive.encoding import IS_LONG, LITTLE, UNDEFINED, ByteOrder, Encoding
from apps.core.errors import PermanentError

_FIRST_READ = 32 * 1024
_NEXT_READ = 256 * 1024
_PARSED_BYTES = 8 * 1024 * 1024  # a header that is longer is no header
_META_BYTES = 1024 * 1024
_VALUE_BYTES = 16 * 1024  # no wanted value is longer by right (PS3.5 6.2)
_PYDICOM_BYTES = 1024 * 1024
_PYDICOM_READS = 200_000
_MAX_DEPTH = 32

Values = dict[int, bytes]
"""Raw values by tag; those of group 0002 by element number."""


class UnreadableError(PermanentError):
    """The bytes are not an instance that can be stored. The text is a plain reason, without values of the file."""


class NotDicomError(UnreadableError):
    """Nothing in the file looks like DICOM."""


class MediaDirectoryError(UnreadableError):
    """A DICOMDIR: it lists instances and is none (PS3.3 F.2)."""


class Rationed(BytesIO):
    """Bytes for pydicom that may be read only a few times over: hostile nesting makes it begin again and again."""

    def __init__(self, content: bytes, reads: int) -> None:
        super().__init__(content)
        self._reads, self._bytes = reads, 4 * len(content)

    def read(self, size: int | None = -1, /) -> bytes:
        """Raise EOFError when the ration is eaten up."""
        chunk = super().read(size)
        self._reads -= 1
        self._bytes -= len(chunk)
        if self._reads < 0 or self._bytes < 0:
            raise EOFError
        return chunk


# --- The file, read once


class Source:
    """One file from front to back: `window` is what is parsed, and whatever passes through it is hashed."""

    __slots__ = ("_dataset", "_file", "_parsed", "_whole", "at", "size", "window")

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self.window = file.read(_FIRST_READ)
        self.at = 0  # where in the file the window begins
        self.size = self._parsed = len(self.window)
        self._whole = sha256(self.window)
        self._dataset = sha256()

    def begin_dataset(self, offset: int) -> None:
        """Everything from this byte of the first window on belongs to the data set."""
        self._dataset.update(memoryview(self.window)[offset:])

    def advance(self, to: int, *, in_dataset: bool = True) -> bool:
        """Drop what lies before byte `to` of the file and read on behind it; False at the end of the file."""
        kept = self.window[to - self.at :]
        while self.size < to and self._read(min(_NEXT_READ, to - self.size), in_dataset):
            pass
        chunk = self._read(max(_NEXT_READ, len(kept)), in_dataset)
        self._parsed += len(chunk)
        if self._parsed > _PARSED_BYTES:
            raise UnreadableError(f"the header is longer than {_PARSED_BYTES} bytes")
        self.window = kept + chunk
        self.at = self.size - len(self.window)
        return bool(chunk)

    def front(self, at: int, length: int) -> bytes:
        """Bytes that were read before, for the second parser."""
        self._file.seek(at)
        return self._file.read(length)

    def digests(self) -> tuple[bytes, bytes]:
        """Read the rest; SHA-256 of the data set and of the whole file."""
        self._file.seek(self.size)
        while self._read(_NEXT_READ, in_dataset=True):
            pass
        return self._dataset.digest(), self._whole.digest()

    def _read(self, length: int, in_dataset: bool) -> bytes:
        chunk = self._file.read(length)
        self.size += len(chunk)
        self._whole.update(chunk)
        if in_dataset:
            self._dataset.update(chunk)
        return chunk


# --- File meta information (PS3.10 7.1)


def read_meta(source: Source) -> tuple[Values, int]:
    """Group 0002 by element number, and the offset of the data set."""
    start = 132 if source.window[128:132] == b"DICM" else 0
    if start == 0 and not _may_begin_a_dataset(source.window):
        raise NotDicomError("no DICM prefix, and no data element at the beginning")
    while True:
        try:
            return _scan_meta(source.window, start)
        except StructError:
            if source.size > _META_BYTES or not source.advance(0, in_dataset=False):
                break
        except KeyError:  # an unknown VR
            break
    return _scan_meta_with_pydicom(source.window, start)


def _may_begin_a_dataset(window: bytes) -> bool:
    """Whether a file without prefix begins with an element of group 0002 or 0008, in either byte order."""
    return len(window) >= 8 and window[:2] in (b"\x02\0", b"\x08\0", b"\0\x08")


def _scan_meta(window: bytes, at: int) -> tuple[Values, int]:
    meta: Values = {}
    if at == len(window):
        return meta, at
    while True:
        group, element, vr, length = LITTLE.explicit(window, at)
        if group != 2:
            return meta, at
        start = at
        at += 8
        if IS_LONG[vr]:
            (length,) = LITTLE.long(window, at)
            at += 4
        at += length
        if at > len(window):
            raise StructError
        meta[element] = window[at - length : at] if at - start < _VALUE_BYTES else b""
        if at == len(window):
            return meta, at


def _scan_meta_with_pydicom(window: bytes, start: int) -> tuple[Values, int]:
    """Group 0002 as pydicom sees it: unknown VRs, implicit VR, a wrong length."""
    for implicit in (False, True):
        file = Rationed(window, _PYDICOM_READS)
        file.seek(start)
        try:
            found = list(data_element_generator(file, implicit, True, stop_when=lambda tag, vr, length: tag >> 16 != 2))
        except Exception:  # noqa: BLE001, S112 - whatever hostile bytes make of a parser
            continue
        if start or found:
            return {e.tag.element: e.value for e in found if isinstance(e.value, bytes)}, file.tell()
    raise UnreadableError("the file meta information cannot be read")


# --- The data set (PS3.5 7)


class _OddError(Exception):
    """Not what the standard says; pydicom may know better."""


def read_elements(
    source: Source,
    offset: int,
    encoding: Encoding,
    wanted: frozenset[int],
    suffices: Callable[[Values], bool],
) -> Values:
    """Raw values of the wanted top-level elements, at most 16 KiB of each, read until the last of them was passed.

    When our parser finds something odd, or what it found does not suffice, pydicom reads the beginning again. Raises
    UnreadableError.
    """
    inflated = _inflate(source.front(offset, _PYDICOM_BYTES)) if encoding.deflated else None
    scan = _Scan(encoding, wanted)
    try:
        if inflated is None:
            _scan_file(source, offset, scan)
        else:
            _scan_front(inflated, scan)
        if suffices(scan.found):
            return scan.found
    except _OddError:
        pass
    front = source.front(offset, _PYDICOM_BYTES) if inflated is None else inflated
    return scan.found | _scan_with_pydicom(front, encoding, wanted)


def _scan_file(source: Source, offset: int, scan: _Scan) -> None:
    stopped = scan.run(source.window, offset - source.at)
    while stopped is not None:
        at = source.at + stopped
        if not source.advance(at):
            scan.end(at, source.size)
            return
        stopped = scan.run(source.window, at - source.at)


def _scan_front(window: bytes, scan: _Scan) -> None:
    at = scan.run(window, 0)
    if at is not None:
        scan.end(at, len(window))


class _Scan:
    """One pass over the top-level elements: where it stands, and what it found."""

    def __init__(self, encoding: Encoding, wanted: frozenset[int]) -> None:
        self.found: Values = {}
        self._encoding = encoding
        self._wanted = wanted
        self._last = max(wanted)
        self._before = 0  # the tag that was read last: tags ascend (PS3.5 7.1)

    def run(self, window: bytes, at: int) -> int | None:
        """Read elements from byte `at` of the window on.

        None when the last wanted element was passed, else the byte where to go on with more of the file.
        """
        order, implicit, wanted, last = self._encoding.order, self._encoding.implicit, self._wanted, self._last
        explicit_at, implicit_at, long_at = order
        start, before = at, self._before
        try:
            while True:
                start = at
                if implicit:
                    group, element, length = implicit_at(window, at)
                    vr = b""
                    at += 8
                else:
                    group, element, vr, length = explicit_at(window, at)
                    at += 8
                    if IS_LONG[vr]:
                        (length,) = long_at(window, at)
                        at += 4
                tag = group << 16 | element
                if tag > last:
                    return None
                if tag <= before:
                    raise _OddError("elements out of order")
                if length == UNDEFINED:
                    at = _skip_value(window, at, vr, order)
                else:
                    if tag in wanted:
                        kept = length if length < _VALUE_BYTES else _VALUE_BYTES
                        value = window[at : at + kept]
                        if len(value) < kept:
                            return start
                        self.found[tag] = value
                    at += length
                before = tag
        except StructError:
            return start
        except KeyError as error:
            raise _OddError("unknown VR") from error
        finally:
            self._before = before

    def end(self, at: int, size: int) -> None:
        """Where the data ended while more was wanted: behind an element that is as it should be."""
        if at != size:
            raise _OddError("the data set ends inside an element")


def _skip_value(window: bytes, at: int, vr: bytes, order: ByteOrder) -> int:
    """Behind a value of undefined length; an empty vr stands for implicit VR."""
    if vr == b"UN":  # its items are implicit VR little endian (PS3.5 6.2.2)
        return _skip_items(window, at, True, LITTLE, 0)
    if vr not in (b"SQ", b""):
        raise _OddError("undefined length")
    return _skip_items(window, at, not vr, order, 0)


def _skip_items(window: bytes, at: int, implicit: bool, order: ByteOrder, depth: int) -> int:
    """From the first item of a sequence of undefined length to behind its delimiter (PS3.5 7.5)."""
    if depth > _MAX_DEPTH:
        raise _OddError("sequences nested too deep")
    while True:
        group, element, length = order.implicit(window, at)
        at += 8
        if group != 0xFFFE or element not in (0xE000, 0xE0DD):
            raise _OddError("an item is missing")
        if element == 0xE0DD:
            return at
        at = _skip_item(window, at, implicit, order, depth) if length == UNDEFINED else at + length


def _skip_item(window: bytes, at: int, implicit: bool, order: ByteOrder, depth: int) -> int:
    while True:
        group, element, length = order.implicit(window, at)
        at += 8
        if group == 0xFFFE:
            if element != 0xE00D:
                raise _OddError("the end of an item is missing")
            return at
        vr = b""
        if not implicit:
            _, _, vr, length = order.explicit(window, at - 8)
            if IS_LONG[vr]:
                (length,) = order.long(window, at)
                at += 4
        if length != UNDEFINED:
            at += length
        elif vr == b"UN":
            at = _skip_items(window, at, True, LITTLE, depth + 1)
        else:
            at = _skip_items(window, at, implicit, order, depth + 1)


def _inflate(compressed: bytes) -> bytes:
    """The beginning of a deflated data set (PS3.5 A.5)."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(compressed, _PYDICOM_BYTES)
    except zlib.error as error:
        raise UnreadableError("the deflated data set cannot be inflated") from error


def _scan_with_pydicom(front: bytes, encoding: Encoding, wanted: frozenset[int]) -> Values:
    """The wanted values as pydicom finds them in the beginning of the data set, also out of order and torn."""
    found: Values = {}
    elements = data_element_generator(
        Rationed(front, _PYDICOM_READS),
        encoding.implicit,
        encoding.little,
        stop_when=lambda tag, vr, length: tag >> 16 == 0x7FE0,
        defer_size=_VALUE_BYTES,
        specific_tags=list(wanted),
    )
    try:
        with warnings.catch_warnings():  # they quote what pydicom stumbles over
            warnings.simplefilter("ignore")
            for element in elements:
                if isinstance(element.value, bytes):
                    found[int(element.tag)] = element.value
    except Exception:  # noqa: BLE001, S110 - whatever hostile bytes make of a parser; what was found before counts
        pass
    return found
