"""Every real file through C-STORE, where DCMTK can send it, and through `import_files`: nothing is silently dropped."""

import csv
import os
import subprocess
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pydicom
import pytest

from apps.archive.compare import same_content
from apps.archive.header import UID_LENGTH, read_header
from apps.storage.paths import instance_path
from tests.system.conftest import wait_until

DATA = os.environ.get("DICOMSYS_TEST_DATA")
pytestmark = pytest.mark.skipif(not DATA, reason="DICOMSYS_TEST_DATA is not set")
NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


def good_files() -> list[Path]:
    """The files that pydicom reads without force and that have the needed UIDs."""
    with (Path(DATA) / "MANIFEST.csv").open(newline="") as manifest:
        paths = [Path(DATA) / row["path"] for row in csv.DictReader(manifest) if row["read"] == "OK"]
    return [path for path in paths if has_needed_uids(path)]


def has_needed_uids(path: Path) -> bool:
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    lengths = [len(str(dataset.get(keyword) or "")) for keyword in NEEDED]
    return all(0 < length <= UID_LENGTH for length in lengths) and dataset.SOPClassUID != "1.2.840.10008.1.3.10"


def send(system, path: Path) -> bool:
    """Whether dcmsend was answered Success for this one file."""
    host, port, ae_title = system.dicom
    report = system.folder / "dcmsend.txt"
    report.unlink(missing_ok=True)
    words = ["/usr/bin/dcmsend", "-aec", ae_title, "--no-illegal-proposal", "--decompress-never", "+crf", report]
    subprocess.run([*words, host, str(port), path], capture_output=True, timeout=60)
    return report.exists() and "0x0000 (Success)" in report.read_text(errors="replace")


@pytest.fixture(scope="module")
def sent(system) -> dict[Path, bool]:
    with (Path(DATA) / "MANIFEST.csv").open(newline="") as manifest:
        return {path: send(system, path) for row in csv.DictReader(manifest) if (path := Path(DATA) / row["path"])}


def spool_is_empty(system) -> bool:
    return not list((system.folder / "data/spool").glob("*/*"))


def test_every_file_sent_is_stored_or_kept_aside(system, sent, capsys):
    acknowledged = [path for path, is_success in sent.items() if is_success]
    assert len(acknowledged) > 500
    wait_until(lambda: spool_is_empty(system), 120, "ingest has taken every batch")

    stored = dict(system.query("SELECT sop_instance_uid, dataset_sha256 FROM archive_instance"))
    aside = Counter(row[0] for row in system.query("SELECT kind FROM archive_conflict"))
    with capsys.disabled():
        print(
            f"\nC-STORE: {len(sent)} files, {len(acknowledged)} acknowledged, {len(stored)} stored, aside {dict(aside)}"
        )
    held = {sop_instance_uid(path) for path in (system.folder / "data/quarantine").iterdir()}
    lost = [path for path in acknowledged if sop_instance_uid(path) not in held | set(stored)]
    assert lost == []
    assert all(system.pid(name) for name in ("receiver", "worker-ingest"))


def sop_instance_uid(path: Path) -> str:
    """As pydicom reads it, whatever else is wrong with the file."""
    return str(pydicom.dcmread(path, force=True, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)


def file_of(row: tuple) -> Path:
    return Path(row[3]) / instance_path(row[2], row[1], row[0])


@pytest.fixture(scope="module")
def imported(system, sent) -> subprocess.CompletedProcess:
    return system.manage("import_files", DATA)


def test_every_good_file_is_stored_or_kept_aside_byte_for_byte_after_the_import(system, imported, capsys):
    with capsys.disabled():
        print("\n" + "\n".join(imported.stdout.splitlines()[-14:]))
    rows = system.query(
        "SELECT i.sop_instance_uid, r.series_instance_uid, s.study_instance_uid, v.root, i.dataset_sha256"
        " FROM archive_instance i JOIN archive_series r ON r.id = i.series_id"
        " JOIN archive_study s ON s.id = r.study_id JOIN storage_volume v ON v.id = i.volume_id"
    )
    held = dict(system.query("SELECT file_sha256, held_file FROM archive_conflict"))
    stored = {row[0]: row for row in rows}
    missing = []
    for path in good_files():
        header = read_header(path)
        row = stored.get(header.sop_instance_uid)
        if row is not None and row[4] == header.dataset_sha256:
            file = file_of(row)
            assert sha256(file.read_bytes()[read_header(file).dataset_offset :]).digest() == header.dataset_sha256
        elif header.file_sha256 in held:
            aside = system.folder / "data/quarantine" / held[header.file_sha256]
            assert aside.read_bytes() == path.read_bytes()
        elif row is None or not same_content(path, file_of(row)):
            missing.append(str(path))
    assert missing == []


def test_every_stored_study_is_found_in_the_worklist(system, imported):
    script = (
        "from apps.accounts.models import User; from apps.archive.models import Study;"
        "user = User.objects.get(username='admin');"
        "print(Study.objects.visible_to(user).count() == Study.objects.count() > 50)"
    )
    assert system.manage("shell", "-c", script).stdout.strip().endswith("True")
