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


def report(name: str, value: float, unit: str, peer: float | None = None, *, more_is_better: bool = False) -> None:
    """One line; the ratio is how many times better ours is than the peer's."""
    words = [name, f"{value:.4g}", unit]
    ratio = (value / peer if more_is_better else peer / value) if peer and value else None
    words += [f"{peer:.4g}", f"{ratio:.2f}" if more_is_better else f"{ratio:.1f}"] if peer and ratio else ["-", "-"]
    print(", ".join(words), flush=True)
