"""Drawing a 14 x 17 in sheet with all its words, from files to raster; beside dcm2pnm for the images alone."""

import resource
from pathlib import Path
from tempfile import TemporaryDirectory

from apps.films.compose import compose
from apps.films.layout import sheet_layout
from apps.rendering.frame import ImageFile
from apps.rendering.text import draw_line
from tests.benchmarks import milliseconds, report
from tests.benchmarks.slices import dcm2pnm, sheet, write_ct, write_radiograph


def draw(paths: list[Path], dpi: int, columns: int = 4, rows: int = 5) -> None:
    """One sheet; no word is kept from the last one."""
    draw_line.cache_clear()
    recipe, profile = sheet(len(paths), dpi, columns, rows)
    compose(recipe, {str(at): ImageFile(path) for at, path in enumerate(paths)}, profile)


def image_width(dpi: int, columns: int, rows: int) -> int:
    """How wide a square picture is drawn on the sheet."""
    recipe, profile = sheet(1, dpi, columns, rows)
    box = sheet_layout(recipe, profile).boxes[0].image
    return min(box.width, box.height)


def main() -> None:
    """Print the figures."""
    with TemporaryDirectory() as folder:
        slices, radiograph = write_ct(Path(folder), 20), write_radiograph(Path(folder))
        peer = milliseconds(lambda: dcm2pnm(slices, image_width(300, 4, 5)), rounds=3)
        report("sheet, 4x5 CT, 300 dpi, 8 bit", milliseconds(lambda: draw(slices, 300), 15), "ms", peer)
        peer = milliseconds(lambda: dcm2pnm(slices, image_width(600, 4, 5)), rounds=3)
        report("sheet, 4x5 CT, 600 dpi, 8 bit", milliseconds(lambda: draw(slices, 600)), "ms", peer)
        peer = milliseconds(lambda: dcm2pnm([radiograph], image_width(300, 1, 1)), rounds=3)
        report("sheet, 1x1 DX 15 Mpx, 300 dpi, 8 bit", milliseconds(lambda: draw([radiograph], 300, 1, 1)), "ms", peer)
        report("peak memory of this process", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000, "MB")


if __name__ == "__main__":
    main()
