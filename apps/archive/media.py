"""Walking media: files, folders, ZIP files and DICOMDIRs (PS3.10 8), as people bring them.

Names on a medium are never used as paths to write to, and nothing is followed twice. Labels may hold names of persons:
they are for the operator's terminal and report, not for logs.
"""

from __future__ import annotations

import stat
import tempfile
import warnings
import zlib
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import error as StructError  # noqa: N812
from struct import unpack_from
from typing import IO
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from pydicom import dcmread
from pydicom.multival import MultiValue

from apps.archive.elements import Rationed

_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_ENCRYPTED = 0x1  # general purpose bit flag 0 (APPNOTE 4.4.4)
_ZIP_ERRORS = (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, StructError)
_CHUNK_BYTES = 1 << 20
_DICOMDIR_BYTES = 64 << 20
_DICOMDIR_READS = 20_000_000


@dataclass(frozen=True, slots=True)
class MediaFile:
    """One file that was found, or why it cannot be had.

    `label` says where, safe to print. `path` can be read until the next file is asked for; it is None when `reason`
    says why. `is_missing` when only a DICOMDIR tells of it.
    """

    label: str
    path: Path | None = None
    reason: str = ""
    is_missing: bool = False


@dataclass(frozen=True, slots=True)
class ZipLimits:
    """What one ZIP file may unpack to: against ZIP bombs."""

    directory_bytes: int = 256 << 20  # about a million entries
    member_bytes: int = 16 << 30
    total_bytes: int = 1 << 40
    ratio: int = 250
    ratio_from_bytes: int = 256 << 20  # less is unpacked whatever its ratio: an empty image packs well


DEFAULT_LIMITS = ZipLimits()


def walk_media(
    paths: Iterable[Path], work_folder: Path, limits: ZipLimits = DEFAULT_LIMITS
) -> Generator[MediaFile, None, None]:
    """Every file below the paths, once, in the order of names.

    Folders are walked with what they link to. ZIP files are unpacked into `work_folder`, one member at a time, also
    those inside ZIP files. A DICOMDIR that is named itself stands for the files it lists; one in a folder or ZIP file
    only tells what is missing. It is itself among the files.
    """
    walk = _Walk(work_folder, limits)
    for path in paths:
        yield from walk.any(path)


def count_files(paths: Iterable[Path]) -> int:
    """About how many files a walk will find: a ZIP file counts as one."""
    return sum(1 for path in paths for _ in (_files_below(path, set()) if path.is_dir() else [path]))


