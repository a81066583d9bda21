"""Who may open an association, decided without a database: from the signed file that apps/nodes/snapshot.py writes.

Deny by default. A file that is damaged, signed by somebody else or gone changes nothing: the last good rules stay.
Nothing here is logged but AE titles and addresses; a user name never is.
"""

import hmac
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.hashers import check_password
from django.utils.crypto import constant_time_compare

from apps.nodes import reasons
from apps.nodes.signed import UnfitFileError, read_signed
from apps.nodes.snapshot import VERSION, rules_file
from apps.nodes.titles import Address, bare, read_address

logger = logging.getLogger(__name__)

PERMANENT, BY_USER, BY_ACSE = 1, 1, 2  # PS3.8 9.3.4: result and source
NO_REASON, CALLING_NOT_RECOGNISED, CALLED_NOT_RECOGNISED = 1, 3, 7
USERNAME, USERNAME_AND_PASSCODE = 1, 2  # PS3.7 D.3.3.7.1: types of user identity
IDENTITY_BYTES_MAX = 1024
REMEMBERED_MAX = 1000
_DAMAGED = (KeyError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True, slots=True)
class UserIdentity:
    """The user identity sub-item of a request (PS3.7 D.3.3.7): its type, and its two fields as received."""

    kind: int
    primary: bytes = field(repr=False)
    secondary: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks for an association; the AE titles as received, `address` that of the peer."""

    calling_ae_title: str
    called_ae_title: str
    address: str
    is_tls: bool = False
    user_identity: UserIdentity | None = None


@dataclass(frozen=True, slots=True)
class Rejection:
    """The numbers of an A-ASSOCIATE-RJ (PS3.8 9.3.4), and the reason in words that name nobody."""

    result: int
    source: int
    reason: int
    words: str


WRONG_CALLED = Rejection(PERMANENT, BY_USER, CALLED_NOT_RECOGNISED, reasons.WRONG_CALLED)
UNKNOWN = Rejection(PERMANENT, BY_USER, CALLING_NOT_RECOGNISED, reasons.UNKNOWN)
WRONG_ADDRESS = Rejection(PERMANENT, BY_USER, CALLING_NOT_RECOGNISED, reasons.WRONG_ADDRESS)
MAY_NOT_SEND = Rejection(PERMANENT, BY_USER, CALLING_NOT_RECOGNISED, reasons.MAY_NOT_SEND)
NO_TLS = Rejection(PERMANENT, BY_USER, NO_REASON, reasons.NO_TLS)
# An authorisation failure is rejected permanently by the ACSE related function (PS3.7 D.3.3.7.3)
NO_IDENTITY = Rejection(PERMANENT, BY_ACSE, NO_REASON, reasons.NO_IDENTITY)
WRONG_IDENTITY = Rejection(PERMANENT, BY_ACSE, NO_REASON, reasons.WRONG_IDENTITY)
OTHER_IDENTITY = Rejection(PERMANENT, BY_ACSE, NO_REASON, reasons.OTHER_IDENTITY)


@dataclass(frozen=True, slots=True)
class _Identity:
    username: str
    password_hash: str


@dataclass(frozen=True, slots=True)
class _Entry:
    """One node as the receiver knows it; networks is None where the address is not checked."""

    networks: tuple[IPv4Network | IPv6Network, ...] | None
    may_send: bool
    max_associations: int | None
    requires_tls: bool
    identity: _Identity | None

    def is_at(self, address: Address | None) -> bool:
        if self.networks is None:
            return True
        return address is not None and any(address in network for network in self.networks)


@dataclass(frozen=True, slots=True)
class _Snapshot:
    called: frozenset[str]
    callers: Mapping[str, tuple[_Entry, ...]]


class Rules:
    """The rules in use. Any thread may ask; a changed file is read when the next one asks."""

    def __init__(
        self,
        path: Path,
        key: str,
        own_ae_title: str,
        *,
        own_address: str = "",
        accepts_local_strangers: bool = False,
        checks_identity: bool = False,
    ) -> None:
        self._path, self._key = path, key
        self._own_ae_title, self._own_address = bare(own_ae_title), read_address(own_address)
        self._accepts_local_strangers = accepts_local_strangers
        self._identities = _IdentityCheck() if checks_identity else None
        self._snapshot = _Snapshot(frozenset(), {})
        self._stamp: tuple[int, ...] | None = None
        self._complaint = ""
        self._reading = threading.Lock()
        self._refresh()

    def decide(self, caller: Caller, *, only_senders: bool = True, only_verifies: bool = False) -> Rejection | None:
        """None where the association may be opened.

        With only_senders=False a node that may not send to us passes too: then whoever serves the association has to
        ask what it may. only_verifies: it proposes nothing but C-ECHO. Takes microseconds, but 0.1 to 1 s for a
        password that was not seen before.
        """
        self._refresh()
        snapshot, title = self._snapshot, bare(caller.calling_ae_title)
        called = bare(caller.called_ae_title)
        if called != self._own_ae_title and called not in snapshot.called:
            return WRONG_CALLED
        address = read_address(caller.address)
        is_local = address is not None and (address.is_loopback or address == self._own_address)
        if is_local and title == self._own_ae_title and only_verifies:
            return None  # this system asks itself: the doctor
        known = snapshot.callers.get(title, ())
        here = [entry for entry in known if entry.is_at(address)]
        if not here and self._accepts_local_strangers and address is not None and address.is_loopback:
            return None
        if not here:
            return WRONG_ADDRESS if known else UNKNOWN
        return self._judge(caller, here, only_senders)

    def max_associations(self, calling_ae_title: str) -> int | None:
        """How many this AE title may have open at once; None where only the limit of the whole system holds."""
        self._refresh()
        limits = [entry.max_associations for entry in self._snapshot.callers.get(bare(calling_ae_title), ())]
        numbers = [limit for limit in limits if limit is not None]
        return sum(numbers) if numbers and len(numbers) == len(limits) else None

    def _judge(self, caller: Caller, entries: list[_Entry], only_senders: bool) -> Rejection | None:
        """Several nodes may fit: one that takes the caller is enough."""
        senders = [entry for entry in entries if entry.may_send or not only_senders]
        if not senders:
            return MAY_NOT_SEND
        open_to_it = [entry for entry in senders if caller.is_tls or not entry.requires_tls]
        if not open_to_it:
            return NO_TLS
        if self._identities is None:
            return None
        return self._identities.judge(caller.user_identity, [entry.identity for entry in open_to_it])

    def _refresh(self) -> None:
        """Read the file when it is another one than before; one thread does, the others go on with what is there."""
        if not self._reading.acquire(blocking=False):
            return
        try:
            self._read_if_changed()
        except UnfitFileError as error:  # the same file is not tried again
            self._complain(str(error))
        except OSError as error:
            self._stamp = None
            self._complain(error.strerror or type(error).__name__)
        finally:
            self._reading.release()

    def _read_if_changed(self) -> None:
        stat = self._path.stat()
        stamp = (stat.st_mtime_ns, stat.st_ino, stat.st_size, stat.st_ctime_ns)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        self._snapshot, self._complaint = _parse(read_signed(self._path, self._key)), ""
        logger.info("rules for %d calling AE titles read", len(self._snapshot.callers))

    def _complain(self, reason: str) -> None:
        """Once, not at every association."""
        if reason != self._complaint:
            logger.error("%s is not used (%s): the last good rules stay", self._path.name, reason)
        self._complaint = reason


def rules_from_settings() -> Rules:
    """The rules of this system."""
    return Rules(
        rules_file(),
        settings.RULES_KEY,
        settings.AE_TITLE,
        own_address=settings.DICOM_ADDRESS,
        accepts_local_strangers=settings.DICOM_ALLOW_UNKNOWN_LOCAL_CALLERS,
        checks_identity=settings.DICOM_USER_IDENTITY == "check",
    )


def _parse(content: dict[str, Any]) -> _Snapshot:
    try:
        if content["version"] != VERSION:
            raise UnfitFileError("it is of another version")
        callers: dict[str, tuple[_Entry, ...]] = {}
        for row in content["callers"]:
            callers[row["ae_title"]] = (*callers.get(row["ae_title"], ()), _entry(row))
        return _Snapshot(frozenset(content["called"]), callers)
    except _DAMAGED as error:
        raise UnfitFileError("it is not understood") from error


def _entry(row: dict[str, Any]) -> _Entry:
    networks, identity = row["networks"], row["identity"]
    return _Entry(
        networks=None if networks is None else tuple(ip_network(network) for network in networks),
        may_send=row["may_send"],
        max_associations=row["max_associations"],
        requires_tls=row["requires_tls"],
        identity=None if identity is None else _Identity(identity["username"], identity["password_hash"]),
    )


class _IdentityCheck:
    """User names and passwords against hashes (PS3.7 D.3.3.7). One hash at a time: a caller cannot take every core."""

    def __init__(self) -> None:
        self._remember_key = os.urandom(32)
        self._right: dict[bytes, None] = {}  # what was found right before, under a key of this process
        self._hashing = threading.Lock()

    def judge(self, offered: UserIdentity | None, wanted: Sequence[_Identity | None]) -> Rejection | None:
        if offered is not None and offered.kind not in (USERNAME, USERNAME_AND_PASSCODE):
            return OTHER_IDENTITY
        identities = [identity for identity in wanted if identity is not None]
        if len(identities) < len(wanted):
            return None  # one of the nodes wants none
        if offered is None:
            return NO_IDENTITY
        return None if any(self._is_right(offered, identity) for identity in identities) else WRONG_IDENTITY

    def _is_right(self, offered: UserIdentity, wanted: _Identity) -> bool:
        if len(offered.primary) + len(offered.secondary) > IDENTITY_BYTES_MAX:
            return False
        is_name_right = constant_time_compare(offered.primary, wanted.username)
        if not wanted.password_hash:
            return is_name_right
        # the password is hashed in any case: how long it takes must not tell whether the name was right
        is_password_right = self._is_password_right(offered.secondary, wanted.password_hash)
        return is_name_right and is_password_right and offered.kind == USERNAME_AND_PASSCODE

    def _is_password_right(self, password: bytes, password_hash: str) -> bool:
        mark = hmac.digest(self._remember_key, password_hash.encode() + b"\0" + password, "sha256")
        if mark in self._right:
            return True
        text = password.decode(errors="replace")
        with self._hashing:
            is_right = check_password(text, password_hash) and text.encode() == password
        if is_right and len(self._right) < REMEMBERED_MAX:
            self._right[mark] = None
        return is_right
