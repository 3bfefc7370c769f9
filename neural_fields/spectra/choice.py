"""FreSh: the value of a spectral parameter whose untrained fields look most like the signal."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, cast, get_args

from torch import Tensor

from neural_fields.architectures import Spectral
from neural_fields.errors import InputError, unknown_value
from neural_fields.spectra.search import (
    QUICK_SEEDS,
    SEEDS,
    Distance,
    Distances,
    Step,
    extended,
    nearest_by_sections,
    nearest_of_all,
    standard_error,
)
from neural_fields.spectra.spectrum import largest_bin, spectrum, wasserstein

Search = Literal["quick", "all"]


class Tunable(Protocol):
    """What has parameters that set frequencies: an architecture, or a video's tempo."""

    @property
    def name(self) -> str:
        """In a word."""
        ...

    def spectral(self) -> tuple[Spectral, ...]:
        """The parameters, the one that is chosen first in front."""
        ...

    def with_value(self, path: str, value: object) -> Any:
        """A copy with another value of one."""
        ...


class Signal(Protocol):
    """What a field is chosen for.

    Attributes:
        name: in words.
    """

    name: str

    def bins(self, wanted: int) -> int:
        """How many bins are looked at where a parameter wants so many of pictures."""
        ...

    def enough(self, n_bins: int) -> int:
        """Samples along a side that tell candidates apart by so many bins."""
        ...

    def side(self, n_points: int | None) -> int:
        """Samples along a side where at most `n_points` are wanted, None: all there are."""
        ...

    def target(self, seed: int, n_points: int | None) -> Tensor:
        """The signal [c, *sides] that the field with this seed is compared with."""
        ...

    def untrained(
        self, architecture: Any, seed: int, gain: float, n_points: int | None, /
    ) -> Tensor:
        """The same of an untrained field, whose grids are multiplied by `gain`."""
        ...


