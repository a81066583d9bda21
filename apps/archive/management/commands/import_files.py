"""`manage.py import_files PATH…`: instances from folders, ZIP files and media into the archive."""

import csv
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser, OutputWrapper
from django.db import DatabaseError

from apps.archive.importing import Imported, ImportedFile, import_media, preview_media
from apps.archive.media import count_files
from apps.core.errors import RetryableError

_NOTES = {
    Imported.STORED: "",
    Imported.DUPLICATE: "in the archive already, with the same content",
    Imported.CONFLICT: "copies are kept aside: see Conflicts in the administration",
    Imported.UNREADABLE: "not kept: the source still has them",
    Imported.MISSING: "a DICOMDIR lists them and they are not there",
    Imported.NOT_DICOM: "left out",
    Imported.MEDIA_DIRECTORY: "only lists the others",
}
_BAR_CHARACTERS = 30
_REDRAW_S, _LINE_S = 0.1, 10.0


class Command(BaseCommand):
    """Imports media, with a line for every file that was refused and a table at the end."""

    help = (
        "Import DICOM files from files, folders, ZIP files and media with a DICOMDIR. The source is only read. "
        "Run again, it continues: what is stored already is recognised. Exit status 1 when a file was refused."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Where to look, and what to tell."""
        parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="file, folder, ZIP file or DICOMDIR")
        parser.add_argument("--dry-run", action="store_true", help="tell what would be done and change nothing")
        parser.add_argument("--report", type=Path, metavar="FILE", help="write what became of each file as CSV")

    def handle(self, *args: Any, **options: Any) -> None:
        """Raises CommandError when the archive takes no more; exits with status 1 when a file was refused."""
        walk = preview_media if options["dry_run"] else import_media
        progress = _Progress(self.stderr, count_files(options["paths"]))
        counts: Counter[Imported] = Counter()
        with _report(options["report"]) as write_row, _stop_on_signals() as signals:
            try:
                for file in walk(options["paths"], lambda: bool(signals)):
                    counts[file.outcome] += 1
                    write_row((file.label, file.outcome.value, file.reason, file.size_bytes))
                    self._say_refused(file, progress)
                    progress.advance(file)
            except (OSError, RetryableError, DatabaseError) as error:
                progress.finish()
                self._say_counts(counts, is_preview=options["dry_run"])
                raise CommandError(_why_stopped(error)) from error
        progress.finish()
        self._say_counts(counts, is_preview=options["dry_run"])
        if signals:
            self.stdout.write("Stopped before the end. The same command continues.")
        if signals or any(outcome.is_refused for outcome in counts):
            sys.exit(1)

    def _say_refused(self, file: ImportedFile, progress: "_Progress") -> None:
        if file.outcome.is_refused or file.outcome is Imported.NOT_DICOM:
            progress.clear()
            self.stdout.write(f"{file.outcome.value}: {file.label}: {file.reason}")

    def _say_counts(self, counts: Counter[Imported], *, is_preview: bool) -> None:
        if is_preview:
            self.stdout.write("Nothing was changed. This is what an import would do:")
        for outcome in Imported:
            note = _NOTES[outcome] if counts[outcome] and not is_preview else ""
            self.stdout.write(f"  {outcome.value:<12}{counts[outcome]:>9,}   {note}".rstrip())


def _why_stopped(error: Exception) -> str:
    """The text of a database error may quote a row, so only its kind is told."""
    reason = str(error) if isinstance(error, RetryableError) else getattr(error, "strerror", "") or type(error).__name__
    return f"stopped: {reason}. What was copied already is stored by itself later; the same command continues."


@contextmanager
def _stop_on_signals() -> Iterator[list[int]]:
    """The first Ctrl-C lets the files at hand be finished, the second interrupts. Yields the signals received."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _report(path: Path | None) -> Iterator[Callable[[Iterable[Any]], Any]]:
    """The CSV file, readable by its owner alone: paths of media tell names."""
    if path is None:
        path = Path(os.devnull)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        raise CommandError(f"cannot write the report {path}: {error.strerror}") from error
    with os.fdopen(descriptor, "w", newline="", encoding="utf-8") as file:
        write_row = csv.writer(file).writerow
        write_row(("file", "outcome", "reason", "bytes"))
        yield write_row


class _Progress:
    """A bar on a terminal, else a line every ten seconds."""

    def __init__(self, stream: OutputWrapper, expected: int) -> None:
        self._stream = stream
        self._expected = expected
        self._is_terminal = stream.isatty()
        self._files = self._bytes = 0
        self._started = self._shown_at = time.monotonic()

    def advance(self, file: ImportedFile) -> None:
        """Count one file, and show it when it is time."""
        self._files += 1
        self._bytes += file.size_bytes
        now = time.monotonic()
        if now - self._shown_at >= (_REDRAW_S if self._is_terminal else _LINE_S):
            self._shown_at = now
            self._show(now)

    def clear(self) -> None:
        """Take the bar away for a line of text."""
        if self._is_terminal:
            self._stream.write("\r\x1b[K", ending="")

    def finish(self) -> None:
        """Show where it ended."""
        if self._is_terminal:
            self._show(time.monotonic())
            self._stream.write("")

    def _show(self, now: float) -> None:
        total = max(self._expected, self._files)
        rate = self._bytes / 1e6 / max(now - self._started, 1e-3)
        text = f"{self._files:,} of {total:,} files, {rate:.1f} MB/s"
        if not self._is_terminal:
            self._stream.write(text)
            return
        filled = _BAR_CHARACTERS * self._files // max(total, 1)
        self._stream.write(f"\r[{'#' * filled:<{_BAR_CHARACTERS}}] {text}\x1b[K", ending="")
