"""Bringing a spooled file into the store: linked where possible, copied where not, never over something else."""

import ctypes
import errno
import os
import shutil
from enum import Enum
from pathlib import Path

from django.conf import settings

from apps.core.errors import RetryableError
from apps.storage.durable import make_folders, sync_folder
from apps.storage.models import Volume

_LINK_IMPOSSIBLE = (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)
_RENAME_NOREPLACE = 1
_AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)


class NoVolumeError(RetryableError):
    """No volume takes new objects: all are full, read-only or away."""


class Adopted(Enum):
    """What `adopt` found at the target."""

    NEW = "new"  # linked or copied by this call
    REPLAYED = "replayed"  # the very file, from a run that was cut off
    OCCUPIED = "occupied"  # something else: nothing was changed


def writable_volume() -> Volume:
    """The first volume that takes new objects. Raises NoVolumeError."""
    for volume in Volume.objects.filter(is_writable=True):
        root = Path(volume.root)
        if root.is_dir() and shutil.disk_usage(root).free > settings.SPOOL_MIN_FREE_BYTES:
            return volume
    raise NoVolumeError("no volume of the file store takes new objects: all are full, read-only or away")


def adopt(source: Path, target: Path) -> Adopted:
    """Make `target` hold the bytes of `source`, which stays (the spool entry must live until the commit).

    The caller syncs the target's folder (`sync_folder`) before its commit. Raises OSError.
    """
    make_folders(target.parent)
    try:
        os.link(source, target)
    except FileExistsError:
        return Adopted.REPLAYED if _same_bytes(source, target) else Adopted.OCCUPIED
    except OSError as error:
        if error.errno not in _LINK_IMPOSSIBLE:
            raise
        return _copy(source, target)
    return Adopted.NEW


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


def _copy(source: Path, target: Path) -> Adopted:
    temporary = target.parent / f".{target.name}.{os.getpid()}.new"
    try:
        with source.open("rb") as reader, temporary.open("wb") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
            writer.flush()
            os.fsync(writer.fileno())
        _rename_without_replacing(temporary, target)
    except FileExistsError:
        return Adopted.REPLAYED if _same_bytes(source, target) else Adopted.OCCUPIED
    finally:
        temporary.unlink(missing_ok=True)
    return Adopted.NEW


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
