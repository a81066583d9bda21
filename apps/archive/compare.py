"""Whether two files hold the same data set, however each is encoded.

Both are read side by side, element by element, and never as a whole. Group lengths, padding, transfer syntax, byte
order and the lengths of sequences do not count; pixels are decoded where both encodings are lossless. Whatever cannot
be decided is "not the same": then the caller keeps both.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import zip_longest
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from pydicom.datadict import dictionary_VR
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from apps.archive import frames
from apps.archive.encoding import IS_LONG, ITEM, ITEM_END, LITTLE, SEQUENCE_END, UNDEFINED, ByteOrder, Encoding
from apps.archive.header import read_encoding

_NATIVE = {ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian}
_LOSSLESS = _NATIVE | {
    *(RLELossless, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless),
    *(JPEG2000Lossless, HTJ2KLossless, HTJ2KLosslessRPCL),
}
_SAME_COLOURS = {"RGB", "YBR_RCT"}  # a reversible transform inside the code stream (PS3.3 C.7.6.3.1.2)

_PIXEL_DATA = 0x7FE00010
_TRAILING_PADDING = 0xFFFCFFFC
_OFFSET_TABLES = (0x7FE00001, 0x7FE00002)
_HOW_PIXELS_ARE_STORED = (0x00280004, 0x00280006)  # Photometric Interpretation, Planar Configuration

_BINARY_VRS = dict.fromkeys(b"AT OW SS US".split(), 2) | dict.fromkeys(b"FL OF OL SL UL".split(), 4)
_BINARY_VRS |= dict.fromkeys(b"FD OD OV SV UV".split(), 8)
"""VRs of numbers, and the bytes of one (PS3.5 6.2)."""

_MAX_ELEMENTS = 1_000_000
_MAX_DEPTH = 64
_MAX_INFLATED_BYTES = 1 << 30
_SHORT_VALUE_BYTES = 64 * 1024
_CHUNK_BYTES = 1 << 20


class _UndecidedError(Exception):
    """A file is too odd or too large to be compared."""


class _Element(NamedTuple):
    """One step through a data set: an element, or the beginning or end of an item."""

    tag: int
    depth: int
    vr: bytes = b""  # empty when unknown
    start: int = 0  # where in the file its value begins
    length: int = 0
    little: bool = True
    fragments: Sequence[tuple[int, int]] = ()  # (start, length) of each, instead of start; length is their sum


def same_content(left: Path, right: Path) -> bool:
    """Whether two files are equal element by element after group 0002.

    False also for what cannot be read or compared within bounds. Raises only OSError.
    """
    try:
        with closing(_DataSet(left)) as first, closing(_DataSet(right)) as second:
            return _same_elements(first, second)
    except OSError:
        raise
    except Exception:  # noqa: BLE001 - whatever hostile bytes make of a parser or decoder
        return False


def _same_elements(first: _DataSet, second: _DataSet) -> bool:
    must_decode = False
    for left, right in zip_longest(first.elements(), second.elements()):
        if left is None or right is None or (left.tag, left.depth) != (right.tag, right.depth):
            return False
        if not _same_value(first, left, second, right):
            if left.tag != _PIXEL_DATA or left.depth:
                return False
            must_decode = True
    if first.aside != second.aside:
        must_decode = True
    elif must_decode and first.is_native and second.is_native:
        return False  # bits outside the stored ones count, too: overlays may lie there
    return not must_decode or _same_pixels(first, second)


# --- Reading elements


class _DataSet:
    """The data set of one file, walked through once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.encoding, self._start = read_encoding(path)
        self.file: IO[bytes] = path.open("rb")
        if self.encoding.deflated:
            self.file, self._start = _inflated(self.file, self._start), 0
        self._end = self.file.seek(0, 2)
        self._count = 0
        self.aside: dict[int, bytes] = {}

    @property
    def is_native(self) -> bool:
        """Whether pixels are stored as they are (PS3.5 A.4 tells of the others)."""
        return self.encoding.transfer_syntax_uid in _NATIVE

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def elements(self) -> Iterator[_Element]:
        """All elements in their order, without those that say nothing of the content.

        How pixels are stored is put `aside`.
        """
        for element in self._walk(self._start, self._end, self.encoding, 0):
            if element.depth == 0 and element.tag in _HOW_PIXELS_ARE_STORED:
                self.aside[element.tag] = self.value(element).rstrip(b" \0")
            elif not _says_nothing(element):
                yield element

    def value(self, element: _Element) -> bytes:
        """A short value, little endian."""
        if element.length > _SHORT_VALUE_BYTES or element.fragments:
            raise _UndecidedError("a long value where a short one belongs")
        self.file.seek(element.start)
        return _little(self.file.read(element.length), element)

    def chunks(self, element: _Element) -> Iterator[bytes]:
        """The bytes of a value, little endian, in pieces that are not empty."""
        for start, length in element.fragments or [(element.start, element.length)]:
            for at in range(start, start + length, _CHUNK_BYTES):
                self.file.seek(at)
                yield _little(self.file.read(min(_CHUNK_BYTES, start + length - at)), element)

    def _walk(self, at: int, end: int, encoding: Encoding, depth: int) -> Generator[_Element, None, int]:
        """Elements from byte `at` up to `end` or the end of an item; returns the byte behind."""
        if depth > _MAX_DEPTH:
            raise _UndecidedError("sequences nested too deep")
        while at < end:
            tag, vr, length, at = self._head(at, encoding)
            if tag == ITEM_END:
                return at
            if tag == _PIXEL_DATA and length == UNDEFINED:
                spans, at = self._fragments(at, encoding.order)  # the first is the Basic Offset Table (PS3.5 A.4)
                yield _Element(tag, depth, vr, 0, sum(size for _, size in spans[1:]), fragments=spans[1:])
            elif self._is_sequence(vr, at, length):
                yield _Element(tag, depth, b"SQ")
                inner = encoding if vr == b"SQ" else encoding._replace(implicit=True, little=True)
                at = yield from self._walk_items(at, end if length == UNDEFINED else at + length, inner, depth)
            else:
                if at + length > end:
                    raise _UndecidedError("an element ends behind its data set")
                yield _Element(tag, depth, vr, at, length, encoding.little)
                at += length
        return at

    def _walk_items(self, at: int, end: int, encoding: Encoding, depth: int) -> Generator[_Element, None, int]:
        while at < end:
            tag, length, at = self._item_head(at, encoding.order)
            if tag == SEQUENCE_END:
                return at
            yield _Element(ITEM, depth)
            at = yield from self._walk(at, end if length == UNDEFINED else at + length, encoding, depth + 1)
            yield _Element(ITEM_END, depth)
        return at

    def _head(self, at: int, encoding: Encoding) -> tuple[int, bytes, int, int]:
        """(tag, VR, length, byte of the value) of the element at byte `at`."""
        self._count += 1
        if self._count > _MAX_ELEMENTS:
            raise _UndecidedError("too many elements")
        self.file.seek(at)
        head = self.file.read(12)
        group, element, length = encoding.order.implicit(head, 0)
        tag = group << 16 | element
        if encoding.implicit or group == 0xFFFE:
            return tag, _implicit_vr(tag), length, at + 8
        _, _, vr, length = encoding.order.explicit(head, 0)
        if not IS_LONG[vr]:
            return tag, vr, length, at + 8
        return tag, vr, encoding.order.long(head, 8)[0], at + 12

    def _item_head(self, at: int, order: ByteOrder) -> tuple[int, int, int]:
        """(tag, length, byte behind) of an item or a delimiter."""
        self._count += 1
        if self._count > _MAX_ELEMENTS:
            raise _UndecidedError("too many items")
        self.file.seek(at)
        group, element, length = order.implicit(self.file.read(8), 0)
        tag = group << 16 | element
        if tag not in (ITEM, SEQUENCE_END):
            raise _UndecidedError("an item is missing")
        return tag, length, at + 8

    def _is_sequence(self, vr: bytes, at: int, length: int) -> bool:
        """Also where nothing but the bytes tell: private elements in implicit VR, and UN (PS3.5 6.2.2)."""
        if length == UNDEFINED or vr == b"SQ":
            return True
        if vr not in (b"", b"UN") or length < 8:
            return False
        self.file.seek(at)
        group, element, item_length = LITTLE.implicit(self.file.read(8), 0)
        return (group << 16 | element) == ITEM and (item_length == UNDEFINED or item_length <= length - 8)

    def _fragments(self, at: int, order: ByteOrder) -> tuple[list[tuple[int, int]], int]:
        spans: list[tuple[int, int]] = []
        while True:
            tag, length, at = self._item_head(at, order)
            if tag == SEQUENCE_END:
                return spans, at
            if at + length > self._end:
                raise _UndecidedError("a fragment ends behind the file")
            spans.append((at, length))
            at += length


