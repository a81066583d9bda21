"""Text of data elements: Specific Character Set, also with code extensions (PS3.3 C.12.1.1.2, PS3.5 6.1).

Decoding never fails: labels and bytes that do not fit each other get the best guess. Nothing here imports Django.
"""

import re

from pydicom.charset import CODES_TO_ENCODINGS, python_encoding

PERSON_NAME_DELIMITERS = re.compile(rb"[\\^=]")  # what ends a code extension (PS3.5 6.1.2.5.3)
TEXT_DELIMITERS = re.compile(rb"[\r\n\t\f\\]")

_ESCAPE = 0x1B
_FRAGMENT = re.compile(rb"[^\x1b]+|\x1b[^\x1b]*")
_SELF_ESCAPED = ("iso2022_jp", "iso2022_jp_2")  # Python's codecs read these escape sequences themselves


def _spelling(term: str) -> str:
    return re.sub("[^A-Z0-9]", "", term.upper())


_ENCODINGS = {_spelling(term): encoding for term, encoding in python_encoding.items()}
_UNLABELLED = {_spelling(term) for term in ("", "ISO_IR 6", "ISO 2022 IR 6")}


def charset_of(specific_character_set: bytes) -> str | None:
    """The Python encoding of the first value of (0008,0005), which holds until an escape sequence.

    None when it names the default repertoire or nothing that is known: then there is only guessing. The other values
    are not needed, escape sequences say what they switch to.
    """
    term = _spelling(specific_character_set.split(b"\\", 1)[0].decode("latin-1"))
    return None if term in _UNLABELLED else _ENCODINGS.get(term)


def decode_text(raw: bytes, encoding: str | None, delimiters: re.Pattern[bytes] = TEXT_DELIMITERS) -> str:
    """Decode one value; `encoding` is what `charset_of` says, `delimiters` are those of its VR."""
    if _ESCAPE not in raw:
        return raw.decode("ascii") if raw.isascii() else _decode(raw, encoding)
    return "".join(_decode_fragment(part, encoding, delimiters) for part in _FRAGMENT.findall(raw))


def _decode_fragment(fragment: bytes, first: str | None, delimiters: re.Pattern[bytes]) -> str:
    """From one escape sequence to the next; a delimiter ends what an escape sequence began."""
    if fragment[0] != _ESCAPE:
        return _decode(fragment, first)
    length = 4 if fragment[1:3] in (b"$(", b"$)") else 3
    encoding = CODES_TO_ENCODINGS.get(fragment[:length])
    if encoding is None:
        return _decode(fragment, first)
    if encoding in _SELF_ESCAPED:
        return _decode(fragment, encoding)
    delimiter = delimiters.search(fragment, length)
    end = delimiter.start() if delimiter else len(fragment)
    return _decode(fragment[length:end], encoding) + _decode(fragment[end:], first)


def _decode(raw: bytes, encoding: str | None) -> str:
    """By the label; else UTF-8, which other encodings hardly ever resemble; else whatever can be saved."""
    for candidate in (encoding, "utf-8"):
        try:
            if candidate:
                return raw.decode(candidate)
        except UnicodeError:
            continue
    return raw.decode(encoding or "latin-1", "replace")
