"""Free ports on loopback: the wish first, then the next ones; what is chosen is kept for the next start."""

import contextlib
import json
import os
import pwd
import socket
from dataclasses import dataclass, field
from pathlib import Path

from dicomsys.evaluation.folder import read_json

LOOPBACK = "127.0.0.1"
WISHES = {"web": 8000, "dicom": 11112, "postgres": 5433, "amqps": 5671, "dist": 25672, "epmd": 4370}
TRIES = 200
LISTEN_STATE = "0A"  # of /proc/net/tcp


@dataclass
class Ports:
    """Port numbers by name. Each is claimed as long as this object lives, and held open until its user starts.

    RabbitMQ listens seconds after its start: in the meantime only the claim keeps other instances away. A claim is an
    abstract Unix socket, which any user can take and which ends with its process.
    """

    numbers: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _held: dict[str, socket.socket] = field(default_factory=dict, repr=False)
    _claims: list[socket.socket] = field(default_factory=list, repr=False)

    def release(self, name: str) -> int:
        """Let go of a port because its process is about to listen on it; returns its number."""
        held = self._held.pop(name, None)
        if held is not None:
            held.close()
        return self.numbers[name]

    def hold(self, name: str, wish: int) -> None:
        """Take the first free port from `wish` on; a note says who has the ones before."""
        for number in range(wish, wish + TRIES):
            claim = _claim(number)
            held = _listen(number) if claim else None
            if claim and held:
                self.numbers[name], self._held[name] = number, held
                self._claims.append(claim)
                if number != wish:
                    self.notes.append(f"port {wish} ({name}) is taken by {owner_of(wish)}: using {number}")
                return
            if claim:
                claim.close()
        raise OSError(f"no free port for {name} from {wish} to {wish + TRIES - 1}")

    def close(self) -> None:
        """Let go of everything."""
        for name in list(self._held):
            self.release(name)
        while self._claims:
            self._claims.pop().close()


def choose_ports(kept_file: Path, names: tuple[str, ...], wishes: dict[str, int]) -> Ports:
    """The ports of the last start where they are free, else others, written to `kept_file`.

    wishes replace the last or the usual ports by name. Raises OSError when nothing is free.
    """
    kept = read_json(kept_file)
    ports = Ports()
    for name in names:
        ports.hold(name, wishes.get(name) or kept.get(name) or WISHES[name])
    kept_file.write_text(json.dumps(kept | ports.numbers, indent=1))
    return ports


def _claim(number: int) -> socket.socket | None:
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        claim.bind(f"\0dicomsys-port-{number}")
    except OSError:
        claim.close()
        return None
    return claim


def port_wishes() -> dict[str, int]:
    """Ports that the caller asks for by DICOMSYS_WEB_PORT and DICOMSYS_DICOM_PORT. Raises ValueError for others."""
    wishes = {name: os.environ.get(f"DICOMSYS_{name.upper()}_PORT") for name in ("web", "dicom")}
    for name, wish in wishes.items():
        if wish and not (wish.isdigit() and 1024 <= int(wish) <= 65000):
            raise ValueError(f"DICOMSYS_{name.upper()}_PORT is {wish!r}: write a number from 1024 to 65000")
    return {name: int(wish) for name, wish in wishes.items() if wish}


def _listen(number: int) -> socket.socket | None:
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
    try:
        held.bind((LOOPBACK, number))
        held.listen(1)
    except (OSError, OverflowError):
        held.close()
        return None
    return held


def is_listening(number: int) -> bool:
    """Whether somebody listens on a port; asked of the kernel, so that no connection is half opened."""
    return _listener(number) is not None


def owner_of(number: int) -> str:
    """Who listens on a port, as far as this user may know: program and process id, else the user."""
    inode_and_user = _listener(number)
    if inode_and_user is None:
        return "an instance that is starting" if _is_claimed(number) else "another program"
    inode, user = inode_and_user
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(str(link.readlink()) == f"socket:[{inode}]" for link in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
    return f"a program of user {_user_name(user)}"


def _is_claimed(number: int) -> bool:
    claim = _claim(number)
    if claim is not None:
        claim.close()
    return claim is None


def _listener(number: int) -> tuple[str, int] | None:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == LISTEN_STATE and int(words[1].rsplit(":", 1)[1], 16) == number:
                    return words[9], int(words[7])
    return None


def _user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
