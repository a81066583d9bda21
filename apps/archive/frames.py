"""Whether two files show the same pixels, decoded by a process of its own.

Decoders are C and C++: what they make of broken code streams can end the process that runs them (a C++ exception of
GDCM aborts it) or eat its memory. So a helper decodes, with limits; it lives on for the next pair, because to start it
takes longer than most frames take.
"""

import atexit
import json
import os
import resource
import select
import subprocess
import sys
from collections.abc import Iterator
from itertools import zip_longest
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
from pydicom import dcmread
from pydicom.pixels import iter_pixels
from pydicom.uid import DeflatedExplicitVRLittleEndian

_ROOT = Path(__file__).resolve().parents[2]
_SIZE = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated")
_MAX_FRAME_BYTES = 1 << 29
_MEMORY_BYTES = 6 << 30
_TIME_S = 300
_IDLE_S = 60
_SAME, _DIFFERENT = b"same\n", b"different\n"


def same_frames(left: Path, right: Path) -> bool:
    """Whether every decoded frame is equal, as stored, without colour conversion. False when one cannot be decoded."""
    was_running = _Helper.current is not None
    answer = _Helper.ask(left, right)
    if not answer and was_running:  # it was idle for too long, or is worn out
        answer = _Helper.ask(left, right)
    return answer == _SAME


class _Helper:
    """The process that decodes for this process."""

    current: "_Helper | None" = None

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "apps.archive.frames"],
            cwd=_ROOT,
            env={},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @classmethod
    def ask(cls, left: Path, right: Path) -> bytes:
        """Its answer; empty when it died or took too long."""
        if cls.current is None or cls.current._owner != os.getpid():
            cls.current = cls()
        answer = cls.current._ask(json.dumps([str(left.absolute()), str(right.absolute())]).encode() + b"\n")
        if not answer:
            cls.stop()
        return answer

    @classmethod
    def stop(cls) -> None:
        """End it, if there is one."""
        helper, cls.current = cls.current, None
        if helper and helper._owner == os.getpid():
            helper._process.kill()
            helper._process.communicate()

    def _ask(self, question: bytes) -> bytes:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            return b""
        try:
            stdin.write(question)
            stdin.flush()
            is_ready = bool(select.select([stdout], [], [], _TIME_S)[0])
        except BrokenPipeError:
            return b""
        return stdout.readline() if is_ready else b""


atexit.register(_Helper.stop)


# --- The helper


def _main() -> None:
    answers = _own_stdout()
    _limit_this_process()
    while select.select([sys.stdin], [], [], _IDLE_S)[0]:
        line = sys.stdin.buffer.readline()
        if not line:
            return
        answers.write(_compare(*json.loads(line)))
        answers.flush()


def _own_stdout() -> BinaryIO:
    """Standard output for answers alone: decoders print."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def _limit_this_process() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_TIME_S, _TIME_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold pixels and names


def _compare(left: str, right: str) -> bytes:
    try:
        for first, second in zip_longest(_frames(left), _frames(right)):
            if first is None or second is None or not np.array_equal(first, second):
                return _DIFFERENT
    except Exception:  # noqa: BLE001 - whatever a decoder makes of broken bytes
        return _DIFFERENT
    return _SAME


def _frames(path: str) -> Iterator[np.ndarray]:
    head = dcmread(path, stop_before_pixels=True, specific_tags=[*_SIZE])
    if prod(int(head[keyword].value) for keyword in _SIZE) // 8 > _MAX_FRAME_BYTES:
        raise ValueError("the frames are too large")
    is_deflated = head.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian
    return iter_pixels(dcmread(path) if is_deflated else path, raw=True)


if __name__ == "__main__":
    _main()
