"""One line a step with its seconds, to whoever started the instance, and to a log."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO


class Progress:
    """Says what is done. A reader who went away does not stop the work."""

    def __init__(self, log: Path | None = None) -> None:
        self.began_at = float(os.environ.get("DICOMSYS_BEGAN_AT") or time.time())
        self._log: TextIO | None = log.open("a") if log else None

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[None]:
        """A line with the seconds it took, once the work inside is done."""
        since = time.monotonic()
        yield
        self.say(f"  {time.monotonic() - since:5.1f} s  {text}")

    def say(self, text: str, to_log: bool = True) -> None:
        """One or more lines."""
        self._print(text, sys.stdout)
        if self._log and to_log:
            self._print(text, self._log)

    def complain(self, text: str) -> None:
        """Lines that say what went wrong."""
        self._print(text, sys.stderr)
        if self._log:
            self._print(text, self._log)

    def _print(self, text: str, where: TextIO) -> None:
        with contextlib.suppress(OSError):
            print(text, file=where, flush=True)

    def elapsed_s(self) -> float:
        """Seconds since the command was given."""
        return time.time() - self.began_at


def fall_silent(log: Path) -> None:
    """From now on everything this process prints goes to a log; the terminal is let go."""
    sys.stdout.flush()
    sys.stderr.flush()
    number = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(number, 1)
    os.dup2(number, 2)
    os.close(number)
