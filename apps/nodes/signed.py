"""A JSON file that only a holder of the key can have written. Plain Python.

It is replaced as a whole and synced, so a reader sees the old one or the new one, also after a power cut; a changed
or truncated one is told from a good one by its HMAC-SHA256.
"""

import hmac
import json
import os
from pathlib import Path
from typing import Any

from apps.core.errors import PermanentError

SIZE_MAX_BYTES = 64_000_000
_PURPOSE = b"dicomsys signed file 1\n"


class UnfitFileError(PermanentError):
    """The file is damaged, or was not written with this key; the text says which."""


def write_signed(path: Path, content: dict[str, Any], key: str) -> None:
    """Replace the file at once, for its owner only (mode 0600); durable on return. Raises OSError."""
    partial = path.with_suffix(".new")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump({"hmac_sha256": _signature(content, key), "content": content}, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    _sync_folder(path.parent)


def read_signed(path: Path, key: str) -> dict[str, Any]:
    """The content of a file that `write_signed` wrote. Raises UnfitFileError and OSError."""
    with path.open("rb") as file:
        raw = file.read(SIZE_MAX_BYTES + 1)
    if len(raw) > SIZE_MAX_BYTES:
        raise UnfitFileError("it is too large")
    try:
        envelope = json.loads(raw)
        content, signature = envelope["content"], envelope["hmac_sha256"]
        expected = _signature(content, key)
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UnfitFileError("it is damaged") from error
    if not isinstance(content, dict) or not _is_same(signature, expected):
        raise UnfitFileError("its signature is wrong")
    return content


def _signature(content: Any, key: str) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hmac.digest(key.encode(), _PURPOSE + text.encode(), "sha256").hex()


def _is_same(signature: Any, expected: str) -> bool:
    return isinstance(signature, str) and hmac.compare_digest(signature.encode(errors="replace"), expected.encode())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
