"""The DICOM port: C-ECHO and C-STORE. Success is answered only when the object would survive a power cut."""

import logging
import socket
import threading
from contextlib import suppress
from typing import Any

from django.conf import settings
from pydicom.uid import UID
from pynetdicom import AE, _config, evt

from apps.core.errors import RetryableError
from apps.core.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from apps.storage.part10 import part10_head
from apps.storage.spool import Batch, BatchClosedError, Spool
from workers.receiver.callers import AllowedCallers
from workers.receiver.identity import MismatchError, check_identity
from workers.receiver.publisher import Publisher

logger = logging.getLogger(__name__)

VERIFICATION = UID("1.2.840.10008.1.1")  # PS3.4 A.4
SUCCESS, OUT_OF_RESOURCES, NOT_ITS_DATA_SET, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xA900, 0xC000  # PS3.4 B.2.3
REJECTED_PERMANENT, BY_SERVICE_USER, CALLING_AE_NOT_RECOGNIZED = 0x01, 0x01, 0x03  # PS3.8 9.3.4
MAX_PDU_BYTES = 131072
CLOSE_POLL_S = 0.05


class Receiver:
    """One AE on one port, and the open batch of each association."""

    def __init__(self, spool: Spool, callers: AllowedCallers, publisher: Publisher) -> None:
        self._spool, self._callers, self._publisher = spool, callers, publisher
        self._batches: dict[int, Batch] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.port: int | None = None  # known once the port is open

    def serve(self, address: str, port: int) -> None:
        """Answer until `stop`. Raises OSError when the port is taken."""
        server: Any = _make_ae().start_server((address, port), block=False, evt_handlers=self._handlers())
        self.port = server.socket.getsockname()[1]
        logger.info("receiving as %s on %s port %d", settings.AE_TITLE, address, self.port)
        while not self._stop.wait(CLOSE_POLL_S):
            self._close_due()
            self._publisher.restart_if_dead()
        server.shutdown()
        for key in list(self._batches):
            self._close(key)

    def stop(self) -> None:
        """End `serve`; open associations are aborted, what was acknowledged stays."""
        self._stop.set()

    def _handlers(self) -> list[Any]:
        ends = (evt.EVT_RELEASED, evt.EVT_ABORTED, evt.EVT_CONN_CLOSE)
        return [
            (evt.EVT_CONN_OPEN, _tune_socket),
            (evt.EVT_REQUESTED, self._check_caller),
            (evt.EVT_C_STORE, self._store),
            *((end, self._association_ended) for end in ends),
        ]

    def _check_caller(self, event: evt.Event) -> None:
        requestor: Any = event.assoc.requestor
        ae_title = requestor.primitive.calling_ae_title
        if not self._callers.allows(ae_title, requestor.address or ""):
            logger.warning("refused an association of %r from %s: not an allowed caller", ae_title, requestor.address)
            event.assoc.acse.send_reject(REJECTED_PERMANENT, BY_SERVICE_USER, CALLING_AE_NOT_RECOGNIZED)
            event.assoc.kill()  # waits until the answer is on its way; the socket is closed right after this handler

    def _store(self, event: evt.Event) -> int:
        try:
            self._spool.check_room()
            self._write(event)
        except MismatchError as error:
            logger.warning("C-STORE refused: %s", error)
            return NOT_ITS_DATA_SET
        except (OSError, RetryableError) as error:
            logger.error("C-STORE refused, out of resources: %s", error)
            return OUT_OF_RESOURCES
        except (ValueError, AttributeError) as error:
            logger.warning("C-STORE refused, request not understood (%s)", type(error).__name__)
            return CANNOT_UNDERSTAND
        return SUCCESS

    def _write(self, event: evt.Event) -> None:
        request: Any = event.request
        assoc = event.assoc
        check_identity(request, event.context.transfer_syntax)
        head = part10_head(
            str(request.AffectedSOPClassUID or ""),
            str(request.AffectedSOPInstanceUID or ""),
            str(event.context.transfer_syntax),
            assoc.requestor.ae_title,
            settings.AE_TITLE,
        )
        batch = self._write_to_batch(id(assoc), (head, request.DataSet.getbuffer()))
        if batch.is_due:
            self._close(id(assoc))

    def _write_to_batch(self, key: int, chunks: tuple[bytes, memoryview]) -> Batch:
        while True:
            with self._lock:
                batch = self._batches.get(key)
                if batch is None:
                    batch = self._batches[key] = self._spool.open_batch()
            with batch.writing, suppress(BatchClosedError):  # by the closer thread, between the two locks
                batch.write(chunks)
                return batch

    def _association_ended(self, event: evt.Event) -> None:
        self._close(id(event.assoc))

    def _close_due(self) -> None:
        for key, batch in list(self._batches.items()):
            if batch.is_due:
                self._close(key)

    def _close(self, key: int) -> None:
        with self._lock:
            batch = self._batches.pop(key, None)
        if batch is None:
            return
        try:
            with batch.writing:
                name = batch.close()
        except OSError as error:  # what is in it was acknowledged and is safe: the sweep closes it
            logger.error("batch %s waits for the sweep: %s", batch.name, error.strerror)  # noqa: TRY400
            return
        if name:
            self._publisher.publish(name)


def _make_ae() -> AE:
    _config.UNRESTRICTED_STORAGE_SERVICE = True  # every storage class, private and unknown ones too
    ae = AE(ae_title=settings.AE_TITLE)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.require_called_aet = True
    ae.maximum_associations = settings.DICOM_MAX_ASSOCIATIONS
    ae.maximum_pdu_size = MAX_PDU_BYTES
    ae.acse_timeout = settings.DICOM_ACSE_TIMEOUT_S
    ae.dimse_timeout = settings.DICOM_DIMSE_TIMEOUT_S
    ae.network_timeout = settings.DICOM_NETWORK_TIMEOUT_S
    ae.add_supported_context(VERIFICATION)
    return ae


def _tune_socket(event: evt.Event) -> None:
    # pynetdicom leaves Nagle's algorithm on: each answer would wait for the peer's delayed acknowledgement
    connection: Any = event.assoc.dul.socket
    connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
