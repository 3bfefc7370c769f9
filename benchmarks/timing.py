"""Interleaved timing: every round runs all arms once, so that they share the machine's moods."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Arm = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Seconds per call of one arm, one number per round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle round."""
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The first and third quartile; the only round twice if there is one."""
        if len(self.seconds) < 2:
            return self.seconds[0], self.seconds[0]
        first, _, third = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return first, third


def compare(
    arms: Mapping[str, Arm], *, rounds: int, min_seconds: float, pause: float = 0.01
) -> dict[str, Timing]:
    """Time all arms in turns.

    Args:
        arms: by name. Each is called twice beforehand, which also compiles what compiles.
        rounds: how often each arm gets its turn.
        min_seconds: of one turn; short calls are repeated within it.
        pause: seconds between turns, in which the thread pools of the arm before fall asleep:
            they keep spinning for a moment and would take a core from the next.

    Returns:
        Per arm its seconds per call.
    """
    calls = {}
    for name, arm in arms.items():
        arm()
        start = time.perf_counter()
        arm()
        calls[name] = max(1, round(min_seconds / max(time.perf_counter() - start, 1e-7)))
    taken: dict[str, list[float]] = {name: [] for name in arms}
    gc.collect()
    for _ in range(rounds):
        for name, arm in arms.items():
            time.sleep(pause)
            arm()  # wakes the threads and brings the arm's data back into the caches
            start = time.perf_counter()
            for _ in range(calls[name]):
                arm()
            taken[name].append((time.perf_counter() - start) / calls[name])
    return {name: Timing(tuple(seconds)) for name, seconds in taken.items()}


def ratio(slower: Timing, faster: Timing) -> float:
    """The median over the rounds of how many times longer the first took."""
    pairs = zip(slower.seconds, faster.seconds, strict=True)
    return statistics.median(s / f for s, f in pairs)
