"""Malformed associations, the same for the same seed: recorded ones with bytes, PDUs, PDVs and elements made wrong."""

import random
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from struct import pack, pack_into, unpack_from

from hypothesis import strategies as st
from pydicom import dcmread

from tests.dicom import ct_dataset, encode
from tests.lots import SOP_CLASS_UID, TRANSFER_SYNTAX_UID, fresh_uid
from tests.wire import (
    ABORT,
    HEAD_BYTES,
    P_DATA,
    RELEASE_RQ,
    associate_rq,
    echo_rq,
    fragments,
    item,
    p_data,
    pdu,
    split,
    store_rq,
)

PERSON, PERSON_ID = "Zyxperson^Fuzz", "ZYX4711"  # must appear in no log
NASTY = [0, 1, 2, 3, 5, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF]
FIRST_ANSWER_S = 0.2  # some get none
CHUNK = 65536
LONGEST_BYTES = 400_000


@dataclass(frozen=True)
class Case:
    """What is sent: the first part, then, after an answer or not, the second; and how the connection ends."""

    first: bytes
    then: bytes
    waits: bool
    resets: bool


def attack(port: int, case: Case, limit_s: float) -> bool:
    """Send it; whether the receiver ended the connection in time."""
    with socket.create_connection(("127.0.0.1", port), timeout=limit_s) as connection:
        with suppress(ConnectionError, TimeoutError):
            connection.sendall(case.first)
            if case.waits:
                connection.settimeout(FIRST_ANSWER_S)
                connection.recv(CHUNK)
            connection.settimeout(limit_s)
            connection.sendall(case.then)
        if case.resets:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("ii", 1, 0))
            return True
        try:
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(CHUNK):
                pass
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        except OSError:  # it was reset before we could
            return True
        return True


# --- Recording


@dataclass
class Recording:
    """A proxy that writes down what each client of it sends."""

    port: int
    streams: list[bytearray] = field(default_factory=list)


@contextmanager
def recorded(port: int) -> Iterator[Recording]:
    """A proxy on a free port before `port`."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        recording = Recording(server.getsockname()[1])
        thread = threading.Thread(target=_serve, args=(server, port, recording), daemon=True)
        thread.start()
        yield recording
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def _serve(server: socket.socket, port: int, recording: Recording) -> None:
    with suppress(OSError):
        while True:
            client, _ = server.accept()
            upstream = socket.create_connection(("127.0.0.1", port))
            recording.streams.append(bytearray())
            for source, sink, stream in ((client, upstream, recording.streams[-1]), (upstream, client, None)):
                threading.Thread(target=_pump, args=(source, sink, stream), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket, stream: bytearray | None) -> None:
    with suppress(OSError):
        while chunk := source.recv(CHUNK):
            if stream is not None:
                stream += chunk
            sink.sendall(chunk)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def made_associations() -> list[bytes]:
    """Associations as other senders make them: fragments of every size, several PDVs in a PDU, an echo, an abort."""
    data_set = encode(ct_dataset(PatientName=PERSON, PatientID=PERSON_ID, SOPInstanceUID=fresh_uid()))
    command = store_rq(fresh_uid())
    release, abort = pdu(RELEASE_RQ, bytes(4)), pdu(ABORT, bytes(4))
    whole = p_data(1, command, is_command=True) + b"".join(fragments(1, data_set, 16000))
    small = b"".join(
        p_data(1, command[at : at + 7], is_command=True, is_last=at + 7 >= len(command))
        for at in range(0, len(command), 7)
    )
    small += b"".join(fragments(1, data_set, 50))
    together = pdu(P_DATA, b"".join(part[HEAD_BYTES:] for part in split(whole)))
    echo = p_data(3, echo_rq(), is_command=True)
    identity = item(0x58, pack(">BBH", 2, 0, 4) + b"user" + pack(">H", 6) + b"secret")
    window = item(0x53, pack(">HH", 4, 4))
    role = item(0x54, pack(">H", len(SOP_CLASS_UID)) + SOP_CLASS_UID.encode() + b"\1\1")
    many = [(2 * n + 1, f"1.2.840.10008.5.1.4.1.1.{n}", [TRANSFER_SYNTAX_UID]) for n in range(128)]
    return [
        associate_rq() + whole + release,
        associate_rq() + small + release,
        associate_rq() + together + echo + abort,
        associate_rq(more_user_items=identity + window + role) + echo + release,
        associate_rq(many) + whole + release,
    ]


def broken_data_sets(folder: Path) -> Iterator[bytes]:
    """Associations that send each broken file's bytes after group 0002, whatever they are."""
    for path in sorted(folder.rglob("*.dcm")):
        content = path.read_bytes()
        start = content.find(b"\x08\x00", 132 if content[128:132] == b"DICM" else 0)
        if len(content) <= LONGEST_BYTES:
            sop_class, sop_instance, syntax = _identity(path)
            parts = p_data(1, store_rq(sop_instance, sop_class_uid=sop_class), is_command=True)
            parts += b"".join(fragments(1, content[max(start, 0) :], 16000))
            yield associate_rq([(1, sop_class, [syntax])]) + parts + pdu(RELEASE_RQ, bytes(4))


