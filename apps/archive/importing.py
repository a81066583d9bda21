"""Importing files from media: each good file takes the way of a received one, through the spool into the archive.

The medium is only read. What is refused is not kept, because the medium still has it; what conflicts is kept aside as
if it had been received. Run again, an import finds what it stored before as duplicates.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from errno import EFAULT
from mmap import ACCESS_READ, mmap
from pathlib import Path
from tempfile import mkdtemp

from django.conf import settings

from apps.archive.compare import same_content
from apps.archive.elements import MediaDirectoryError, NotDicomError, UnreadableError
from apps.archive.header import Header, read_header
from apps.archive.ingest import Ingested, store_open_batch
from apps.archive.media import MediaFile, walk_media
from apps.archive.models import Instance
from apps.storage.durable import make_folders
from apps.storage.part10 import part10_head
from apps.storage.spool import BATCH_FILES, Batch, Spool

IMPORT_AE_TITLE = "IMPORT"  # stands as sender in the file meta of a file that had none

_BATCH_BYTES = 50_000_000


class Imported(Enum):
    """What became of one file of a medium."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    UNREADABLE = "unreadable"
    MISSING = "missing"
    NOT_DICOM = "not DICOM"
    MEDIA_DIRECTORY = "DICOMDIR"

    @property
    def is_refused(self) -> bool:
        """Whether a person should look at it."""
        return self in (Imported.CONFLICT, Imported.UNREADABLE, Imported.MISSING)


@dataclass(frozen=True, slots=True)
class ImportedFile:
    """One file, what became of it, and why where that is a question. The label may name a person: not for logs."""

    label: str
    outcome: Imported
    reason: str = ""
    size_bytes: int = 0


def import_media(paths: Iterable[Path], should_stop: Callable[[], bool] = lambda: False) -> Iterator[ImportedFile]:
    """Store every instance found below the paths; yields each file once it is settled.

    Stops between two files when asked to. Raises OSError, RetryableError or a database error when the archive cannot
    take more now: then what was copied already waits in the spool and is stored by the spool sweep.
    """
    spool = Spool(settings.SPOOL_DIR, settings.SPOOL_MIN_FREE_BYTES)
    filling: _Filling | None = None
    with _work_folder() as work_folder, closing(walk_media(paths, work_folder)) as files:
        try:
            for file in files:
                read = _read(file)
                if isinstance(read, ImportedFile):
                    yield read
                elif file.path:
                    spool.check_room()
                    filling = filling or _Filling(spool.open_batch())
                    refused = filling.add(file.label, file.path, read)
                    if refused:
                        yield refused
                if should_stop():
                    break
                if filling and filling.is_full:
                    yield from filling.store()
                    filling = None
            if filling:
                yield from filling.store()
        finally:
            if filling:
                filling.hand_over()


def preview_media(paths: Iterable[Path], should_stop: Callable[[], bool] = lambda: False) -> Iterator[ImportedFile]:
    """What `import_media` would make of every file, as far as it can be told without storing; nothing is changed."""
    seen: dict[str, bytes] = {}
    with _work_folder() as work_folder, closing(walk_media(paths, work_folder)) as files:
        for file in files:
            read = _read(file)
            yield read if isinstance(read, ImportedFile) else _expected(file, read, seen)
            if should_stop():
                return


def _read(file: MediaFile) -> Header | ImportedFile:
    if file.path is None:
        return ImportedFile(file.label, Imported.MISSING if file.is_missing else Imported.UNREADABLE, file.reason)
    try:
        return read_header(file.path)
    except NotDicomError as error:
        return ImportedFile(file.label, Imported.NOT_DICOM, str(error))
    except MediaDirectoryError as error:
        return ImportedFile(file.label, Imported.MEDIA_DIRECTORY, str(error))
    except UnreadableError as error:
        return ImportedFile(file.label, Imported.UNREADABLE, str(error))
    except OSError as error:
        return ImportedFile(file.label, Imported.UNREADABLE, error.strerror or type(error).__name__)


def _expected(file: MediaFile, header: Header, seen: dict[str, bytes]) -> ImportedFile:
    before = seen.setdefault(header.sop_instance_uid, header.dataset_sha256)
    known = Instance.objects.select_related("series__study", "volume").filter(sop_instance_uid=header.sop_instance_uid)
    instance = known.first()
    outcome = Imported.STORED
    if instance and file.path:
        is_same = bytes(instance.dataset_sha256) == header.dataset_sha256 or same_content(file.path, instance.path)
        outcome = Imported.DUPLICATE if is_same else Imported.CONFLICT
    elif before is not header.dataset_sha256:
        outcome = Imported.DUPLICATE if before == header.dataset_sha256 else Imported.CONFLICT
    reason = "this SOP Instance UID is known with other content" if outcome is Imported.CONFLICT else ""
    return ImportedFile(file.label, outcome, reason, header.size_bytes)


class _Filling:
    """A batch of the spool that is being filled, and which file of the medium each of its files was."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._sources: dict[Path, tuple[str, int]] = {}
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether it should be stored."""
        return len(self._sources) >= BATCH_FILES or self._bytes >= _BATCH_BYTES

    def add(self, label: str, path: Path, header: Header) -> ImportedFile | None:
        """Copy one file into the spool; None unless it cannot be read any more. Raises OSError when the spool fails."""
        spooled = self._copy(path, _head(header))
        if spooled is None:
            return ImportedFile(label, Imported.UNREADABLE, "can no longer be read")
        self._sources[spooled] = (label, header.size_bytes)
        self._bytes += header.size_bytes
        return None

    def _copy(self, path: Path, head: bytes) -> Path | None:
        try:
            with path.open("rb") as file:
                body = memoryview(mmap(file.fileno(), 0, access=ACCESS_READ))
        except (OSError, ValueError):
            return None
        try:
            return self._batch.write((head, body))
        except OSError as error:
            if error.errno != EFAULT:  # that is: the kernel could not fetch what was to be written
                raise
            return None

    def store(self) -> list[ImportedFile]:
        """Bring it into the archive."""
        results = store_open_batch(self._batch)
        return [self._imported(result) for result in results]

    def _imported(self, result: Ingested) -> ImportedFile:
        label, size_bytes = self._sources[result.path]
        outcome = Imported(result.outcome.value)
        reason = f"{result.reason}; a copy is kept aside" if outcome.is_refused else result.reason
        return ImportedFile(label, outcome, reason, size_bytes)

    def hand_over(self) -> None:
        """Leave what is in it to the spool sweep; nothing to do when it was stored."""
        for partial in self._batch.folder.glob("*.part"):
            partial.unlink()
        self._batch.close()


def _head(header: Header) -> bytes:
    """What a file without file meta information lacks, so that what is stored is a DICOM file (PS3.10 7.1)."""
    if header.dataset_offset:
        return b""
    return part10_head(
        header.sop_class_uid,
        header.sop_instance_uid,
        header.transfer_syntax_uid,
        IMPORT_AE_TITLE,
        settings.AE_TITLE,
    )


@contextmanager
def _work_folder() -> Iterator[Path]:
    """A folder for members of ZIP files; those of imports that were killed are removed."""
    root = settings.DATA_DIR / "import"
    make_folders(root)
    for left_behind in root.iterdir():
        with suppress(OSError), _locked(left_behind):
            shutil.rmtree(left_behind)
    folder = Path(mkdtemp(dir=root))
    with _locked(folder):
        try:
            yield folder
        finally:
            shutil.rmtree(folder)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder. Raises BlockingIOError when another process holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
