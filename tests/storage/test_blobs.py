"""Blobs: whole or absent, and checked when read."""

import os
import time
from hashlib import sha256
from pathlib import Path

import pytest

from apps.storage.blobs import (
    DamagedBlobError,
    MissingBlobError,
    blob_path,
    blob_writer,
    has_blob,
    open_blob,
    remove_abandoned,
    write_blob,
)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_blob_is_found_under_its_sha256(file_store):
    name = write_blob(b"pixels")
    assert name == sha256(b"pixels").hexdigest()
    assert open_blob(name).read() == b"pixels"
    assert blob_path(name) == file_store / "rasters" / name[:2] / name[2:4] / name


def test_only_its_owner_may_read_it(file_store):
    assert blob_path(write_blob(b"pixels")).stat().st_mode & 0o077 == 0


def test_writing_it_again_keeps_one(file_store):
    assert write_blob(b"pixels") == write_blob(b"pixels")
    assert len(files(file_store)) == 1


def test_pieces_make_one_blob(file_store):
    with blob_writer() as writer:
        for piece in (b"pi", b"xe", b"ls"):
            writer.write(piece)
    assert writer.name == sha256(b"pixels").hexdigest()
    assert writer.size_bytes == 6


def test_an_error_while_writing_leaves_nothing(file_store):
    with pytest.raises(ZeroDivisionError), blob_writer() as writer:
        writer.write(b"half")
        raise ZeroDivisionError
    assert files(file_store) == []


def test_what_a_killed_writer_left_is_removed_after_an_hour(file_store):
    write_blob(b"pixels")
    for name, age_s in (("open-old", 7200), ("open-new", 10)):
        path = file_store / "rasters" / name
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age_s,) * 2)
    assert remove_abandoned() == 1
    assert {path.name for path in files(file_store)} == {"open-new", sha256(b"pixels").hexdigest()}


def test_an_altered_blob_is_not_given_out(file_store):
    name = write_blob(b"pixels")
    blob_path(name).write_bytes(b"Pixels")
    with pytest.raises(DamagedBlobError):
        open_blob(name)


def test_a_removed_blob_says_so(file_store):
    name = write_blob(b"pixels")
    blob_path(name).unlink()
    assert not has_blob(name)
    with pytest.raises(MissingBlobError, match="no longer there"):
        open_blob(name)


def test_a_name_cannot_lead_elsewhere(file_store):
    with pytest.raises(ValueError, match="64 hex"):
        blob_path("../../etc/passwd")
