"""Walking media: nothing twice, nothing silently left out, nothing that harms."""

import os
import struct
import zipfile
from pathlib import Path

import pytest
from pydicom.fileset import FileSet

from apps.archive.header import UnreadableError, read_header
from apps.archive.media import MediaFile, ZipLimits, count_files, printable, walk_media
from tests.dicom import series_of, write_part10


@pytest.fixture
def work_folder(tmp_path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def walk(work_folder):
    """Walk and read each file while it is there: [(label, content or reason)]."""

    def run(*paths: Path, **limits: int) -> list[tuple[str, bytes | str]]:
        found = []
        for file in walk_media(paths, work_folder, ZipLimits(**limits)):
            found.append((file.label, file.path.read_bytes() if file.path else file.reason))
        assert not any(work_folder.iterdir())
        return found

    return run


def tree(root: Path, *names: str) -> Path:
    """A folder with files whose content is their name."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


def zipped(path: Path, *names: str, **contents: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, name)
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def medium(tmp_path) -> Path:
    """A CD with a DICOMDIR and three images."""
    file_set = FileSet()
    for image in series_of(3):
        file_set.add(write_part10(tmp_path, image))
    file_set.write(tmp_path / "cd")
    return tmp_path / "cd"


def images(found: list[tuple[str, bytes | str]], folder: Path) -> int:
    """How many of the found are readable instances."""
    count = 0
    for _, content in found:
        if isinstance(content, bytes):
            (folder / "check").write_bytes(content)
            try:
                read_header(folder / "check")
                count += 1
            except UnreadableError:
                continue
    return count


def test_folders_are_walked_in_order(tmp_path, walk):
    root = tree(tmp_path / "root", "b/2", "b/1", "a/1", "c", "a/x/9")

    assert [content for _, content in walk(root)] == [b"c", b"a/1", b"a/x/9", b"b/1", b"b/2"]
    assert count_files([root]) == 5


def test_nothing_is_found_twice(tmp_path, walk):
    root = tree(tmp_path / "root", "a/1", "a/2")
    (root / "again").symlink_to(root / "a")
    (root / "loop").symlink_to(root)
    (root / "a" / "link").symlink_to(root / "a" / "1")

    assert sorted(content for _, content in walk(root, root / "a", root / "a" / "1")) == [b"a/1", b"a/2"]


def test_linked_folders_are_followed(tmp_path, walk):
    tree(tmp_path / "elsewhere", "1")
    root = tree(tmp_path / "root", "2")
    (root / "there").symlink_to(tmp_path / "elsewhere")

    assert [content for _, content in walk(root)] == [b"2", b"1"]


def test_what_cannot_be_had_has_a_reason(tmp_path, walk):
    root = tree(tmp_path / "root", "ok")
    os.mkfifo(root / "pipe")
    (root / "dangling").symlink_to(root / "nowhere")

    found = {Path(label).name: content for label, content in walk(root, tmp_path / "absent")}

    assert found == {
        "ok": b"ok",
        "pipe": "neither a file nor a folder",
        "dangling": "No such file or directory",
        "absent": "No such file or directory",
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_has_a_reason(tmp_path, walk):
    root = tree(tmp_path / "root", "secret/1", "2")
    (root / "secret").chmod(0)
    (root / "2").chmod(0)

    assert [content for _, content in walk(root)] == ["Permission denied", "Permission denied"]
    (root / "secret").chmod(0o700)


def test_labels_are_safe_to_print(tmp_path, walk):
    root = tmp_path / "root"
    root.mkdir()
    (root / "a\x1b[2Jb").write_bytes(b"1")
    Path(os.fsdecode(os.fsencode(root) + b"/\xff")).write_bytes(b"2")

    labels = [Path(label).name for label, _ in walk(root)]

    assert labels == ["a\\x1b[2Jb", "\\udcff"]
    assert printable("Müller 王") == "Müller 王"


# --- ZIP files


def test_zip_files_are_unpacked_member_by_member(tmp_path, walk):
    archive = zipped(tmp_path / "a.zip", "x/1", "x/2", "README")

    found = walk(archive)

    assert [content for _, content in found] == [b"x/1", b"x/2", b"README"]
    assert [label.split(": ")[1] for label, _ in found] == ["x/1", "x/2", "README"]


def test_a_zip_file_is_known_by_its_content(tmp_path, walk):
    tree(tmp_path, "not.zip")
    zipped(tmp_path / "really", "1")

    assert [content for _, content in walk(tmp_path / "not.zip", tmp_path / "really")] == [b"not.zip", b"1"]


def test_a_dicom_file_whose_preamble_looks_like_a_zip_file_is_dicom(tmp_path, walk):
    content = b"PK\x03\x04" + bytes(124) + b"DICM"
    (tmp_path / "image").write_bytes(content)

    assert walk(tmp_path / "image") == [(str(tmp_path / "image"), content)]


def test_names_in_a_zip_file_are_never_paths(tmp_path, walk):
    archive = zipped(tmp_path / "a.zip", "../../evil", "/etc/evil", "C:\\evil")

    assert [content for _, content in walk(archive)] == [b"../../evil", b"/etc/evil", b"C:\\evil"]
    assert not list(tmp_path.rglob("evil"))


def test_zip_files_in_zip_files_are_unpacked_once(tmp_path, walk):
    innermost = zipped(tmp_path / "3.zip", "deep").read_bytes()
    inner = zipped(tmp_path / "2.zip", "middle", **{"3.zip": innermost}).read_bytes()
    outer = zipped(tmp_path / "1.zip", "top", **{"2.zip": inner})

    assert [content for _, content in walk(outer)] == [
        b"top",
        b"middle",
        "a ZIP file inside a ZIP file inside a ZIP file",
    ]


def test_encrypted_members_have_a_reason(tmp_path, walk):
    content = bytearray(zipped(tmp_path / "a.zip", "1").read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(content)

    assert [content for _, content in walk(tmp_path / "a.zip")] == ["encrypted"]


def test_other_compressions_have_a_reason(tmp_path, walk):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("1", "1")

    assert [content for _, content in walk(tmp_path / "a.zip")] == ["packed in a way that is not supported (method 14)"]


def test_a_damaged_member_does_not_stop_the_others(tmp_path, walk):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        file.writestr("1", "first")
        file.writestr("2", "second")
    archive.write_bytes(archive.read_bytes().replace(b"first", b"thirst"[:5], 1))

    assert [content for _, content in walk(archive)] == ["damaged inside its ZIP file", b"second"]


@pytest.mark.parametrize("length", [4, 40, 120, 200])
def test_a_torn_zip_file_has_a_reason(tmp_path, walk, length):
    content = zipped(tmp_path / "a.zip", "1", "2", "3").read_bytes()
    (tmp_path / "a.zip").write_bytes(content[:length])

    assert [content for _, content in walk(tmp_path / "a.zip")] == ["a damaged ZIP file"]


def test_a_bomb_is_left_alone(tmp_path, walk):
    bomb = zipped(tmp_path / "a.zip", "1", **{"bomb": bytes(50_000_000), "never": b"x"})

    found = walk(bomb, ratio_from_bytes=1 << 20)

    assert [content for _, content in found] == [b"1", "unpacks to far more than it should: the rest was left out"]


def test_a_member_that_is_too_large_is_left_out(tmp_path, walk):
    archive = zipped(tmp_path / "a.zip", "1", large=bytes(2000))

    assert [content for _, content in walk(archive, member_bytes=1000)] == [b"1", "larger than 1000 bytes"]


def test_a_zip_file_with_too_many_entries_is_not_opened(tmp_path, walk):
    archive = zipped(tmp_path / "a.zip", *map(str, range(100)))

    assert [content for _, content in walk(archive, directory_bytes=1000)] == ["a ZIP file with too many entries"]


def test_a_zip64_directory_is_measured(tmp_path, walk, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 10)
    archive = zipped(tmp_path / "a.zip", *map(str, range(100)))
    content = bytearray(archive.read_bytes())
    struct.pack_into("<L", content, content.rindex(b"PK\x05\x06") + 12, 0xFFFFFFFF)
    archive.write_bytes(content)

    assert len(walk(archive)) == 100
    assert [content for _, content in walk(archive, directory_bytes=1000)] == ["a ZIP file with too many entries"]


# --- DICOMDIR


def test_a_dicomdir_stands_for_the_files_it_lists(medium, walk, tmp_path):
    tree(medium, "VIEWER/RUN.EXE")

    found = walk(medium / "DICOMDIR")

    assert len(found) == 4  # with the DICOMDIR itself
    assert images(found, tmp_path) == 3


def test_a_folder_with_a_dicomdir_is_walked_once(medium, walk, tmp_path):
    tree(medium, "VIEWER/RUN.EXE")

    found = walk(medium, medium / "DICOMDIR")

    assert len(found) == 5
    assert images(found, tmp_path) == 3


def test_file_ids_are_found_in_any_case(medium, walk, tmp_path):
    for path in sorted(medium.rglob("*"), key=lambda path: -len(path.parts)):
        path.rename(path.with_name(path.name.lower() + (";1" if path.is_file() else "")))

    assert images(walk(medium / "dicomdir;1"), tmp_path) == 3


def test_what_a_dicomdir_lists_and_is_missing_is_reported(medium, walk, tmp_path):
    gone = next(path for path in medium.rglob("*") if path.is_file() and path.name != "DICOMDIR")
    gone.unlink()

    for found in (walk(medium), walk(medium / "DICOMDIR")):
        reasons = [(label, content) for label, content in found if isinstance(content, str)]
        assert reasons == [
            (f"{medium}/DICOMDIR: {gone.relative_to(medium)}", "listed in the DICOMDIR and not there"),
        ]
        assert images(found, tmp_path) == 2


def test_a_dicomdir_in_a_zip_file_tells_what_is_missing(medium, walk, tmp_path):
    files = [path for path in medium.rglob("*") if path.is_file()]
    archive = tmp_path / "cd.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in files[:-1]:
            file.write(path, f"cd\\{path.relative_to(medium)}")

    found = walk(archive)

    assert images(found, tmp_path) == 2
    assert [content for _, content in found if isinstance(content, str)] == ["listed in the DICOMDIR and not there"]


def test_file_ids_do_not_lead_outside(medium, walk):
    tree(medium.parent, "SECRET00")
    content = (medium / "DICOMDIR").read_bytes()
    file_id = next(path for path in medium.rglob("*") if path.is_file() and path.name != "DICOMDIR").relative_to(medium)
    raw = str(file_id).replace("/", "\\").encode()
    outside = b"..\\SECRET00".ljust(len(raw), b" ")
    (medium / "DICOMDIR").write_bytes(content.replace(raw, outside))

    found = walk(medium / "DICOMDIR")

    assert (f"{medium}/DICOMDIR: ../SECRET00", "listed in the DICOMDIR and not there") in found
    assert b"SECRET00" not in [content for _, content in found]


def test_a_broken_dicomdir_is_among_the_files(tmp_path, walk):
    tree(tmp_path / "cd", "DICOMDIR", "IM1")

    assert [content for _, content in walk(tmp_path / "cd")] == [
        b"DICOMDIR",
        "what this DICOMDIR lists cannot be read",
        b"IM1",
    ]


def test_the_work_folder_is_empty_after_an_interruption(tmp_path, work_folder):
    walking = walk_media([zipped(tmp_path / "a.zip", "1", "2")], work_folder)
    assert isinstance(next(walking), MediaFile)

    walking.close()

    assert not any(work_folder.iterdir())


def test_real_dicomdirs(walk, tmp_path):
    root = Path(os.environ.get("DICOMSYS_TEST_DATA") or pytest.skip("DICOMSYS_TEST_DATA is not set"))

    found = walk(root / "dicomdir" / "pydicom" / "DICOMDIR")

    assert images(found, tmp_path) > 5
