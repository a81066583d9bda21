"""Importing media through the spool into the archive."""

import csv
import os
import signal
import zipfile
from hashlib import sha256
from io import StringIO
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import OperationalError
from pydicom.fileset import FileSet

from apps.archive import importing
from apps.archive.header import UnreadableError, read_header
from apps.archive.importing import Imported, import_media, preview_media
from apps.archive.ingest import store_batch
from apps.archive.models import Conflict, Instance
from apps.storage.spool import Spool
from tests.dicom import ct_dataset, encode, part10, series_of, write_part10

pytestmark = pytest.mark.django_db


@pytest.fixture
def medium(tmp_path, volume) -> Path:
    """A folder with three images, a text and a torn image."""
    folder = tmp_path / "medium"
    folder.mkdir()
    for number, image in enumerate(series_of(3)):
        (folder / f"{number}.dcm").write_bytes(part10(image))
    (folder / "README.TXT").write_text("Insert the disc.")
    (folder / "torn.dcm").write_bytes(part10(ct_dataset())[:300])
    return folder


def outcomes(*paths: Path, walk=import_media) -> list[str]:
    return [file.outcome.value for file in walk(paths)]


def run(*arguments: object) -> tuple[int, str]:
    """The command's exit status and what it printed."""
    out = StringIO()
    try:
        call_command("import_files", *map(str, arguments), stdout=out, stderr=StringIO())
    except SystemExit as end:
        return int(end.code or 0), out.getvalue()
    return 0, out.getvalue()


def counts(printed: str) -> dict[str, int]:
    lines = [line.split() for line in printed.splitlines() if line.startswith("  ")]
    return {name: int(next(word for word in words if word.isdigit())) for name, *words in lines}


def spooled() -> list[Path]:
    return [path for path in settings.SPOOL_DIR.rglob("*") if path.is_file()]


def test_every_file_has_an_outcome(medium):
    assert sorted(outcomes(medium)) == ["not DICOM", "stored", "stored", "stored", "unreadable"]
    assert Instance.objects.count() == 3
    assert spooled() == []
    assert not any((settings.DATA_DIR / "import").iterdir())


def test_what_is_stored_has_the_bytes_of_the_medium(medium):
    list(import_media([medium]))

    stored = {sha256(instance.open_file().read()).digest() for instance in Instance.objects.all()}
    assert stored == {sha256((medium / f"{number}.dcm").read_bytes()).digest() for number in range(3)}


def test_the_medium_is_left_as_it_was(medium):
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in medium.iterdir()}

    list(import_media([medium]))

    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in medium.iterdir()} == before


def test_a_second_run_finds_duplicates(medium):
    list(import_media([medium]))

    assert sorted(outcomes(medium)) == ["duplicate", "duplicate", "duplicate", "not DICOM", "unreadable"]
    assert Instance.objects.count() == 3


def test_other_content_under_a_known_uid_is_kept_aside(tmp_path, volume):
    image = ct_dataset()
    (tmp_path / "1.dcm").write_bytes(part10(image))
    image.PatientComments = "changed"
    (tmp_path / "2.dcm").write_bytes(part10(image))

    first, second = import_media([tmp_path / "1.dcm", tmp_path / "2.dcm"])

    assert (first.outcome, second.outcome) == (Imported.STORED, Imported.CONFLICT)
    assert second.reason.endswith("; a copy is kept aside")
    assert Conflict.objects.get().sop_instance_uid == image.SOPInstanceUID


def test_many_files_are_stored_in_several_batches(tmp_path, volume):
    for image in series_of(120):
        write_part10(tmp_path, image)

    assert outcomes(tmp_path).count("stored") == 120
    assert Instance.objects.count() == 120


def test_a_data_set_without_file_meta_becomes_a_dicom_file(tmp_path, volume):
    image = ct_dataset()
    (tmp_path / "bare").write_bytes(encode(image))

    assert outcomes(tmp_path / "bare") == ["stored"]
    header = read_header(Instance.objects.get().path)
    assert header.calling_ae_title == "IMPORT"
    assert header.dataset_sha256 == sha256(encode(image)).digest()


