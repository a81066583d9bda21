"""How printers of each kind are spoken to.

A backend is a function `send(sheet, printer) -> Receipt`. It raises RetryableError or PermanentError while nothing can
have been printed. Before the one step that prints it calls `sheet.claim.fire()`; after that only `RefusedError`, a
failure that the printer itself reported, says that nothing was printed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from apps.core.errors import RetryableError
from apps.films.models import FilmRaster
from apps.printing.claim import Claim
from apps.printing.models import Printer, PrintJob, SheetPrint

MODULES = {Printer.Kind.PDF: "apps.printing.backends.pdf"}


class RefusedError(RetryableError):
    """The printer answered that it did not print."""


@dataclass(frozen=True)
class HeldSheet:
    """One sheet in the hands of one worker: the row, its job, its raster, and the claim to renew and to fire."""

    row: SheetPrint
    job: PrintJob
    raster: FilmRaster
    claim: Claim


@dataclass(frozen=True)
class Receipt:
    """What came of a sheet: ACCEPTED or PRINTED, and what the printer calls it.

    completes_job: with this sheet the earlier ones of the job, which were ACCEPTED, are PRINTED, too.
    """

    state: SheetPrint.State
    reference: str = ""
    completes_job: bool = False


Send = Callable[[HeldSheet, Printer], Receipt]


def backend_of(printer: Printer) -> Send:
    """The `send` for this kind of printer."""
    send: Send = import_module(MODULES[Printer.Kind(printer.kind)]).send
    return send
