"""Secrets in one encrypted file, read through `keyring`. Plain Python: settings.py needs it before Django runs.

The file is JSON, {"service/username": base64(nonce + ciphertext)}, each entry AES-256-GCM with its own name as
associated data, so that two entries cannot be exchanged unnoticed. The 32-byte master key comes from systemd
($CREDENTIALS_DIRECTORY/master.key) or from a file of its own that nobody but its owner can read.
"""

import fcntl
import json
import os
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keyring
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from keyring.backend import KeyringBackend
from keyring.compat import properties

from apps.core.errors import PermanentError

SERVICE = "dicomsys"
MASTER_KEY_BYTES = 32
NONCE_BYTES = 12


class SecretError(PermanentError):
    """A secret, the keyring file or its master key is missing, unreadable or open to others."""


class FileKeyring(KeyringBackend):
    """A keyring backend over one AES-256-GCM file."""

    def __init__(self, path: Path, master_key: bytes) -> None:
        super().__init__()
        if len(master_key) != MASTER_KEY_BYTES:
            raise SecretError(f"the master key must have {MASTER_KEY_BYTES} bytes, not {len(master_key)}")
        self.path = path
        self._cipher = AESGCM(master_key)

    @properties.classproperty
    def priority(cls) -> float:  # noqa: N805
        """Below zero: never chosen by keyring's own search, only by `open_keyring`."""
        return -1

    def get_password(self, service: str, username: str) -> str | None:
        """The secret, or None where there is none. Raises SecretError when it does not decrypt."""
        name = f"{service}/{username}"
        sealed = self._read().get(name)
        if sealed is None:
            return None
        raw = b64decode(sealed)
        try:
            return self._cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], name.encode()).decode()
        except InvalidTag as error:
            raise SecretError(
                f"secret {username!r} does not decrypt: wrong master key, or {self.path} was altered"
            ) from error

    def set_password(self, service: str, username: str, password: str) -> None:
        """Write one secret; others may write at the same time."""
        name = f"{service}/{username}"
        nonce = os.urandom(NONCE_BYTES)
        with self._locked():
            entries = self._read()
            entries[name] = b64encode(nonce + self._cipher.encrypt(nonce, password.encode(), name.encode())).decode()
            self._write(entries)

    def delete_password(self, service: str, username: str) -> None:
        """Remove one secret; one that is not there is an error of keyring's own type."""
        with self._locked():
            entries = self._read()
            if entries.pop(f"{service}/{username}", None) is None:
                raise keyring.errors.PasswordDeleteError(username)
            self._write(entries)

    def _read(self) -> dict[str, str]:
        if not self.path.exists():
            return {}
        _refuse_readable_by_others(self.path)
        entries: dict[str, str] = json.loads(self.path.read_text())
        return entries

    def _write(self, entries: dict[str, str]) -> None:
        partial = self.path.with_suffix(".new")
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(entries, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with os.fdopen(os.open(self.path.with_suffix(".lock"), os.O_WRONLY | os.O_CREAT, 0o600), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _refuse_readable_by_others(path: Path) -> None:
    if path.stat().st_mode & 0o077:
        raise SecretError(f"{path} can be read by others: run chmod go= on it")


def read_master_key(path: str = "") -> bytes:
    """The master key from systemd's credentials, else from `path`. Raises SecretError."""
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    if credentials and (Path(credentials) / "master.key").is_file():
        return (Path(credentials) / "master.key").read_bytes()
    if not path:
        raise SecretError("no master key: set DICOMSYS_MASTER_KEY_FILE or give systemd the credential master.key")
    if not Path(path).is_file():
        raise SecretError(f"no master key at {path}")
    _refuse_readable_by_others(Path(path))
    return Path(path).read_bytes()


def open_keyring(path: Path | str, master_key_file: str = "") -> FileKeyring:
    """Make our file the process's keyring; nothing else is ever searched for."""
    backend = FileKeyring(Path(path), read_master_key(master_key_file))
    keyring.set_keyring(backend)
    return backend


def read_secret(name: str) -> str:
    """The secret of that name. Raises SecretError, with the name, where it is missing."""
    secret = keyring.get_password(SERVICE, name)
    if not secret:
        raise SecretError(f"secret {name!r} is missing from the keyring")
    return secret