def _identity(path: Path) -> tuple[str, str, str]:
    """SOP class, SOP instance and transfer syntax as far as anything can be read of the file."""
    found = [SOP_CLASS_UID, fresh_uid(), TRANSFER_SYNTAX_UID]
    with suppress(Exception):  # it is broken on purpose
        dataset = dcmread(path, force=True, specific_tags=["SOPClassUID", "SOPInstanceUID"])
        values = dataset.get("SOPClassUID"), dataset.get("SOPInstanceUID"), dataset.file_meta.get("TransferSyntaxUID")
        found = [str(value or other) for value, other in zip(values, found, strict=True)]
    return found[0], found[1], found[2]


# --- Mutation


class Mutator:
    """Makes cases out of good streams."""

    def __init__(self, streams: Sequence[bytes], seed: int) -> None:
        self._streams, self._random = list(streams), random.Random(seed)
        self._ways: list[Callable[[list[bytes]], list[bytes]]] = [
            self._bytes, self._bytes, self._pdu_head, self._order, self._pdv_head, self._command, self._data_set,
            self._data_set, self._items, self._items, self._cut, self._endless,
        ]  # fmt: skip

    def case(self) -> Case:
        """The next one."""
        chance = self._random
        parts = split(chance.choice(self._streams))
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            parts = chance.choice(self._ways)(parts) or [b""]
        return Case(parts[0], b"".join(parts[1:]), chance.random() < 0.7, chance.random() < 0.2)

    def _bytes(self, parts: list[bytes]) -> list[bytes]:
        at = self._random.randrange(len(parts))
        return [*parts[:at], self._spoilt(parts[at]), *parts[at + 1 :]]

    def _spoilt(self, content: bytes) -> bytes:
        chance, changed = self._random, bytearray(content)
        for _ in range(chance.choice((1, 1, 2, 8))):
            at = chance.randrange(len(changed) + 1)
            match chance.randrange(5):
                case 0 if at < len(changed):
                    changed[at] ^= 1 << chance.randrange(8)
                case 1:
                    changed[at:at] = chance.randbytes(chance.choice((1, 2, 16, 300)))
                case 2:
                    del changed[at : at + chance.choice((1, 2, 8, 100))]
                case 3 if at + 4 <= len(changed):
                    pack_into(chance.choice((">L", "<L")), changed, at, chance.choice(NASTY))
                case _ if at + 2 <= len(changed):
                    pack_into(chance.choice((">H", "<H")), changed, at, chance.choice(NASTY) & 0xFFFF)
        return bytes(changed)

    def _pdu_head(self, parts: list[bytes]) -> list[bytes]:
        at = self._random.randrange(len(parts))
        changed = bytearray(parts[at])
        if len(changed) < HEAD_BYTES:
            return parts
        if self._random.random() < 0.4:
            changed[0] = self._random.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 0x80, 0xFF))
        else:
            (length,) = unpack_from(">L", changed, 2)
            wrong = [length + 1, length - 1, length * 2, *NASTY]
            pack_into(">L", changed, 2, self._random.choice(wrong) & 0xFFFFFFFF)
        return [*parts[:at], bytes(changed), *parts[at + 1 :]]

    def _order(self, parts: list[bytes]) -> list[bytes]:
        changed = list(parts)
        one, other = (self._random.randrange(len(parts)) for _ in range(2))
        match self._random.randrange(4):
            case 0:
                changed[one], changed[other] = changed[other], changed[one]
            case 1:
                changed.insert(one, changed[other])
            case 2:
                del changed[one]
            case _:
                changed.insert(one, pdu(self._random.randrange(9), self._random.randbytes(self._random.randrange(12))))
        return changed

    def _pdv_head(self, parts: list[bytes]) -> list[bytes]:
        return self._in_data(parts, lambda content: self._with(content, HEAD_BYTES, HEAD_BYTES + 6))

    def _with(self, content: bytes, start: int, end: int) -> bytes:
        """Something nasty within these bytes."""
        changed, chance = bytearray(content), self._random
        if len(changed) < end:
            return content
        if chance.random() < 0.5:
            changed[chance.randrange(start, end)] = chance.choice((0, 1, 2, 3, 4, 5, 0x7F, 0xFF))
        else:
            pack_into(">L", changed, start, chance.choice(NASTY))
        return bytes(changed)

    def _command(self, parts: list[bytes]) -> list[bytes]:
        return self._in_data(
            parts, lambda content: content[: HEAD_BYTES + 6] + self._spoilt(content[HEAD_BYTES + 6 :]), 3
        )

    def _data_set(self, parts: list[bytes]) -> list[bytes]:
        def deeper(content: bytes) -> bytes:
            head, body = content[: HEAD_BYTES + 6], content[HEAD_BYTES + 6 :]
            depth = self._random.choice((1, 50, 2000))
            nest = b"\x08\x00\x40\x11SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * depth
            body = nest + body if self._random.random() < 0.2 else self._spoilt(body)
            return p_data(head[HEAD_BYTES + 4], body, is_command=False)

        return self._in_data(parts, deeper, 2)

    def _in_data(self, parts: list[bytes], change: Callable[[bytes], bytes], control: int | None = None) -> list[bytes]:
        """Change one P-DATA-TF, of that message control header where one is given."""
        able = [at for at, part in enumerate(parts) if part[:1] == b"\4" and len(part) > HEAD_BYTES + 6]
        able = [at for at in able if control is None or parts[at][HEAD_BYTES + 5] == control] or able
        if not able:
            return self._bytes(parts)
        at = self._random.choice(able)
        return [*parts[:at], change(parts[at]), *parts[at + 1 :]]

    def _items(self, parts: list[bytes]) -> list[bytes]:
        """A-ASSOCIATE-RQ with an item made wrong, doubled, or more of it."""
        chance, fixed = self._random, 68
        body = bytearray(parts[0][HEAD_BYTES:])
        if len(body) < fixed + 4:
            return parts
        match chance.randrange(4):
            case 0:
                body[:fixed] = self._spoilt(bytes(body[:fixed]))[:fixed].ljust(fixed, b"\0")
            case 1:
                body += item(
                    chance.choice((0x10, 0x20, 0x30, 0x40, 0x50, 0x51, 0x58, 0xEE)),
                    chance.randbytes(chance.randrange(80)),
                )
            case 2:
                body[fixed:] = body[fixed:] * chance.choice((2, 40))
            case _:
                body[fixed:] = self._spoilt(bytes(body[fixed:]))
        return [pdu(1, bytes(body)), *parts[1:]]

    def _cut(self, parts: list[bytes]) -> list[bytes]:
        whole = b"".join(parts)
        kept = whole[: self._random.randrange(len(whole) + 1)]
        return [kept[: len(parts[0])], kept[len(parts[0]) :]]

    def _endless(self, parts: list[bytes]) -> list[bytes]:
        """Many fragments that never say that they are the last."""
        fragment = self._random.randbytes(self._random.choice((0, 1, 100)))
        control = self._random.random() < 0.5
        return parts[:1] + [p_data(1, fragment, is_command=control, is_last=False)] * self._random.choice((10, 1000))


# --- From nothing, by hypothesis

_numbers = st.sampled_from(NASTY)
_bodies = st.binary(max_size=200)
_pdvs = st.builds(
    lambda length, context_id, control, body: (
        pack(">LBB", length if length >= 0 else len(body) + 2, context_id, control) + body
    ),
    st.one_of(st.just(-1), _numbers),
    st.integers(0, 255),
    st.integers(0, 255),
    _bodies,
)
_pdus = st.one_of(
    st.builds(lambda parts: pdu(P_DATA, b"".join(parts)), st.lists(_pdvs, max_size=4)),
    st.builds(pdu, st.integers(0, 255), _bodies),
    st.builds(lambda kind, length, body: pack(">BxL", kind, length) + body, st.integers(0, 9), _numbers, _bodies),
    st.builds(lambda user: associate_rq(more_user_items=user), _bodies),
)
made_cases = st.builds(
    lambda parts, is_good, waits: Case(associate_rq() if is_good else b"", b"".join(parts), waits and is_good, False),
    st.lists(_pdus, max_size=6),
    st.booleans(),
    st.booleans(),
)
