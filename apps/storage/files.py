"""Bringing a spooled file into the store: linked where possible, copied where not, never over something else."""

import ctypes
import errno
import os
import shutil
from contextlib import closing, suppress
from enum import Enum
from pathlib import Path
from time import monotonic
from typing import NamedTuple

from django.conf import settings

from apps.core.errors import RetryableError
from apps.storage.durable import make_folders, sync_folder, sync_open_folder
from apps.storage.models import Volume

_LINK_IMPOSSIBLE = (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)
_RENAME_NOREPLACE = 1
_AT_FDCWD = -100
_VOLUME_BELIEVED_S = 1.0
_libc = ctypes.CDLL(None, use_errno=True)


class NoVolumeError(RetryableError):
    """No volume takes new objects: all are full, read-only or away."""


class Adopted(Enum):
    """What `adopt` found at the target."""

    NEW = "new"  # linked or copied by this call
    REPLAYED = "replayed"  # the very file, from a run that was cut off
    OCCUPIED = "occupied"  # something else: nothing was changed


class _Chosen(NamedTuple):
    """The volume that was last seen to take new objects, and until when that is believed."""

    volume: Volume
    until: float


_chosen: _Chosen | None = None


def writable_volume() -> Volume:
    """The first volume that takes new objects, looked for again after a second at the latest. Raises NoVolumeError."""
    global _chosen
    if _chosen is None or monotonic() >= _chosen.until:
        _chosen = None
        _chosen = _Chosen(_find_volume(), monotonic() + _VOLUME_BELIEVED_S)
    return _chosen.volume


def forget_volume() -> None:
    """Look for a volume anew: something went wrong, and the one that was chosen may be why."""
    global _chosen
    _chosen = None


def _find_volume() -> Volume:
    for volume in Volume.objects.filter(is_writable=True):
        root = Path(volume.root)
        if root.is_dir() and shutil.disk_usage(root).free > settings.SPOOL_MIN_FREE_BYTES:
            return volume
    raise NoVolumeError("no volume of the file store takes new objects: all are full, read-only or away")


class Shelves:
    """Folders of the store below `root`, made where they are missing and held open: each is opened and synced once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._open: dict[str, int] = {}

    def put(self, source: Path, folder: str, name: str) -> bool:
        """Make `name` hold the bytes of `source`, which stays; False when something has that name. Raises OSError.

        The caller syncs before the commit that tells of it.
        """
        try:
            os.link(source, name, dst_dir_fd=self._descriptor(folder))
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _LINK_IMPOSSIBLE:
                raise
            return _copy(source, self._root / folder / name)
        return True

    def adopt(self, source: Path, folder: str, name: str) -> Adopted:
        """`put`, and what was there already where it did not. Raises OSError."""
        if self.put(source, folder, name):
            return Adopted.NEW
        return Adopted.REPLAYED if _same_bytes(source, self._root / folder / name) else Adopted.OCCUPIED

    def drop(self, folder: str, name: str) -> None:
        """Take back what `put` has put."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._descriptor(folder))

    def sync(self) -> None:
        """Make the names in all of them durable."""
        for descriptor in self._open.values():
            sync_open_folder(descriptor)

    def close(self) -> None:
        """Give the descriptors back."""
        while self._open:
            os.close(self._open.popitem()[1])

    def _descriptor(self, folder: str) -> int:
        if folder not in self._open:
            self._open[folder] = _open_folder(self._root / folder)
        return self._open[folder]


def _open_folder(path: Path) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        make_folders(path)
        return os.open(path, flags)


def adopt(source: Path, target: Path) -> Adopted:
    """Make `target` hold the bytes of `source`, which stays (the spool entry must live until the commit).

    The caller syncs the target's folder (`sync_folder`) before its commit. Raises OSError.
    """
    with closing(Shelves(target.parent)) as shelves:
        return shelves.adopt(source, "", target.name)


def _same_bytes(source: Path, target: Path) -> bool:
    if source.samefile(target):
        return True
    if source.stat().st_size != target.stat().st_size:
        return False
    with source.open("rb") as left, target.open("rb") as right:
        while block := left.read(1 << 20):
            if block != right.read(1 << 20):
                return False
    return True


def _copy(source: Path, target: Path) -> bool:
    temporary = target.parent / f".{target.name}.{os.getpid()}.new"
    try:
        with source.open("rb") as reader, temporary.open("wb") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
            writer.flush()
            os.fsync(writer.fileno())
        _rename_without_replacing(temporary, target)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _rename_without_replacing(source: Path, target: Path) -> None:
    """renameat2(2) with RENAME_NOREPLACE; NFS knows only link(2). Raises FileExistsError."""
    names = os.fsencode(source), os.fsencode(target)
    if _libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_NOREPLACE) == 0:
        return
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS):
        os.link(source, target)
    else:
        raise OSError(number, os.strerror(number), str(target))


def keep_aside(source: Path, name: str) -> None:
    """Keep a file that cannot be stored, durably, in the quarantine folder under `name`."""
    make_folders(settings.QUARANTINE_DIR)
    if adopt(source, settings.QUARANTINE_DIR / name) is Adopted.OCCUPIED:
        raise OSError(errno.EEXIST, "the quarantine holds other bytes under that name", name)
    sync_folder(settings.QUARANTINE_DIR)
