"""The sender of the demonstration studies against a real C-STORE SCP."""

from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage, generate_uid
from pynetdicom import AE, evt

from dicomsys.evaluation import send
from dicomsys.evaluation.send import Sender, SendError, send_demonstration

CT, MR = CTImageStorage, MRImageStorage


def dataset(sop_class_uid, transfer_syntax_uid, study_uid="1.2.3"):
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = sop_class_uid, generate_uid()
    made.StudyInstanceUID, made.Modality = study_uid, "CT"
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = transfer_syntax_uid
    return made


class Peer:
    """Its `answers` are given in order, then 0x0000; `received` lists class and transfer syntax."""

    def __init__(self) -> None:
        self.received: list[tuple[str, str]] = []
        self.answers: list[int] = []
        self.port = 0

    def on_store(self, event: evt.Event) -> int:
        self.received.append((str(event.request.AffectedSOPClassUID), str(event.context.transfer_syntax)))
        return self.answers.pop(0) if self.answers else 0x0000


@pytest.fixture
def peer():
    peer, entity = Peer(), AE(ae_title="PEER")
    for sop_class in (CT, MR, "1.2.840.10008.1.1"):
        entity.add_supported_context(sop_class, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    handlers: list[Any] = [(evt.EVT_C_STORE, peer.on_store), (evt.EVT_C_ECHO, lambda event: 0x0000)]
    server: Any = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    peer.port = server.socket.getsockname()[1]
    yield peer
    server.shutdown()


@pytest.fixture
def sender(peer):
    sender = Sender("127.0.0.1", peer.port, "PEER")
    yield sender
    sender.close()


def test_each_data_set_goes_in_its_own_transfer_syntax(peer, sender):
    wanted = [(CT, ExplicitVRLittleEndian), (CT, ImplicitVRLittleEndian), (MR, ExplicitVRLittleEndian)]
    for sop_class, transfer_syntax in wanted:
        sender.store(dataset(sop_class, transfer_syntax))
    assert peer.received == wanted


def test_a_busy_receiver_is_asked_again(peer, sender, monkeypatch):
    monkeypatch.setattr(send, "BUSY_PAUSE_S", 0.01)
    peer.answers = [0xA700, 0xA700]
    sender.store(dataset(CT, ExplicitVRLittleEndian))
    assert len(peer.received) == 3


def test_a_refused_data_set_is_an_error_with_its_status(peer, sender):
    peer.answers = [0xC000]
    with pytest.raises(SendError, match="0xC000"):
        sender.store(dataset(CT, ExplicitVRLittleEndian))


def test_a_receiver_that_is_away_is_an_error(peer):
    with pytest.raises(SendError, match="accepted no association"):
        Sender("127.0.0.1", 1, "PEER").echo()


def test_progress_is_one_line_a_study(peer, sender, monkeypatch, capsys):
    datasets = [dataset(CT, ExplicitVRLittleEndian, study) for study in ("1.1", "1.1", "1.2")]
    monkeypatch.setattr("dicomsys.evaluation.demo.demonstration_studies", lambda: iter(datasets), raising=False)
    send_demonstration(sender)
    assert capsys.readouterr().out.splitlines() == ["CT study sent, images: 2", "CT study sent, images: 1"]
