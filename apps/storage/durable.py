"""Writing so that a power cut cannot take it back. Plain Python.

A file is safe when its bytes are synced and the folder that names it is synced; a new folder also needs its parent.
"""

import errno
import os
from pathlib import Path

_UNSUPPORTED = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)  # some network file systems cannot sync a folder


def sync_folder(folder: Path) -> None:
    """fsync a folder; where the file system has no such thing, rename is durable by itself or nothing helps."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync_open_folder(descriptor)
    finally:
        os.close(descriptor)


def sync_open_folder(descriptor: int) -> None:
    """The same by the descriptor of the folder."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


def make_folders(folder: Path) -> None:
    """Create a folder with its parents, each synced into the first that already existed."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        sync_folder(new.parent)
