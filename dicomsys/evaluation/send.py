"""Send the demonstration studies to a DICOM port, as any modality would: `python -m dicomsys.evaluation.send`."""

import argparse
import sys
import time
from itertools import groupby

from pydicom import Dataset
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

CALLING_AE_TITLE = "DEMO_MODALITY"
BUSY_TRIES, BUSY_PAUSE_S = 10, 1.0


class SendError(Exception):
    """The peer refused the association, a presentation context or a data set."""


class Sender:
    """One association at a time; a new one when a data set needs a presentation context the last one lacks."""

    def __init__(self, host: str, port: int, ae_title: str) -> None:
        self._peer = (host, port, ae_title)
        self._contexts: dict[str, set[str]] = {}
        self._association: Association | None = None

    def store(self, dataset: Dataset) -> None:
        """Send one complete data set. Raises SendError unless it is answered with Success."""
        wanted = (dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
        association = self._associate(*wanted)
        for _ in range(BUSY_TRIES):
            status = association.send_c_store(dataset)
            code = status.get("Status") if status else None
            if code == 0x0000:
                return
            if code is None or code >> 8 != 0xA7:  # only A7xx, out of resources, may pass by itself
                break
            time.sleep(BUSY_PAUSE_S)
        raise SendError("C-STORE got no answer" if code is None else f"C-STORE was answered 0x{code:04X}")

    def echo(self) -> None:
        """One C-ECHO. Raises SendError unless it is answered with Success."""
        status = self._associate(Verification, "1.2.840.10008.1.2").send_c_echo()
        if not status or status.Status != 0x0000:
            raise SendError("C-ECHO was not answered with Success")

    def close(self) -> None:
        """Release the association."""
        if self._association is not None and self._association.is_established:
            self._association.release()
        self._association = None

    def _associate(self, sop_class_uid: str, transfer_syntax_uid: str) -> Association:
        known = transfer_syntax_uid in self._contexts.get(sop_class_uid, set())
        if known and self._association is not None and self._association.is_established:
            return self._association
        self.close()
        self._contexts.setdefault(sop_class_uid, set()).add(transfer_syntax_uid)
        entity = AE(ae_title=CALLING_AE_TITLE)
        for abstract_syntax, transfer_syntaxes in self._contexts.items():
            for transfer_syntax in sorted(transfer_syntaxes):  # a context each: a data set is sent as it is
                entity.add_requested_context(abstract_syntax, transfer_syntax)
        host, port, ae_title = self._peer
        association = entity.associate(host, port, ae_title=ae_title)
        if not association.is_established:
            raise SendError(f"{ae_title} at {host}:{port} accepted no association")
        self._association = association
        return association


def send_demonstration(sender: Sender) -> None:
    """Send all demonstration studies and say how far it is, one line a study."""
    from dicomsys.evaluation.demo import demonstration_studies  # a C-ECHO needs none of its imports

    for _, datasets in groupby(demonstration_studies(), key=lambda dataset: dataset.StudyInstanceUID):
        images = 0
        for dataset in datasets:
            sender.store(dataset)
            images += 1
        print(f"{dataset.Modality} study sent, images: {images}", flush=True)


def main() -> int:
    """Returns 0 when all was answered with Success."""
    parser = argparse.ArgumentParser(prog="python -m dicomsys.evaluation.send", description=__doc__)
    parser.add_argument("--echo", action="store_true", help="only one C-ECHO")
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("ae_title")
    words = parser.parse_args()
    sender = Sender(words.host, words.port, words.ae_title)
    try:
        if words.echo:
            sender.echo()
        else:
            send_demonstration(sender)
    except SendError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        sender.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
