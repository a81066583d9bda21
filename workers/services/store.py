"""C-STORE on an association of the services: into the same spool, in the same steps, as the receiver.

Success is answered only when the object would survive a power cut. A thread closes batches and asks for their ingest,
so that no sender waits for the database; a batch that cannot be asked for is found by the sweep.
"""

import logging
import threading
import time
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.db import DatabaseError, InterfaceError
from pynetdicom import evt

from apps.core.errors import DicomsysError, RetryableError
from apps.core.queue import STORE_BATCH, enqueue
from apps.nodes.rights import CallerRights
from apps.storage.part10 import part10_head
from apps.storage.spool import Batch, BatchClosedError, Spool
from workers.receiver.command import is_usable_uid
from workers.receiver.identity import MismatchError, check_identity
from workers.receiver.journal import Journal
from workers.receiver.negotiation import is_storage
from workers.receiver.room import Room
from workers.services.database import Database

logger = logging.getLogger(__name__)

SUCCESS, OUT_OF_RESOURCES, NOT_ITS_DATA_SET, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xA900, 0xC000  # PS3.4 B.2.3
NO_SUCH_SOP_CLASS, NOT_AUTHORISED = 0x0122, 0x0124  # PS3.7 Annex C
CLOSE_POLL_S = 0.05


class Storer:
    """The open batch of each association, and the thread that closes them."""

    def __init__(self, spool: Spool, room: Room, rights: CallerRights, journal: Journal, database: Database) -> None:
        self._spool, self._room, self._rights = spool, room, rights
        self._journal, self._database = journal, database
        self._batches: dict[int, Batch] = {}
        self._ended: set[int] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._closer = threading.Thread(target=self._run, name="batch-closer", daemon=True)
        self._closer.start()

    def store(self, event: evt.Event) -> int:
        """The handler for EVT_C_STORE."""
        request: Any = event.request
        requestor = event.assoc.requestor
        status = self._try(event)
        if status == SUCCESS:
            self._journal.stored(requestor.ae_title, 1, request.DataSet.getbuffer().nbytes)
            time.sleep(self._room.pause_s)
        else:
            self._journal.refused(requestor.ae_title, status)
        return status

    def _try(self, event: evt.Event) -> int:
        requestor = event.assoc.requestor
        if not self._rights.of(requestor.ae_title, requestor.address or "").may_send:
            logger.warning("C-STORE of %r at %s refused: it may not send", requestor.ae_title, requestor.address)
            return NOT_AUTHORISED
        if not is_storage(str(event.context.abstract_syntax), settings.DICOM_ACCEPT_UNKNOWN_CLASSES):
            return NO_SUCH_SOP_CLASS
        try:
            self._room.check()
            self._write(event)
        except MismatchError as error:
            logger.warning("C-STORE refused: %s", error)
            return NOT_ITS_DATA_SET
        except (OSError, RetryableError) as error:
            logger.error("C-STORE refused, out of resources: %s", error)  # noqa: TRY400
            return OUT_OF_RESOURCES
        except (ValueError, AttributeError) as error:
            logger.warning("C-STORE refused, request not understood (%s)", type(error).__name__)
            return CANNOT_UNDERSTAND
        return SUCCESS

    def association_ended(self, event: evt.Event) -> None:
        """Let the thread close its batch."""
        with self._lock:
            if id(event.assoc) in self._batches:
                self._ended.add(id(event.assoc))

    def stop(self) -> None:
        """Close every batch; what was acknowledged stays."""
        self._stop.set()
        self._closer.join()

    def _write(self, event: evt.Event) -> None:
        request: Any = event.request
        requestor: Any = event.assoc.requestor
        names = (
            str(request.AffectedSOPClassUID or ""),
            str(request.AffectedSOPInstanceUID or ""),
            str(event.context.transfer_syntax),
        )
        if not all(is_usable_uid(uid.encode("utf-8", "replace")) for uid in names[:2]):
            raise ValueError("its UIDs are missing")
        check_identity(*names, request.DataSet.getbuffer())
        head = part10_head(
            *names,
            requestor.ae_title,
            requestor.primitive.called_ae_title,
        )
        chunks, key = (head, request.DataSet.getbuffer()), id(event.assoc)
        while True:
            with self._lock:
                batch = self._batches.get(key)
                if batch is None:
                    batch = self._batches[key] = self._spool.open_batch()
            with batch.writing, suppress(BatchClosedError):  # by the thread, between the two locks
                batch.write(chunks)
                return

    def _run(self) -> None:
        while not self._stop.wait(CLOSE_POLL_S):
            self._close([key for key, batch in list(self._batches.items()) if batch.is_due or key in self._ended])
        self._close(list(self._batches))

    def _close(self, keys: list[int]) -> None:
        for key in keys:
            with self._lock:
                batch = self._batches.pop(key, None)
                self._ended.discard(key)
            if batch is not None:
                self._close_one(batch)

    def _close_one(self, batch: Batch) -> None:
        try:
            with batch.writing:
                name = batch.close()
        except OSError as error:  # what is in it was acknowledged and is safe: the sweep closes it
            logger.error("batch %s waits for the sweep: %s", batch.name, error.strerror)  # noqa: TRY400
            return
        if name:
            self._database.submit(_ask_for_ingest, name)


def _ask_for_ingest(batch_name: str) -> None:
    try:
        enqueue(STORE_BATCH, batch_name)
    except (DatabaseError, InterfaceError, DicomsysError) as error:
        logger.warning("batch %s waits for the sweep: %s", batch_name, type(error).__name__)
