"""`python -m workers.receiver`: the DICOM port of this machine."""

import os
import signal

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dicomsys.settings")


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    django.setup()
    from django.conf import settings

    from apps.storage.spool import Spool
    from workers.receiver.callers import AllowedCallers
    from workers.receiver.publisher import Publisher
    from workers.receiver.server import Receiver

    callers, publisher = AllowedCallers(), Publisher()
    callers.start()
    receiver = Receiver(Spool(settings.SPOOL_DIR, settings.SPOOL_MIN_FREE_BYTES), callers, publisher)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: receiver.stop())
    receiver.serve(settings.DICOM_ADDRESS, settings.DICOM_PORT)
    publisher.stop()


if __name__ == "__main__":
    main()
