"""`manage.py declare_queues`: before the first worker; in a cluster, after all nodes have joined."""

from typing import Any

from django.core.management.base import BaseCommand

from apps.core.broker import declare_queues


class Command(BaseCommand):
    """Declares the dead-letter exchange and every queue."""

    help = "Declare the dead-letter exchange and every queue. Safe to repeat."

    def handle(self, *args: Any, **options: Any) -> None:
        """Declare and name them."""
        self.stdout.write("queues: " + ", ".join(declare_queues()))
