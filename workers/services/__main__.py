"""`python -m workers.services`: the DICOM services of this machine that need the database."""

import os
import signal

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dicomsys.settings")


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    django.setup()
    from django.conf import settings

    from apps.nodes.folding import journal_folder
    from apps.nodes.rights import CallerRights
    from apps.storage.spool import Spool
    from workers.receiver.journal import Journal
    from workers.receiver.room import Room
    from workers.services.server import Services

    rights, journal = CallerRights(), Journal(journal_folder())
    rights.start()
    spool = Spool(settings.SPOOL_DIR, settings.SPOOL_MIN_FREE_BYTES)
    room = Room(spool, settings.SPOOL_SLOW_BATCHES, settings.SPOOL_MAX_BATCHES)
    services = Services(spool, room, rights, journal)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: services.stop())
    services.serve(settings.SERVICES_SOCKET)
    rights.stop()
    journal.close()


if __name__ == "__main__":
    main()
