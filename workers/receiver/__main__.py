"""`python -m workers.receiver`: the DICOM port of this machine."""

import logging
import os
import signal
import socket
from functools import partial
from pathlib import Path

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dicomsys.settings")
django.setup()  # what follows reads models and settings

from django.conf import settings  # noqa: E402

from apps.nodes.folding import journal_folder  # noqa: E402
from workers.receiver.acceptor import Acceptor  # noqa: E402
from workers.receiver.desk import open_desk  # noqa: E402
from workers.receiver.journal import Journal  # noqa: E402
from workers.receiver.parent import Parent, open_port, passed_ports  # noqa: E402
from workers.receiver.publisher import Publisher  # noqa: E402
from workers.receiver.slots import Slots  # noqa: E402
from workers.receiver.tls import TlsContexts  # noqa: E402

logger = logging.getLogger("workers.receiver")


def main() -> None:
    """Serve until SIGTERM or SIGINT. Raises OSError when a port is taken or a TLS file is missing."""
    passed = passed_ports()
    plain = passed.get("dicom") or open_port(settings.DICOM_ADDRESS, settings.DICOM_PORT)
    listeners = [plain]
    tls: dict[int, TlsContexts] = {}
    if settings.DICOM_TLS_PORT:
        encrypted = passed.get("dicom-tls") or open_port(settings.DICOM_ADDRESS, settings.DICOM_TLS_PORT)
        listeners.append(encrypted)
        client_ca = Path(settings.DICOM_TLS_CLIENT_CA) if settings.DICOM_TLS_CLIENT_CA else None
        contexts = TlsContexts(Path(settings.DICOM_TLS_CERT), Path(settings.DICOM_TLS_KEY), client_ca)
        tls[encrypted.fileno()] = contexts
    slots = Slots(settings.DICOM_MAX_ASSOCIATIONS + settings.DICOM_MAX_CONNECTING, settings.DICOM_MAX_ASSOCIATIONS)
    publisher = Publisher()
    child = partial(run_child, listeners, tls, slots, publisher)
    parent = Parent(settings.RECEIVER_PROCESSES, child, slots, publisher, settings.RECEIVER_STATUS_FILE)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: parent.stop())
    names = ", ".join(f"{at.getsockname()[1]}{' (TLS)' if at.fileno() in tls else ''}" for at in listeners)
    logger.info("receiving as %s on %s port %s", settings.AE_TITLE, settings.DICOM_ADDRESS, names)
    parent.run()


def run_child(listeners: list[socket.socket], tls: dict[int, TlsContexts], slots: Slots, publisher: Publisher) -> None:
    """What each forked process does."""
    journal = Journal(journal_folder())
    acceptor = Acceptor(listeners, tls, open_desk(slots, publisher.publish, journal))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: acceptor.stop())
    acceptor.serve()
    journal.close()


if __name__ == "__main__":
    main()