@dataclass(frozen=True)
class Choice:
    """What was chosen for an architecture, and why.

    Attributes:
        architecture: with the value in place, or whatever else has the parameter.
        parameter: its path in the configuration.
        value: the chosen one.
        default: what is used without a choice.
        reason: in words.
        at_edge: whether the best value is at the end of what was tried.
        distances: of all values that were looked at.
        n_bins: cycles per side that spectra have.
        side: samples along a side that were taken.
        search: `quick` or `all`.
        both_quadrants: whether waves of opposite signs were counted.
        seconds: that it took.
        target: the signal's spectrum, the first one where there are several.
        spectra: by value, the mean over seeds of the untrained fields'.
    """

    architecture: Any
    parameter: str
    value: float | None
    default: float | None
    reason: str
    at_edge: bool
    distances: tuple[Distance, ...]
    n_bins: int
    side: int
    search: Search
    both_quadrants: bool
    seconds: float
    target: Tensor = field(repr=False)
    spectra: dict[float | None, Tensor] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without the spectra."""
        return {
            "architecture": self.architecture.name,
            "parameter": self.parameter,
            "value": self.value,
            "default": self.default,
            "reason": self.reason,
            "at_edge": self.at_edge,
            "n_bins": self.n_bins,
            "side": self.side,
            "search": self.search,
            "both_quadrants": self.both_quadrants,
            "seconds": self.seconds,
            "candidates": [
                {
                    "value": distance.value,
                    "distance": distance.mean,
                    "error": distance.error,
                    "seeds": len(distance.by_seed),
                }
                for distance in self.distances
            ],
        }


def choose(
    signal: Signal,
    architecture: Tunable,
    *,
    parameter: str | None = None,
    search: Search = "quick",
    n_bins: int | None = None,
    n_seeds: int = SEEDS,
    both_quadrants: bool = False,
    candidates: tuple[float, ...] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Choice:
    """Choose the value of a spectral parameter for a signal.

    Args:
        signal: what is to be fitted.
        architecture: whose parameter it is; its own value is the default.
        parameter: its path; None: the architecture's first.
        search: `all` measures every candidate at all samples of the signal; `quick` goes by golden
            sections at as few samples as tell candidates apart.
        n_bins: cycles per side that are looked at; None: the parameter's.
        n_seeds: starts of the field per candidate, the same for all.
        both_quadrants: see `spectrum`.
        candidates: ascending; None: the parameter's.
        on_progress: called with the number of fields measured so far.

    Returns:
        The choice. The default stays where the gain is within one standard error of the mean of
        the differences (the seeds are the same, so that they are paired); at an end of the list
        the search goes on beyond it.

    Raises:
        InputError: the architecture has no such parameter, the signal is constant or too small.

    Source: Kania et al., FreSh, 2025, sections 2.1 to 2.3 of its released code; `quick`, the rule
    for small gains and the extension are ours.

    Example:
        >>> from neural_fields.architectures.siren import Siren
        >>> choose(signal, Siren()).value  # doctest: +SKIP
        120.0
    """
    began = time.perf_counter()
    spectral = _parameter(architecture, parameter)
    if search not in get_args(Search):
        raise InputError(unknown_value("--search", search, get_args(Search)))
    if n_seeds < 1:
        raise InputError(f"--seeds: needs a positive number, got {n_seeds}.")
    if n_bins is not None and n_bins < 1:
        raise InputError(f"--bins: needs a positive number, got {n_bins}.")
    values = spectral.candidates if candidates is None else candidates
    rising = all(a < b for a, b in itertools.pairwise(values))  # false for NaN
    if len(values) < 2 or not rising:
        raise InputError(f"candidates: needs two or more ascending numbers, got {values}.")
    bins = n_bins or signal.bins(spectral.n_bins)
    spectra = _Spectra(
        signal, architecture, spectral, search, bins, both_quadrants, on_progress or _ignored
    )
    distances = Distances(spectra.distance)
    find = nearest_of_all if search == "all" else nearest_by_sections
    best = find(distances, values, n_seeds)
    step = Step(values, spectral.lowest, spectral.highest, spectral.whole)
    few = min(n_seeds, QUICK_SEEDS) if search == "quick" else n_seeds
    best, at_edge = extended(distances, values, best, few, step)
    value, reason = _decided(distances, best, at_edge, spectral.default, n_seeds)
    if value != spectral.default and spectral.caution:
        reason = f"{reason}; {spectral.caution}"
    return Choice(
        architecture=spectra.with_value(value),
        parameter=spectral.path,
        value=value,
        default=spectral.default,
        reason=reason,
        at_edge=at_edge,
        distances=distances.all(),
        n_bins=spectra.n_bins,
        side=spectra.side,
        search=search,
        both_quadrants=both_quadrants,
        seconds=time.perf_counter() - began,
        target=spectra.target(0),
        spectra=spectra.means(),
    )


def _ignored(_: int) -> None:
    pass


def _parameter(architecture: Tunable, path: str | None) -> Spectral:
    known = {spectral.path: spectral for spectral in architecture.spectral()}
    if not known:
        raise InputError(
            f"--fresh: {architecture.name} has no parameter that sets its frequencies; "
            "leave it out, or choose another --field."
        )
    if path is None:
        return next(iter(known.values()))
    if path not in known:
        raise InputError(unknown_value("--parameter", path, [*known]))
    return known[path]


def _decided(
    distances: Distances, best: float, at_edge: bool, default: float | None, n_seeds: int
) -> tuple[float | None, str]:
    """The value that is used, and why."""
    usual, found = distances.at(default, n_seeds), distances.at(best, n_seeds)
    if best == default:
        return default, "the default is the nearest"
    gains = [a - b for a, b in zip(usual.by_seed, found.by_seed, strict=True)]
    gain, error = sum(gains) / len(gains), standard_error(gains)
    if gain <= error:
        return default, (
            f"{best:g} is nearer by {gain:.2g} bins, which is within the error of {error:.2g}: "
            "the default stays"
        )
    reason = f"{found.mean:.2f} bins from the signal, the default {usual.mean:.2f}"
    return best, reason + (", at the end of what was tried" if at_edge else "")


class _Spectra:
    """Spectra of a signal and of untrained fields, each measured once."""

    def __init__(
        self,
        signal: Signal,
        architecture: Tunable,
        spectral: Spectral,
        search: Search,
        n_bins: int,
        both_quadrants: bool,
        on_progress: Callable[[int], None],
    ) -> None:
        self._signal, self._architecture, self._spectral = signal, architecture, spectral
        self._n_points = signal.enough(n_bins) if search == "quick" else None
        self.side = signal.side(self._n_points)
        self.n_bins = largest_bin(n_bins, self.side)
        if self.n_bins < 2:
            raise InputError(f"{signal.name}: needs 6 samples a side or more, got {self.side}.")
        self._both, self._on_progress = both_quadrants, on_progress
        self._targets: dict[int, Tensor] = {}
        self._sums: dict[float | None, Tensor] = {}
        self._counts: dict[float | None, int] = {}

    def with_value(self, value: float | None) -> Any:
        """The architecture with another value of the parameter."""
        whole = self._spectral.whole and value is not None
        kept = int(cast(float, value)) if whole else value
        return self._architecture.with_value(self._spectral.path, kept)

    def target(self, seed: int) -> Tensor:
        """The signal's spectrum for a seed."""
        if seed not in self._targets:
            values = self._signal.target(seed, self._n_points)
            self._targets[seed] = self._spectrum(values, f"{self._signal.name}: ")
        return self._targets[seed]

    def distance(self, value: float | None, seed: int) -> float:
        """From an untrained field to the signal, in bins."""
        target = self.target(seed)
        architecture = self.with_value(value)
        values = self._signal.untrained(architecture, seed, self._spectral.gain, self._n_points)
        found = self._spectrum(values, f"{architecture.name}: untrained, ")
        self._sums[value] = self._sums.get(value, 0) + found
        self._counts[value] = self._counts.get(value, 0) + 1
        self._on_progress(sum(self._counts.values()))
        return wasserstein(found, target)

    def means(self) -> dict[float | None, Tensor]:
        """By value, over the seeds."""
        return {value: total / self._counts[value] for value, total in self._sums.items()}

    def _spectrum(self, values: Tensor, name: str) -> Tensor:
        try:
            return spectrum(values, self.n_bins, both_quadrants=self._both)
        except InputError as error:
            raise InputError(f"{name}{error}") from error
