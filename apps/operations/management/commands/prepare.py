"""`manage.py prepare`: after each migrate, before the first process starts."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from apps.core.broker import declare_queues
from apps.core.fixtures import load_missing
from apps.nodes.snapshot import publish_rules
from apps.operations.schedule import create_missing_entries
from apps.storage.durable import make_folders
from apps.storage.models import Volume

FIXTURES = ("roles", "film_templates", "printers")


class Command(BaseCommand):
    """Creates what is missing: default rows, schedule, first volume, folders, the receiver's rules, queues.

    Changes nothing that exists.
    """

    help = "Create missing default rows, schedule entries, folders, rules of the receiver and queues. Safe to repeat."

    def handle(self, *args: Any, **options: Any) -> None:
        """One line a part."""
        for folder in (settings.SPOOL_DIR, settings.QUARANTINE_DIR, settings.DATA_DIR / "store"):
            make_folders(folder)
        for name in FIXTURES:
            self.stdout.write(f"{name}: {load_missing(name)} new")
        self.stdout.write(f"schedule: {create_missing_entries()} new")
        if not Volume.objects.exists():
            Volume.objects.create(name="Volume 1", root=str(settings.DATA_DIR / "store"))
            self.stdout.write("volumes: 1 new")
        self.stdout.write("rules of the receiver: " + ("written" if publish_rules(look_up_again=True) else "0 new"))
        self.stdout.write("queues: " + ", ".join(declare_queues()))