def printable(text: str) -> str:
    """Text that does nothing to a terminal: what is not printable is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class _Walk:
    def __init__(self, work_folder: Path, limits: ZipLimits) -> None:
        self._work_folder = work_folder
        self._limits = limits
        self._folders: set[tuple[int, int]] = set()
        self._files: set[tuple[int, int]] = set()

    def any(self, path: Path) -> Iterator[MediaFile]:
        """What one argument stands for."""
        if path.is_dir():
            for found in _files_below(path, self._folders):
                yield from self._file(found)
                if _is_dicomdir(found.name):
                    yield from _missing(found, _FolderTree(found.parent))
        else:
            yield from self._file(path)
            if _is_dicomdir(path.name):
                yield from self._listed(path)

    def _file(self, path: Path) -> Iterator[MediaFile]:
        label = printable(str(path))
        try:
            status = path.stat()
            if stat.S_ISDIR(status.st_mode):
                next(path.iterdir(), None)  # says why it could not be walked
            if not stat.S_ISREG(status.st_mode):
                yield MediaFile(label, reason="neither a file nor a folder")
                return
            if (status.st_dev, status.st_ino) in self._files:
                return
            self._files.add((status.st_dev, status.st_ino))
            is_zip = _is_zip(path)
        except OSError as error:
            yield MediaFile(label, reason=_said(error))
            return
        if is_zip:
            yield from self._archive(path, label, depth=0)
        else:
            yield MediaFile(label, path)

    def _listed(self, dicomdir: Path) -> Iterator[MediaFile]:
        tree = _FolderTree(dicomdir.parent)
        yield from _missing(dicomdir, tree)
        for file_id in _file_ids(dicomdir) or []:
            found = tree.find(file_id)
            if found:
                yield from self._file(found)

    def _archive(self, path: Path, label: str, depth: int) -> Iterator[MediaFile]:
        if depth > 1:
            yield MediaFile(label, reason="a ZIP file inside a ZIP file inside a ZIP file")
            return
        try:
            if _directory_bytes(path) > self._limits.directory_bytes:
                yield MediaFile(label, reason="a ZIP file with too many entries")
                return
            with ZipFile(path) as archive, tempfile.TemporaryDirectory(dir=self._work_folder) as folder:
                yield from self._members(archive, label, Path(folder) / "member", depth)
        except _ZIP_ERRORS:
            yield MediaFile(label, reason="a damaged ZIP file")
        except OSError as error:
            yield MediaFile(label, reason=_said(error))

    def _members(self, archive: ZipFile, label: str, target: Path, depth: int) -> Iterator[MediaFile]:
        members = [info for info in archive.infolist() if not info.is_dir()]
        tree = _ZipTree(members)
        unpacker = _Unpacker(archive, self._limits)
        for info in members:
            member_label = f"{label}: {printable(info.filename)}"
            try:
                unpacker.unpack(info, target)
            except _TooMuchError:
                yield MediaFile(label, reason="unpacks to far more than it should: the rest was left out")
                return
            except _RefusedError as error:
                yield MediaFile(member_label, reason=str(error))
            except _ZIP_ERRORS:
                yield MediaFile(member_label, reason="damaged inside its ZIP file")
            else:
                yield from self._member(info, target, tree, member_label, depth)

    def _member(self, info: ZipInfo, path: Path, tree: _ZipTree, label: str, depth: int) -> Iterator[MediaFile]:
        if _is_zip(path):
            yield from self._archive(path.rename(path.with_name("inner")), label, depth + 1)
            return
        yield MediaFile(label, path)
        *folder, name = _parts(info.filename)
        if _is_dicomdir(name):
            yield from _missing(path, tree.below(tuple(folder)), label)


def _files_below(folder: Path, known: set[tuple[int, int]]) -> Iterator[Path]:
    """Everything in a folder and its folders but the folders themselves; a folder that was visited is passed over."""
    waiting = [folder]
    while waiting:
        folder = waiting.pop()
        try:
            status = folder.stat()
            entries = sorted(folder.iterdir())
        except OSError:
            yield folder  # opening it will say why
            continue
        if (status.st_dev, status.st_ino) in known:
            continue
        known.add((status.st_dev, status.st_ino))
        folders = []
        for entry in entries:
            if entry.is_dir():
                folders.append(entry)
            else:
                yield entry
        waiting += reversed(folders)


def _said(error: OSError) -> str:
    return error.strerror or type(error).__name__


# --- ZIP files


class _RefusedError(Exception):
    """One member cannot be unpacked."""


class _TooMuchError(Exception):
    """The whole file is a bomb."""


class _Unpacker:
    """Unpacks members of one ZIP file and counts what comes out, whatever its directory claims."""

    def __init__(self, archive: ZipFile, limits: ZipLimits) -> None:
        self._archive = archive
        self._limits = limits
        self._packed_bytes = Path(archive.filename or "").stat().st_size
        self._unpacked_bytes = 0

    def unpack(self, info: ZipInfo, target: Path) -> None:
        """Write one member to `target`, replacing what was there."""
        if info.flag_bits & _ENCRYPTED:
            raise _RefusedError("encrypted")
        if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            raise _RefusedError(f"packed in a way that is not supported (method {info.compress_type})")
        if info.file_size > self._limits.member_bytes:
            raise _RefusedError(f"larger than {self._limits.member_bytes} bytes")
        with self._archive.open(info) as member, target.open("wb") as file:
            self._copy(member, file)

    def _copy(self, member: IO[bytes], file: IO[bytes]) -> None:
        allowed = max(self._limits.ratio_from_bytes, self._limits.ratio * self._packed_bytes)
        while chunk := member.read(_CHUNK_BYTES):
            self._unpacked_bytes += len(chunk)
            if self._unpacked_bytes > min(allowed, self._limits.total_bytes):
                raise _TooMuchError
            file.write(chunk)


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(132)
    return head[:4] in _ZIP_MAGIC and head[128:] != b"DICM"  # a preamble may hold anything (PS3.10 7.1)


def _directory_bytes(path: Path) -> int:
    """Size of the central directory, which is read into memory at once (APPNOTE 4.3.14 to 4.3.16)."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 66_000))
        tail = file.read()
        end = tail.rfind(b"PK\x05\x06")
        if end < 0:
            raise BadZipFile
        (directory_bytes,) = unpack_from("<L", tail, end + 12)
        if directory_bytes == 0xFFFFFFFF and tail[end - 20 : end - 16] == b"PK\x06\x07":
            file.seek(unpack_from("<Q", tail, end - 12)[0])
            (directory_bytes,) = unpack_from("<Q", file.read(56), 40)
    return int(directory_bytes)


