"""Puts together what a receiving process works with, from the settings."""

from collections.abc import Callable

from django.conf import settings

from apps.storage.spool import Spool
from workers.receiver.association import Desk, Timeouts
from workers.receiver.journal import Journal
from workers.receiver.room import Room
from workers.receiver.rules import rules_from_settings
from workers.receiver.slots import Slots


def open_desk(slots: Slots, publish: Callable[[str], None], journal: Journal) -> Desk:
    """Of this process: its spool writes into batches of its own name."""
    spool = Spool(settings.SPOOL_DIR, settings.SPOOL_MIN_FREE_BYTES)
    return Desk(
        spool=spool,
        room=Room(spool, settings.SPOOL_SLOW_BATCHES, settings.SPOOL_MAX_BATCHES),
        rules=rules_from_settings(),
        journal=journal,
        slots=slots,
        publish=publish,
        timeouts=Timeouts(
            settings.DICOM_ACSE_TIMEOUT_S, settings.DICOM_DIMSE_TIMEOUT_S, settings.DICOM_NETWORK_TIMEOUT_S
        ),
        accepts_unknown_classes=settings.DICOM_ACCEPT_UNKNOWN_CLASSES,
    )
