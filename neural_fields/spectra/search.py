"""Searching a list of candidates for the one whose untrained spectra are nearest to a target's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

SEEDS, QUICK_SEEDS = 10, 3
MOST_EXTENSIONS = 6  # candidates beyond either end of a list
GOLDEN = (3 - math.sqrt(5)) / 2

# How far a field with a value of the parameter and a seed is from the target.
Measure = Callable[[float | None, int], float]


@dataclass(frozen=True)
class Distance:
    """Of one candidate, in bins: one per seed."""

    value: float | None
    by_seed: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return sum(self.by_seed) / len(self.by_seed)

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        return standard_error(self.by_seed)


def standard_error(values: Sequence[float]) -> float:
    """Of the mean of independent values; 0 of a single one.

    Example:
        >>> standard_error([1.0, 3.0])
        1.0
    """
    n = len(values)
    mean = sum(values) / n
    squares = sum((value - mean) ** 2 for value in values)
    return math.sqrt(squares / (n - 1) / n) if n > 1 else 0.0


class Distances:
    """Distances that are measured once per value and seed; all values see the same seeds."""

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        self._found: dict[float | None, list[float]] = {}

    def at(self, value: float | None, n_seeds: int) -> Distance:
        """Of a value, by the first seeds."""
        found = self._found.setdefault(value, [])
        for seed in range(len(found), n_seeds):
            found.append(self._measure(value, seed))
        return Distance(value, tuple(found[:n_seeds]))

    def all(self) -> tuple[Distance, ...]:
        """Of all values that were looked at, ascending, one that is no number first."""
        ordered = sorted(self._found, key=lambda v: -math.inf if v is None else v)
        return tuple(Distance(value, tuple(self._found[value])) for value in ordered)


def nearest_of_all(distances: Distances, values: Sequence[float], n_seeds: int) -> float:
    """The value with the smallest mean distance, the first of equals."""
    return _nearest(distances.at(value, n_seeds) for value in values)


def nearest_by_sections(distances: Distances, values: Sequence[float], n_seeds: int) -> float:
    """The same by golden sections of an ascending list whose distances have one minimum.

    `QUICK_SEEDS` narrow it down, the best two are measured with all.
    """
    low, high = 0, len(values) - 1
    while high - low > 2:
        step = max(1, round((high - low) * GOLDEN))
        left, right = low + step, max(low + step + 1, high - step)
        near = [distances.at(values[i], QUICK_SEEDS).mean for i in (left, right)]
        low, high = (low, right) if near[0] <= near[1] else (left, high)
    left_over = [distances.at(value, QUICK_SEEDS) for value in values[low : high + 1]]
    best = sorted(left_over, key=lambda distance: distance.mean)[:2]
    finalists = sorted(distance.value for distance in best if distance.value is not None)
    return _nearest(distances.at(value, n_seeds) for value in finalists)


def extended(
    distances: Distances, values: Sequence[float], best: float, n_seeds: int, step: Step
) -> tuple[float, bool]:
    """Go on beyond the list while its end is nearest: the value, and whether it is still an end."""
    for end, outward in ((values[-1], step.above), (values[0], step.below)):
        last = end
        for _ in range(MOST_EXTENSIONS):
            further = outward(last) if best == last else None
            if further is None:
                break
            best = _nearest([distances.at(best, n_seeds), distances.at(further, n_seeds)])
            last = further
        if best == last:
            return best, True
    return best, False


@dataclass(frozen=True)
class Step:
    """How a list of values goes on beyond its ends.

    Attributes:
        values: ascending.
        lowest: no smaller value is given.
        highest: no larger one.
        whole: whether values are whole numbers.
    """

    values: Sequence[float]
    lowest: float
    highest: float
    whole: bool

    def above(self, last: float) -> float | None:
        """The next value: twice the last where the list doubles, else one more of its steps."""
        before, end = self.values[-2:]
        doubles = before > 0 and math.isclose(end / before, 2)
        further = 2 * last if doubles else round(last + (end - before), 9)
        return further if further <= self.highest else None

    def below(self, last: float) -> float | None:
        """Half of the last; whole numbers that do not double go down by one."""
        first, after = self.values[:2]
        by_one = self.whole and not math.isclose(after, 2 * first)
        further = last - 1 if by_one else last / 2
        allowed = further >= max(self.lowest, 1e-9) and (not self.whole or further == int(further))
        return further if allowed else None


def _nearest(found: Iterable[Distance]) -> float:
    """The value of the smallest mean, the first of equals."""
    best = min(found, key=lambda distance: distance.mean).value
    assert best is not None
    return best
