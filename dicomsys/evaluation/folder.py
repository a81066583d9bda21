"""Where everything of one instance lies: one folder, readable by its owner only."""

import hashlib
import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CODE = Path(__file__).resolve().parent.parent.parent
PLAIN_PATH = re.compile(r"[A-Za-z0-9_./+-]{1,70}")  # a Unix socket's path has at most 107 bytes


@dataclass(frozen=True)
class Folder:
    """The paths of one instance below `path`, which is absolute."""

    path: Path

    @property
    def identity(self) -> str:
        """A short word that tells this instance from others on the machine."""
        return hashlib.sha256(os.fsencode(self.path)).hexdigest()[:8]

    @property
    def env_file(self) -> Path:
        return self.path / "env"

    @property
    def endpoints_file(self) -> Path:
        return self.path / "endpoints.json"

    @property
    def ports_file(self) -> Path:
        return self.path / "ports.json"

    @property
    def admin_password_file(self) -> Path:
        return self.path / "admin-password"

    @property
    def keyring_file(self) -> Path:
        return self.path / "keyring" / "secrets.json"

    @property
    def master_key_file(self) -> Path:
        return self.path / "keys" / "master.key"

    @property
    def certificates(self) -> Path:
        return self.path / "certificates"

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def static(self) -> Path:
        return self.path / "static"

    @property
    def logs(self) -> Path:
        return self.path / "log"

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def lock_file(self) -> Path:
        return self.run / "lock"

    @property
    def state_file(self) -> Path:
        return self.run / "state.json"

    @property
    def stamps(self) -> Path:
        return self.path / "stamps"

    @property
    def home(self) -> Path:
        return self.path / "home"

    @property
    def bytecode(self) -> Path:
        return self.path / "cache" / "bytecode"

    @property
    def postgres_data(self) -> Path:
        return self.path / "postgresql" / "data"

    @property
    def rabbitmqctl(self) -> Path:
        return self.path / "rabbitmq" / "rabbitmqctl"

    def create(self) -> None:
        """Make the folders that are missing, closed to others."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.path.chmod(0o700)
        for file in (self.keyring_file, self.master_key_file, self.postgres_data):
            file.parent.mkdir(mode=0o700, exist_ok=True)
        for folder in (self.certificates, self.data, self.logs, self.run, self.stamps, self.home):
            folder.mkdir(mode=0o700, exist_ok=True)

    def short(self) -> Path:
        """A path to this folder that is short and plain enough for Unix sockets and for RabbitMQ's scripts.

        It is the folder itself, or a symbolic link to it in a closed temporary folder.
        """
        if PLAIN_PATH.fullmatch(str(self.path)):
            return self.path
        remembered = self.run / "short"
        if remembered.is_symlink():
            link = remembered.readlink()
            if link.is_symlink() and link.lstat().st_uid == os.getuid() and link.readlink() == self.path:
                return link
            remembered.unlink()
        link = Path(tempfile.mkdtemp(prefix="dicomsys-", dir="/tmp")) / "i"  # noqa: S108 - a closed folder
        link.symlink_to(self.path)
        remembered.symlink_to(link)
        return link

    def forget_short(self) -> None:
        """Remove what `short` may have put into the temporary folder."""
        remembered = self.run / "short"
        if remembered.is_symlink():
            link = remembered.readlink()
            if link.is_symlink() and link.lstat().st_uid == os.getuid():
                link.unlink()
                link.parent.rmdir()
            remembered.unlink()


def write_private(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a whole file that only its owner may read; readers see the old or the new text, never a part."""
    partial = path.with_name(path.name + ".new")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
    partial.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """What a file of this instance says; nothing where it is missing or half written."""
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return {}
