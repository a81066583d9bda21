"""`python -m workers.services`: the DICOM services of this machine that need the database."""

import os
import signal

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dicomsys.settings")


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    django.setup()
    from django.conf import settings

    from apps.nodes.rights import CallerRights
    from apps.storage.spool import Spool
    from workers.services.server import Services

    rights = CallerRights()
    rights.start()
    services = Services(Spool(settings.SPOOL_DIR, settings.SPOOL_MIN_FREE_BYTES), rights)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: services.stop())
    services.serve(settings.SERVICES_SOCKET)
    rights.stop()


if __name__ == "__main__":
    main()
