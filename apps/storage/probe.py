"""Whether a folder can hold what must not be lost: the operations of the store, tried for real. Plain Python."""

import os
import secrets
from pathlib import Path

from apps.core.errors import RetryableError
from apps.storage.durable import sync_folder

_CONTENT = b"probe"


class ProbeError(RetryableError):
    """The folder is away, read-only or does not keep what is written."""


def probe_folder(folder: Path) -> None:
    """Create, sync, rename, sync the folder, read back and delete one small file. Raises ProbeError."""
    first = folder / f".probe-{secrets.token_hex(8)}.new"
    final = first.with_suffix(".done")
    try:
        with first.open("xb") as file:
            file.write(_CONTENT)
            file.flush()
            os.fsync(file.fileno())
        first.rename(final)
        sync_folder(folder)
        if final.read_bytes() != _CONTENT:
            raise ProbeError(f"{folder} did not give back what was written")
    except OSError as error:
        raise ProbeError(f"{folder}: {error.strerror}") from error
    finally:
        first.unlink(missing_ok=True)
        final.unlink(missing_ok=True)
