"""How far a job is, in words and numbers. Plain Python."""

from __future__ import annotations

from dataclasses import dataclass

FAILED, UNKNOWN, CANCELLED, DONE, RUNNING, WAITING = "failed", "unknown", "cancelled", "done", "running", "waiting"
WORDS = {
    FAILED: "Failed",
    UNKNOWN: "Not known whether printed",
    CANCELLED: "Cancelled",
    DONE: "Done",
    RUNNING: "Being made",
    WAITING: "Waiting",
}


@dataclass(frozen=True)
class Progress:
    """Sheets of one job by what became of them."""

    total: int
    waiting: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    unknown: int = 0
    cancelled: int = 0

    @property
    def state(self) -> str:
        """The job's state: what needs a person first, then what moves, then what has ended."""
        if self.unknown:
            return UNKNOWN
        if self.failed:
            return FAILED
        if self.running or (self.waiting and self.done):
            return RUNNING
        if self.waiting:
            return WAITING
        return CANCELLED if self.cancelled else DONE

    @property
    def words(self) -> str:
        """The state for people."""
        return WORDS[self.state]

    @property
    def is_moving(self) -> bool:
        """Whether a page should look again."""
        return bool(self.waiting or self.running) and not (self.failed or self.unknown)

    @property
    def is_cancellable(self) -> bool:
        """Whether there is something to take back."""
        return bool(self.waiting or self.failed)

    @property
    def is_retryable(self) -> bool:
        """Whether trying again may help."""
        return bool(self.failed)
