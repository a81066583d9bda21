"""Figures, never tests: each module prints one line a figure: name, value, unit, the peer's value, ratio."""

from collections.abc import Callable
from statistics import median
from time import perf_counter


def milliseconds(work: Callable[[], object], rounds: int = 9) -> float:
    """Median of so many rounds after one to warm up, by the wall clock."""
    work()
    times = []
    for _ in range(rounds):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return median(times) * 1000


def report(name: str, value: float, unit: str, peer: float | None = None) -> None:
    """One line; the ratio is how many times the peer's value ours goes into it."""
    words = [name, f"{value:.4g}", unit]
    words += [f"{peer:.4g}", f"{peer / value:.1f}"] if peer else ["-", "-"]
    print(", ".join(words), flush=True)