def _parts(name: str) -> tuple[str, ...]:
    return tuple(name.replace("\\", "/").split("/"))


# --- DICOMDIR


def _is_dicomdir(name: str) -> bool:
    return _folded(name) == "dicomdir"


def _folded(name: str) -> str:
    """A file name as media spell it: in any case, ISO 9660 adds a dot and a version."""
    return name.split(";")[0].rstrip(".").casefold()


class _FolderTree:
    """Files below a folder, found by File IDs (PS3.10 8.2)."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listings: dict[Path, dict[str, Path]] = {}

    def find(self, file_id: tuple[str, ...]) -> Path | None:
        """The file, or None when it is not there."""
        path = self._root
        for part in file_id:
            found = self._listing(path).get(_folded(part))
            if found is None:
                return None
            path = found
        return path

    def _listing(self, folder: Path) -> dict[str, Path]:
        if folder not in self._listings:
            try:
                self._listings[folder] = {_folded(entry.name): entry for entry in folder.iterdir()}
            except OSError:
                self._listings[folder] = {}
        return self._listings[folder]


class _ZipTree:
    """Files of a ZIP file, found by File IDs."""

    def __init__(self, members: Iterable[ZipInfo] = ()) -> None:
        self._names = {tuple(map(_folded, _parts(info.filename))) for info in members}
        self._root: tuple[str, ...] = ()

    def below(self, folder: tuple[str, ...]) -> _ZipTree:
        """The same, seen from a folder."""
        tree = _ZipTree()
        tree._names, tree._root = self._names, tuple(map(_folded, folder))
        return tree

    def find(self, file_id: tuple[str, ...]) -> Path | None:
        """A path that only says that the file is there."""
        name = (*self._root, *map(_folded, file_id))
        return Path(*name) if name in self._names else None


def _missing(dicomdir: Path, tree: _FolderTree | _ZipTree, label: str = "") -> Iterator[MediaFile]:
    """What a DICOMDIR lists and is not there."""
    label = label or printable(str(dicomdir))
    file_ids = _file_ids(dicomdir)
    if file_ids is None:
        yield MediaFile(label, reason="what this DICOMDIR lists cannot be read")
        return
    for file_id in file_ids:
        if tree.find(file_id) is None:
            missing = f"{label}: {printable('/'.join(file_id))}"
            yield MediaFile(missing, reason="listed in the DICOMDIR and not there", is_missing=True)


def _file_ids(dicomdir: Path) -> list[tuple[str, ...]] | None:
    """Referenced File IDs (0004,1500) in their order, each once; None when it cannot be read."""
    try:
        with dicomdir.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = file.read(_DICOMDIR_BYTES)
            records = dcmread(Rationed(content, _DICOMDIR_READS), force=True).get("DirectoryRecordSequence") or []
            found = [record.get("ReferencedFileID") for record in records]
    except Exception:  # noqa: BLE001 - whatever hostile bytes make of a parser
        return None
    ids = (tuple(map(str, value)) if isinstance(value, MultiValue) else (str(value),) for value in found if value)
    return list(dict.fromkeys(ids))
