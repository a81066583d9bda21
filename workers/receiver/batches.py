"""The open batch of one association: files go in, full and old batches go to ingest. Used by one thread."""

import logging
from collections.abc import Callable

from apps.storage.spool import Batch, Incoming, Spool

logger = logging.getLogger(__name__)


class Batches:
    """`publish` is told the name of each closed batch; it must not wait."""

    def __init__(self, spool: Spool, publish: Callable[[str], None]) -> None:
        self._spool, self._publish = spool, publish
        self._batch: Batch | None = None
        self._incoming: Incoming | None = None

    @property
    def holds_files(self) -> bool:
        """Whether acknowledged files wait in it: then somebody has to look after them within 100 ms."""
        return self._batch is not None

    def begin(self) -> Incoming:
        """The next file. Raises OSError."""
        if self._batch is None:
            self._batch = self._spool.open_batch()
        self._incoming = self._batch.begin()
        return self._incoming

    def commit(self) -> None:
        """The file that is open becomes durable. Raises OSError; then `discard`."""
        if self._incoming is not None:
            self._incoming.commit()
            self._incoming = None
            self.close_if_due()

    def discard(self) -> None:
        """Drop the file that is open, if any."""
        if self._incoming is not None:
            self._incoming.discard()
            self._incoming = None

    def close_if_due(self) -> None:
        """Hand a full or old batch to ingest; a file that is still arriving goes on in a new one."""
        if self._batch is None or not self._batch.is_due:
            return
        try:
            if self._incoming is not None:
                if not self._batch.files():
                    return
                self._go_on_in(self._spool.open_batch())
                return
        except OSError as error:
            logger.error("a batch stays open: %s", error.strerror)  # noqa: TRY400
            return
        self._close(self._batch)
        self._batch = None

    def _go_on_in(self, fresh: Batch) -> None:
        if self._incoming is None or self._batch is None:
            return
        try:
            self._incoming.move_to(fresh)
        except OSError:
            self._close(fresh)
            raise
        self._close(self._batch)
        self._batch = fresh

    def close(self) -> None:
        """The association ended."""
        self.discard()
        if self._batch is not None:
            self._close(self._batch)
            self._batch = None

    def _close(self, batch: Batch) -> None:
        try:
            name = batch.close()
        except OSError as error:  # what is in it was acknowledged and is safe: the sweep closes it
            logger.error("batch %s waits for the sweep: %s", batch.name, error.strerror)  # noqa: TRY400
            return
        if name:
            self._publish(name)
