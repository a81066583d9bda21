"""From the files to a PDF: 8 sheets of 20 CT images, 300 dpi, without loss; beside reportlab's own way for the file."""

import os
import resource
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

import django
from django.conf import settings
from PIL import Image

from tests.benchmarks import milliseconds, report

PAGES = 8
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dicomsys.settings")
django.setup()

from reportlab.lib.utils import ImageReader  # noqa: E402
from reportlab.pdfgen.canvas import Canvas  # noqa: E402

from apps.films.compose import compose  # noqa: E402
from apps.films.raster import StoredRaster, encode, raster_sha256, read_raster  # noqa: E402
from apps.films.services import PREVIEW_PX  # noqa: E402
from apps.printing.backends.pdf import write_pdf  # noqa: E402
from apps.rendering.frame import ImageFile  # noqa: E402
from apps.rendering.resize import reduce  # noqa: E402
from apps.rendering.thumbnail import encode_png  # noqa: E402
from apps.storage.blobs import blob_path, blob_writer, open_blob, write_blob  # noqa: E402
from tests.benchmarks.slices import dcm2pnm, sheet, write_ct  # noqa: E402


class StoredPage:
    """A page of a job without a database."""

    def __init__(self, blob: str, size_mm: tuple[float, float]) -> None:
        self.blob, self.size_mm = blob, size_mm

    def load(self) -> StoredRaster:
        with open_blob(self.blob) as file:
            return read_raster(file)


def make_page(paths: list[Path]) -> StoredPage:
    """Draw, identify, compress and keep one sheet with its preview, as a worker does."""
    recipe, profile = sheet(len(paths), 300)
    pixels = compose(recipe, {str(at): ImageFile(path) for at, path in enumerate(paths)}, profile)
    raster_sha256(pixels)
    write_blob(encode_png(reduce(pixels, PREVIEW_PX)))
    return StoredPage(write_blob(encode(pixels).to_bytes()), (recipe.width_mm, recipe.height_mm))


def make_document(paths: list[Path], per_page: int) -> str:
    """The file's blob."""
    pages = [make_page(paths[start : start + per_page]) for start in range(0, len(paths), per_page)]
    with blob_writer() as writer:
        write_pdf(writer, "benchmark", pages)
    return writer.name


def write_as_reportlab_does(page: StoredPage, sink: BinaryIO) -> None:
    """One page by `drawImage`."""
    width, height = (side / 25.4 * 72 for side in page.size_mm)
    canvas = Canvas(sink, pagesize=(width, height))
    canvas.drawImage(ImageReader(Image.fromarray(page.load().pixels())), 0, 0, width, height)
    canvas.save()


def main() -> None:
    """Print the figures."""
    with TemporaryDirectory() as folder:
        settings.DATA_DIR = Path(folder) / "data"
        paths = write_ct(Path(folder), 20 * PAGES)
        page = make_page(paths[:20])
        alone = milliseconds(lambda: write_pdf(BytesIO(), "one page", [page]), rounds=3)
        drawn_by_reportlab = milliseconds(lambda: write_as_reportlab_does(page, BytesIO()), rounds=1)
        report("pdf of one stored sheet", alone, "ms", drawn_by_reportlab)
        report("pdf, one sheet, from the files", milliseconds(lambda: make_document(paths[:20], 20), 5), "ms")
        pictures = milliseconds(lambda: dcm2pnm(paths, 700), rounds=1)
        whole = milliseconds(lambda: make_document(paths, 20), 3)
        report("pdf, 160 images on 8 sheets, from the files", whole, "ms", pictures + PAGES * drawn_by_reportlab)
        size = blob_path(make_document(paths, 20)).stat().st_size / 1e6
        report("its size", size, "MB")
        report("peak memory of this process", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000, "MB")


if __name__ == "__main__":
    main()
