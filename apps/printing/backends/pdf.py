"""A job as one PDF file: a page a sheet, in its exact size, with the very bytes of the stored rasters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

from reportlab.lib.units import mm
from reportlab.pdfbase import pdfdoc
from reportlab.pdfgen.canvas import Canvas

from apps.core.errors import PermanentError
from apps.films.models import FilmRaster
from apps.films.raster import StoredRaster, read_raster
from apps.printing.backends import HeldSheet, Receipt
from apps.printing.models import Printer, PrintJob, SheetPrint
from apps.storage.blobs import MissingBlobError, blob_writer, open_blob

State = SheetPrint.State


class Sink(Protocol):
    """Where the file goes."""

    def write(self, data: bytes, /) -> int:
        """Append."""


def send(sheet: HeldSheet, printer: Printer) -> Receipt:
    """The page is ready as its raster; with the last one the file is made. Done twice, it has the same pages.

    A job of which sheets were cancelled makes no file: it would look whole. Raises PermanentError where a raster of
    the job is no longer there, OSError.
    """
    pages = list(sheet.job.sheet_prints.select_related("sheet", "raster"))
    if sheet.row.pk != pages[-1].pk or any(page.state == State.CANCELLED for page in pages):
        return Receipt(State.ACCEPTED)
    with blob_writer() as writer:
        write_pdf(writer, f"Film sheets, job {sheet.job.pk}", [_page_of(page, sheet) for page in pages])
    PrintJob.objects.filter(pk=sheet.job.pk).update(document=writer.name, document_bytes=writer.size_bytes)
    return Receipt(State.PRINTED, writer.name, completes_job=True)


class Page(Protocol):
    """One page: its size in mm, and its raster when its turn comes."""

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height."""

    def load(self) -> StoredRaster:
        """Read the raster."""


def write_pdf(sink: Sink, title: str, pages: Sequence[Page]) -> None:
    """Write the file page by page: only one raster is in memory at a time."""
    with _written_through(sink):
        canvas = Canvas(sink, pageCompression=1, pdfVersion=(1, 4))
        canvas.setTitle(title)
        canvas.setAuthor("dicomsys")
        canvas.setCreator("dicomsys")
        canvas.setSubject("")
        for number, page in enumerate(pages, start=1):
            width, height = (side * mm for side in page.size_mm)
            canvas.setPageSize((width, height))
            _draw_image(canvas, _RasterImage(f"sheet{number}", page), width, height)
            canvas.showPage()
        canvas.save()


class _StoredPage:
    """A page of a job."""

    def __init__(self, row: SheetPrint, raster: FilmRaster, held: HeldSheet) -> None:
        self.row, self.raster, self.held = row, raster, held

    @property
    def size_mm(self) -> tuple[float, float]:
        recipe = self.row.sheet.recipe
        return recipe["width_mm"], recipe["height_mm"]

    def load(self) -> StoredRaster:
        self.held.claim.renew()
        try:
            with open_blob(self.raster.blob) as file:
                return read_raster(file)
        except MissingBlobError as error:
            raise PermanentError(
                f"the stored page {self.row.position} is no longer there; make the film again"
            ) from error


def _page_of(row: SheetPrint, held: HeldSheet) -> _StoredPage:
    raster = held.raster if row.pk == held.row.pk else row.raster
    if raster is None:
        raise PermanentError(f"page {row.position} has not been drawn; make the film again")
    return _StoredPage(row, raster, held)


class _RasterImage(pdfdoc.PDFObject):
    """An image XObject whose data is the stored stream (ISO 32000-1 8.9.5; predictor: 7.4.4.4)."""

    __RefOnly__ = 1

    def __init__(self, name: str, page: Page) -> None:
        self.name, self.page = name, page

    def format(self, document: Any) -> bytes:
        """Called by reportlab when the object is written: only now is the raster read."""
        raster = self.page.load()
        predictor = {"Predictor": 15, "Colors": raster.samples, "BitsPerComponent": 8, "Columns": raster.width_px}
        head = {
            "Type": pdfdoc.PDFName("XObject"),
            "Subtype": pdfdoc.PDFName("Image"),
            "Width": raster.width_px,
            "Height": raster.height_px,
            "BitsPerComponent": 8,
            "ColorSpace": pdfdoc.PDFName("DeviceGray" if raster.samples == 1 else "DeviceRGB"),
            "Filter": pdfdoc.PDFName("FlateDecode"),
            "DecodeParms": pdfdoc.PDFDictionary(predictor),
            "Length": len(raster.stream),
        }
        dictionary: bytes = pdfdoc.PDFDictionary(head).format(document)
        return b"%b\nstream\n%b\nendstream\n" % (dictionary, raster.stream)


def _draw_image(canvas: Any, image: _RasterImage, width: float, height: float) -> None:
    """The image over the whole page: what `Canvas.drawImage` does, without its decoding and compressing."""
    document = canvas._doc
    registered = document.getXObjectName(image.name)
    document.Reference(image, registered)
    document.addForm(image.name, image)
    canvas._formsinuse.append(image.name)
    canvas.saveState()
    canvas.scale(width, height)
    canvas._code.append(f"/{registered} Do")
    canvas.restoreState()


class _WriteThrough(pdfdoc.PDFFile):
    """reportlab collects a document in memory; this hands every object on at once."""

    def __init__(self, sink: Sink, *version: Any) -> None:
        self._sink = sink
        super().__init__(*version)

    def add(self, text: str | bytes) -> int:
        """Returns the offset of what is added."""
        data, at = pdfdoc.pdfdocEnc(text), self.offset
        self._sink.write(data)
        self.offset += len(data)
        return at

    def format(self, document: Any) -> bytes:
        """Nothing is left to write."""
        return b""


@contextmanager
def _written_through(sink: Sink) -> Iterator[None]:
    """Only for worker processes, which have one thread: the class is looked up in reportlab's module."""
    collecting = pdfdoc.PDFFile
    pdfdoc.PDFFile = partial(_WriteThrough, sink)
    try:
        yield
    finally:
        pdfdoc.PDFFile = collecting
