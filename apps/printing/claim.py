"""One worker's hold on a SheetPrint: every change is a conditional update, which nobody else's hold matches."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

from django.db.models import F
from django.db.models.functions import Now

from apps.core.errors import DicomsysError
from apps.films.models import FilmRaster
from apps.printing.models import Printer, SheetPrint

State = SheetPrint.State
LEASE_S = 60.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 10.0, 600.0


class ClaimLostError(DicomsysError):
    """The lease lapsed and another worker may hold the sheet now: stop, and change nothing."""


@dataclass(frozen=True)
class Claim:
    """The hold of `holder` on one sheet, for LEASE_S from each renewal."""

    sheet_print_id: int
    holder: str

    @classmethod
    def take_next(cls, printer: Printer) -> Claim | None:
        """Claim the next due sheet of a printer, which counts as an attempt; None when nothing is due."""
        holder = f"{socket.gethostname()[:50]}:{os.getpid()}:{uuid4().hex[:8]}"
        while (pk := _next_due(printer)) is not None:
            waiting = SheetPrint.objects.filter(pk=pk, state=State.QUEUED)
            if waiting.update(
                state=State.SENDING, claimed_by=holder, lease_until=_lease_end(), attempts=F("attempts") + 1
            ):
                return cls(pk, holder)
        return None

    def sheet_print(self) -> SheetPrint:
        """The row with what printing it needs."""
        return SheetPrint.objects.select_related("job__printer", "sheet__template", "raster").get(
            pk=self.sheet_print_id
        )

    def renew(self) -> None:
        """Hold on. Raises ClaimLostError."""
        self._update(SheetPrint.HOLDING, lease_until=_lease_end())

    def name_raster(self, raster: FilmRaster) -> None:
        """Say which raster is printed, before anything of it leaves. Raises ClaimLostError."""
        self._update((State.SENDING,), raster=raster, lease_until=_lease_end())

    def fire(self) -> None:
        """Commit that the printer is about to be told to print: from here on no machine prints it again."""
        self._update((State.SENDING,), state=State.FIRED, fired_at=Now(), lease_until=_lease_end())

    def finish(self, state: SheetPrint.State, reference: str = "") -> None:
        """ACCEPTED or PRINTED. Raises ClaimLostError."""
        self._release(SheetPrint.HOLDING, state=state, reference=reference, last_error="", finished_at=Now())

    def fail(self, error: str) -> None:
        """Not printed, and a retry cannot help. Raises ClaimLostError."""
        self._release(SheetPrint.HOLDING, state=State.FAILED, last_error=error[:500], finished_at=Now())

    def lose_track(self, error: str) -> None:
        """FIRED, and nobody knows what came of it. Raises ClaimLostError."""
        self._release((State.FIRED,), state=State.UNKNOWN, last_error=error[:500])

    def retry_later(self, attempts: int, error: str) -> None:
        """Not printed; wait 10 s, then twice as long each time, at most 10 minutes. Raises ClaimLostError."""
        pause = timedelta(seconds=min(FIRST_PAUSE_S * 2 ** max(0, attempts - 1), LONGEST_PAUSE_S))
        self._release(SheetPrint.HOLDING, state=State.QUEUED, last_error=error[:500], next_attempt_at=Now() + pause)

    def _release(self, states: tuple[str, ...], **values: object) -> None:
        self._update(states, claimed_by="", lease_until=None, **values)

    def _update(self, states: tuple[str, ...], **values: object) -> None:
        mine = SheetPrint.objects.filter(pk=self.sheet_print_id, state__in=states, claimed_by=self.holder)
        if not mine.update(**values):
            raise ClaimLostError(f"sheet print {self.sheet_print_id} is no longer held by {self.holder}")


def release_lapsed() -> int:
    """Free the sheets of workers that died: SENDING waits again, FIRED is UNKNOWN; returns how many."""
    lapsed = SheetPrint.objects.lapsed()
    freed = lapsed.filter(state=State.SENDING).update(state=State.QUEUED, claimed_by="", lease_until=None)
    unknown = lapsed.filter(state=State.FIRED).update(
        state=State.UNKNOWN,
        claimed_by="",
        lease_until=None,
        last_error="The work was interrupted after the printer was told to print.",
    )
    return freed + unknown


def _next_due(printer: Printer) -> int | None:
    return SheetPrint.objects.due().filter(job__printer=printer).values_list("pk", flat=True).first()


def _lease_end() -> object:
    return Now() + timedelta(seconds=LEASE_S)