def test_a_zip_file_is_imported(medium, tmp_path):
    with zipfile.ZipFile(tmp_path / "medium.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in medium.iterdir():
            archive.write(path, f"MÜLLER/{path.name}")

    results = list(import_media([tmp_path / "medium.zip"]))

    assert sorted(result.outcome.value for result in results) == [
        "not DICOM",
        "stored",
        "stored",
        "stored",
        "unreadable",
    ]
    assert Instance.objects.count() == 3
    assert {result.label for result in results} >= {f"{tmp_path}/medium.zip: MÜLLER/0.dcm"}


def test_a_medium_with_a_dicomdir_is_imported(tmp_path, volume):
    file_set = FileSet()
    for image in series_of(3):
        file_set.add(write_part10(tmp_path, image))
    file_set.write(tmp_path / "cd")

    assert sorted(outcomes(tmp_path / "cd")) == ["DICOMDIR", "stored", "stored", "stored"]
    assert sorted(outcomes(tmp_path / "cd" / "DICOMDIR")) == ["DICOMDIR", "duplicate", "duplicate", "duplicate"]

    next(path for path in (tmp_path / "cd").rglob("*") if path.is_file() and path.name != "DICOMDIR").unlink()
    assert sorted(outcomes(tmp_path / "cd" / "DICOMDIR")) == ["DICOMDIR", "duplicate", "duplicate", "missing"]


def test_a_preview_says_what_an_import_would_do_and_changes_nothing(medium):
    copies = medium / "copies"
    copies.mkdir()
    (copies / "again.dcm").write_bytes((medium / "0.dcm").read_bytes())
    expected = sorted(outcomes(medium, walk=preview_media))
    assert Instance.objects.count() == 0
    assert spooled() == []

    assert (
        sorted(outcomes(medium)) == expected == ["duplicate", "not DICOM", "stored", "stored", "stored", "unreadable"]
    )
    assert sorted(outcomes(medium, walk=preview_media)).count("duplicate") == 4


def test_asked_to_stop_it_stores_what_it_has_and_goes_on_next_time(tmp_path, volume):
    for image in series_of(9):
        write_part10(tmp_path, image)
    answers = iter([False] * 4 + [True])

    assert len(list(import_media([tmp_path], lambda: next(answers)))) == 5
    assert Instance.objects.count() == 5
    assert outcomes(tmp_path).count("stored") == 4


def test_what_was_copied_is_stored_later_when_the_archive_fails(medium, monkeypatch):
    def fail(batch):
        raise OperationalError("the connection is closed")

    monkeypatch.setattr(importing, "store_open_batch", fail)
    with pytest.raises(OperationalError):
        list(import_media([medium]))

    names = Spool(settings.SPOOL_DIR).closed_batches()
    assert [result.outcome.value for name in names for result in store_batch(name)] == ["stored"] * 3


def test_a_full_disk_stops_the_import_and_loses_nothing(medium, settings):
    settings.SPOOL_MIN_FREE_BYTES = 1 << 60

    with pytest.raises(CommandError, match="the spool's disk is nearly full"):
        call_command("import_files", str(medium), stdout=StringIO(), stderr=StringIO())
    assert Instance.objects.count() == 0
    assert spooled() == []


def test_folders_left_by_killed_imports_are_removed(medium):
    left_behind = settings.DATA_DIR / "import" / "left"
    left_behind.mkdir(parents=True)
    (left_behind / "member").write_bytes(b"somebody's image")

    list(import_media([medium]))

    assert not left_behind.exists()


# --- The command


def test_the_command_ends_with_a_table(medium):
    status, printed = run(medium)

    assert status == 1
    assert counts(printed) == {
        "stored": 3,
        "duplicate": 0,
        "conflict": 0,
        "unreadable": 1,
        "missing": 0,
        "not": 1,
        "DICOMDIR": 0,
    }
    assert f"unreadable: {medium}/torn.dcm: " in printed
    assert f"not DICOM: {medium}/README.TXT: " in printed


def test_the_exit_status_is_zero_when_nothing_was_refused(medium):
    (medium / "torn.dcm").unlink()

    assert run(medium)[0] == 0
    assert run(medium)[0] == 0


def test_a_dry_run_says_so(medium):
    status, printed = run(medium, "--dry-run")

    assert status == 1
    assert "Nothing was changed" in printed
    assert counts(printed)["stored"] == 3
    assert Instance.objects.count() == 0


def test_the_report_has_a_line_for_every_file_and_one_reader(medium, tmp_path):
    report = tmp_path / "report.csv"
    run(medium, "--report", report)

    with report.open(newline="") as file:
        rows = {Path(row["file"]).name: row for row in csv.DictReader(file)}
    assert {name: row["outcome"] for name, row in rows.items()} == {
        "0.dcm": "stored",
        "1.dcm": "stored",
        "2.dcm": "stored",
        "README.TXT": "not DICOM",
        "torn.dcm": "unreadable",
    }
    assert int(rows["0.dcm"]["bytes"]) == (medium / "0.dcm").stat().st_size
    assert report.stat().st_mode & 0o777 == 0o600


def test_a_report_that_cannot_be_written_stops_before_anything_is_stored(medium, tmp_path):
    with pytest.raises(CommandError, match="cannot write the report"):
        run(medium, "--report", tmp_path / "nowhere" / "report.csv")
    assert Instance.objects.count() == 0


def test_ctrl_c_finishes_the_files_at_hand(tmp_path, volume, monkeypatch):
    for image in series_of(9):
        write_part10(tmp_path, image)
    read = importing.read_header

    def interrupted(path):
        if path.name == sorted(entry.name for entry in tmp_path.glob("*.dcm"))[3]:
            os.kill(os.getpid(), signal.SIGINT)
        return read(path)

    monkeypatch.setattr(importing, "read_header", interrupted)
    status, printed = run(tmp_path)

    assert status == 1
    assert "Stopped before the end" in printed
    assert Instance.objects.count() == counts(printed)["stored"] == 4
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_logs_do_not_tell_names_of_files(medium, caplog):
    (medium / "torn.dcm").rename(medium / "MUELLER.dcm")
    run(medium)

    assert "MUELLER" not in caplog.text


@pytest.mark.filterwarnings("ignore")
def test_every_real_file_is_stored_or_has_a_reason(volume):
    root = Path(os.environ.get("DICOMSYS_TEST_DATA") or pytest.skip("DICOMSYS_TEST_DATA is not set"))
    results = list(import_media([root]))

    stored = dict(Instance.objects.values_list("sop_instance_uid", "dataset_sha256"))
    for result in results:
        assert result.outcome in (Imported.STORED, Imported.DUPLICATE, Imported.MEDIA_DIRECTORY) or result.reason
    for path in (path for path in root.rglob("*") if path.is_file()):
        try:
            header = read_header(path)
        except UnreadableError:
            continue
        assert header.sop_instance_uid in stored or Conflict.objects.filter(sop_instance_uid=header.sop_instance_uid)
    by_outcome = {outcome: sum(result.outcome is outcome for result in results) for outcome in Imported}
    assert by_outcome[Imported.STORED] == len(stored) > 500
    for instance in Instance.objects.select_related("series__study", "volume"):
        content = instance.open_file().read()
        assert sha256(content).digest() == bytes(instance.file_sha256)
