"""Small pictures of stored images, kept in memory up to a number of bytes."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

from apps.archive.models import Instance
from apps.core.errors import PermanentError
from apps.rendering.thumbnail import render_thumbnail

logger = logging.getLogger(__name__)

THUMBNAIL_PX, LARGE_PX = 192, 1024
SIZES_PX = (THUMBNAIL_PX, LARGE_PX)
CACHE_BYTES = 48_000_000


class ByteCache:
    """The most recently used values, together at most `limit_bytes` long. Threads may share it."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._values: OrderedDict[str, bytes] = OrderedDict()
        self._lock = Lock()

    def get_or_make(self, key: str, make: Callable[[], bytes]) -> bytes:
        """The kept value, else what make returns; two threads may make the same one."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        self._keep(key, value)
        return value

    def _keep(self, key: str, value: bytes) -> None:
        with self._lock:
            if len(value) > self.limit_bytes:
                return
            self.used_bytes += len(value) - len(self._values.pop(key, b""))
            self._values[key] = value
            while self.used_bytes > self.limit_bytes:
                self.used_bytes -= len(self._values.popitem(last=False)[1])


_cache = ByteCache(CACHE_BYTES)


def thumbnail_key(instance: Instance, frame: int, size_px: int) -> str:
    """What the picture depends on: the data set's digest, the frame, the size."""
    return f"{bytes(instance.dataset_sha256).hex()}-{frame}-{size_px}"


def thumbnail_png(instance: Instance, frame: int, size_px: int) -> bytes | None:
    """PNG bytes of one frame (from 1) inside size_px x size_px, or None where it cannot be shown."""
    try:
        png = _cache.get_or_make(thumbnail_key(instance, frame, size_px), lambda: _render(instance, frame, size_px))
    except OSError as error:
        logger.warning("cannot read the file of %s: %s", instance.sop_instance_uid, error.strerror)
        return None
    return png or None


def _render(instance: Instance, frame: int, size_px: int) -> bytes:
    """Empty for what can never be shown, so that nobody decodes it again and again."""
    try:
        return render_thumbnail(instance.path, frame, size_px)
    except PermanentError as error:
        logger.warning("no picture of %s: %s", instance.sop_instance_uid, type(error).__name__)
        return b""
