"""`manage.py doctor`: a table of every part, and what to do where something is wrong."""

import sys
from typing import Any

from django.core.management.base import BaseCommand

from apps.operations.doctor import OK, WRONG, examine


class Command(BaseCommand):
    """Prints the table; exits with 1 when something is wrong."""

    help = "Examine the running system: database, broker, workers, receiver, file store. Exits with 1 when wrong."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        """One line an answer, as they come."""
        wrong = 0
        for finding in examine():
            wrong += finding.state == WRONG
            style = self.style.SUCCESS if finding.state == OK else self.style.WARNING
            style = self.style.ERROR if finding.state == WRONG else style
            self.stdout.write(f"{finding.part:<13} {style(f'{finding.state:<6}')} {finding.text}")
            if finding.advice:
                self.stdout.write(f"{'':<13} {'':<6} → {finding.advice}")
        if wrong:
            self.stderr.write(self.style.ERROR(f"{wrong} wrong"))
            sys.exit(1)
        self.stdout.write(self.style.SUCCESS("nothing is wrong"))