def _little(value: bytes, element: _Element) -> bytes:
    """The value as it would be in little endian; whole numbers of it."""
    if element.little or element.vr not in _BINARY_VRS:
        return value
    width = _BINARY_VRS[element.vr]
    return np.frombuffer(value, f">u{width}").astype(f"<u{width}").tobytes()


def _says_nothing(element: _Element) -> bool:
    is_group_length = not element.tag & 0xFFFF
    return is_group_length or element.tag == _TRAILING_PADDING or (not element.depth and element.tag in _OFFSET_TABLES)


def _implicit_vr(tag: int) -> bytes:
    try:
        return dictionary_VR(tag)[:2].encode()  # of "US or SS" either will do: what is implicit is little endian
    except KeyError:
        return b""


def _inflated(file: IO[bytes], start: int) -> IO[bytes]:
    """The inflated data set in a temporary file (PS3.5 A.5); closes `file`."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    result = tempfile.TemporaryFile()  # noqa: SIM115 - closed with its data set
    with file:
        file.seek(start)
        while chunk := inflater.unconsumed_tail or file.read(_CHUNK_BYTES):
            result.write(inflater.decompress(chunk, _CHUNK_BYTES))
            if result.tell() > _MAX_INFLATED_BYTES:
                raise _UndecidedError("the deflated data set is too large")
    return result


# --- Comparing


def _same_value(first: _DataSet, left: _Element, second: _DataSet, right: _Element) -> bool:
    if max(left.length, right.length) > _SHORT_VALUE_BYTES or left.fragments or right.fragments:
        return _same_bytes(first.chunks(left), second.chunks(right))
    vr = left.vr if left.vr not in (b"", b"UN") else right.vr
    ours, theirs = first.value(left), second.value(right)
    if ours == theirs or vr in _BINARY_VRS:
        return ours == theirs
    padding = b"\0" if vr in (b"OB", b"UN", b"") else b" \0"
    return ours.rstrip(padding) == theirs.rstrip(padding)


def _same_bytes(first: Iterator[bytes], second: Iterator[bytes]) -> bool:
    """Equal but for one byte of padding at the end, however the bytes are cut into chunks."""
    left = right = b""
    while True:
        left, right = left or next(first, b""), right or next(second, b"")
        common = min(len(left), len(right))
        if left[:common] != right[:common]:
            return False
        if not common:
            return (left or right) in (b"", b"\0", b" ") and not next(first, b"") and not next(second, b"")
        left, right = left[common:], right[common:]


def _same_pixels(first: _DataSet, second: _DataSet) -> bool:
    if not {first.encoding.transfer_syntax_uid, second.encoding.transfer_syntax_uid} <= _LOSSLESS:
        return False
    colours = {dataset.aside.get(_HOW_PIXELS_ARE_STORED[0], b"").decode("latin-1") for dataset in (first, second)}
    return (len(colours) == 1 or colours <= _SAME_COLOURS) and frames.same_frames(first.path, second.path)
