"""A receiver alone, with a spool of its own, for tests that would leave marks on a whole instance."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from tests.peers import free_port, listens, wait_until
from tests.processes import Cost, children, cost

START_PATIENCE_S = 60.0
SETTLE_S = 30.0


@dataclass(frozen=True)
class LoneReceiver:
    """`python -m workers.receiver` and where its spool and log are."""

    port: int
    pid: int
    folder: Path

    @property
    def log_lines(self) -> list[str]:
        """What it has said so far."""
        return (self.folder / "log").read_text(errors="replace").splitlines()

    @property
    def workers(self) -> list[int]:
        """Its own processes; another list means that one of them died."""
        return children(self.pid)

    def stored(self) -> list[Path]:
        """Every whole file in the spool."""
        return sorted((self.folder / "data" / "spool").glob("*/*/*.dcm"))

    def forget_batches(self) -> None:
        """Remove the closed batches, as ingest would."""
        for batch in (self.folder / "data" / "spool" / "closed").iterdir():
            shutil.rmtree(batch, ignore_errors=True)

    def cost(self) -> Cost:
        """Of all its processes."""
        return cost(self.pid)

    def settled(self, descriptors: int, threads: int, patience_s: float = SETTLE_S) -> Cost:
        """The cost once no more than these are held; the last one seen where that takes too long."""
        end = time.monotonic() + patience_s
        while True:
            now = self.cost()
            if (now.descriptors <= descriptors and now.threads <= threads) or time.monotonic() > end:
                return now
            time.sleep(0.2)


@contextmanager
def lone_receiver(folder: Path, **changes: str) -> Iterator[LoneReceiver]:
    """A receiver on a free port of loopback; `changes` are settings without their DICOMSYS_."""
    port = free_port()
    (folder / "data").mkdir(parents=True)
    environment = os.environ | {
        "DICOMSYS_DATA_DIR": str(folder / "data"),
        "DICOMSYS_DICOM_PORT": str(port),
        "DICOMSYS_SPOOL_MIN_FREE_BYTES": "0",
        **{f"DICOMSYS_{name}": value for name, value in changes.items()},
    }
    with (folder / "log").open("wb") as log:
        words = [sys.executable, "-m", "workers.receiver"]
        process = subprocess.Popen(words, cwd=settings.BASE_DIR, env=environment, stdout=log, stderr=log)
    try:
        wait_until(lambda: listens(port), START_PATIENCE_S)
        yield LoneReceiver(port, process.pid, folder)
        assert process.poll() is None, "the receiver ended"
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
