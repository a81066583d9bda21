"""Senders that others wrote, each way they can send: what they were told is stored as they sent it."""

import csv
import os
import subprocess
import threading
from hashlib import sha256
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage

from apps.storage.paths import instance_path
from tests.dicom import ct_dataset, series_of
from tests.lots import SMALL, Template, fresh_uid, write_lot
from tests.peers import orthanc, orthanc_process, system_program  # noqa: F401  fixtures
from tests.system.conftest import wait_until
from tests.wire import Sender

ARRIVES_S = 60
ASSOCIATIONS, OBJECTS_EACH = 50, 6
# storescu's own word for what it likes best; the receiver may choose another of those proposed (PS3.8 7.1.1.13)
PROPOSED = ("-x=", "-xe", "-xb", "-xi", "-xd")
UNCOMPRESSED = (ExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
# those of encapsulated syntaxes → a real file of that kind
COMPRESSED = {
    "-xs": "1.2.840.10008.1.2.4.70",
    "-xy": "1.2.840.10008.1.2.4.50",
    "-xx": "1.2.840.10008.1.2.4.51",
    "-xv": "1.2.840.10008.1.2.4.90",
    "-xw": "1.2.840.10008.1.2.4.91",
    "-xt": "1.2.840.10008.1.2.4.80",
    "-xu": "1.2.840.10008.1.2.4.81",
    "-xr": "1.2.840.10008.1.2.5",
}
DATA = os.environ.get("DICOMSYS_TEST_DATA")


def send_by(program: str, system, files: list[Path], *options: str) -> None:
    """Send with a tool of DCMTK."""
    host, port, ae_title = system.dicom
    words = [system_program(program, "dcmtk"), "-aec", ae_title, *options, host, str(port), *map(str, files)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-500:]


def stored(system, uids: list[str]) -> dict[str, tuple]:
    """SOP Instance UID → (transfer syntax, path), once all of them are there."""
    statement = (
        "SELECT i.sop_instance_uid, i.transfer_syntax_uid, r.series_instance_uid, s.study_instance_uid, v.root,"
        " i.file_sha256 FROM archive_instance i JOIN archive_series r ON r.id = i.series_id"
        " JOIN archive_study s ON s.id = r.study_id JOIN storage_volume v ON v.id = i.volume_id"
        " WHERE i.sop_instance_uid = ANY(%s)"
    )
    rows: list[tuple] = []

    def all_are_there() -> bool:
        rows[:] = system.query(statement, uids)
        return len(rows) == len(uids)

    wait_until(all_are_there, ARRIVES_S, "what was acknowledged is in the tables")
    found = {}
    for uid, syntax, series, study, root, digest in rows:
        path = Path(root) / instance_path(study, series, uid)
        assert sha256(path.read_bytes()).digest() == digest
        found[uid] = (syntax, path)
    return found


def write(folder: Path, dataset) -> Path:
    path = folder / f"{dataset.SOPInstanceUID}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def same_elements(one: pydicom.Dataset, other: pydicom.Dataset) -> bool:
    """Whether the data sets say the same, whatever they are encoded in."""
    return one.to_json_dict(suppress_invalid_tags=True) == other.to_json_dict(suppress_invalid_tags=True)


@pytest.mark.parametrize("option", PROPOSED)
def test_storescu_in_each_uncompressed_syntax(system, tmp_path, option):
    dataset = ct_dataset()
    send_by("storescu", system, [write(tmp_path, dataset)], option, "-R")
    ((arrived, path),) = stored(system, [dataset.SOPInstanceUID]).values()
    assert arrived in UNCOMPRESSED
    read = dcmread(path)
    assert read.file_meta.TransferSyntaxUID == arrived
    pixels = np.frombuffer(read.PixelData, ">u2" if arrived == ExplicitVRBigEndian else "<u2")
    assert pixels.tolist() == list(range(64))
    del read.PixelData, dataset.PixelData
    assert same_elements(read, dataset)


@pytest.mark.skipif(not DATA, reason="DICOMSYS_TEST_DATA is not set")
@pytest.mark.parametrize(("option", "syntax"), COMPRESSED.items(), ids=COMPRESSED)
def test_storescu_in_each_compressed_syntax_byte_for_byte(system, tmp_path, option, syntax):
    source = real_file(syntax)
    dataset = dcmread(source)
    fresh = {"SOPInstanceUID": fresh_uid(), "StudyInstanceUID": fresh_uid(), "SeriesInstanceUID": fresh_uid()}
    for keyword, uid in fresh.items():
        setattr(dataset, keyword, uid)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    path = write(tmp_path, dataset)
    send_by("storescu", system, [path], option)
    ((arrived, kept),) = stored(system, [dataset.SOPInstanceUID]).values()
    assert arrived == syntax
    assert dcmread(kept).PixelData == dcmread(path).PixelData


def real_file(syntax: str) -> Path:
    """A readable one-frame file of that transfer syntax that has all UIDs."""
    with (Path(DATA) / "MANIFEST.csv").open(newline="") as manifest:
        for row in csv.DictReader(manifest):
            if row["transfer_syntax"].split()[:1] == [syntax] and row["read"] == "OK" and row["broken"] != "yes":
                return Path(DATA) / row["path"]
    pytest.skip(f"no real file in {syntax}")


@pytest.mark.parametrize("options", [(), ("--max-send-pdu", "4096"), ("--max-pdu", "4096")], ids=" ".join)
def test_dcmsend(system, tmp_path, options):
    lot = write_lot(tmp_path / "lot", Template(SMALL), 2, 3)
    send_by("dcmsend", system, sorted(tmp_path.glob("lot/*/*.dcm")), *options)
    assert len(stored(system, sorted(lot.sop_instance_uids))) == 6


def test_gdcmscu(system, tmp_path):
    lot = write_lot(tmp_path / "lot", Template(SMALL), 1, 3)
    host, port, ae_title = system.dicom
    words = [system_program("gdcmscu", "libgdcm-tools"), "--store", "--call", ae_title, host, str(port)]
    # its exit code says nothing: 3.0.21 aborts itself after the last answer, whoever it sent to
    subprocess.run([*words, *sorted(tmp_path.glob("lot/*/*.dcm"))], capture_output=True, timeout=60)
    assert len(stored(system, sorted(lot.sop_instance_uids))) == 3


def test_pynetdicom(system):
    datasets = series_of(5)
    host, port, ae_title = system.dicom
    ae = AE(ae_title="PYNETDICOM")
    ae.add_requested_context(CTImageStorage, [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless])
    assoc = ae.associate(host, port, ae_title=ae_title)
    assert [assoc.send_c_store(dataset).Status for dataset in datasets] == [0x0000] * 5
    assoc.release()
    assert len(stored(system, [str(dataset.SOPInstanceUID) for dataset in datasets])) == 5


def test_orthanc_forwards_to_us(system, orthanc, tmp_path):  # noqa: F811
    datasets = series_of(5)
    _, port, ae_title = system.dicom
    orthanc.store(tmp_path / "in", datasets)
    orthanc.register_modality(ae_title, port)
    for study in orthanc._call("GET", "/studies"):
        orthanc._call("POST", f"/modalities/{ae_title}/store", {"Resources": [study], "Synchronous": True})
    kept = stored(system, [str(dataset.SOPInstanceUID) for dataset in datasets])
    for dataset in datasets:
        assert same_elements(dcmread(kept[dataset.SOPInstanceUID][1]), dataset)


def test_fifty_associations_at_once(system):
    template, study, series = Template(SMALL, "FIFTY"), fresh_uid(), fresh_uid()
    gate, sent, errors = threading.Barrier(ASSOCIATIONS), {}, []

    def send(number: int) -> None:
        try:
            with Sender(system.dicom[1], calling=f"S{number}", timeout_s=60) as sender:
                gate.wait(60)  # all of them are in before the first one sends
                for _ in range(OBJECTS_EACH):
                    uid = fresh_uid()
                    assert sender.store(uid, template.data_set(study, series, uid)) == 0x0000
                    sent[uid] = number
        except Exception as error:
            errors.append(repr(error))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(ASSOCIATIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert errors == []
    assert len(sent) == ASSOCIATIONS * OBJECTS_EACH
    assert len(stored(system, sorted(sent))) == len(sent)
