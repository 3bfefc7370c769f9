"""Whole numbers on grids to bits and back, exactly.

A grid [moments, height, width, channels] is coded moment by moment, channel by channel, and within a
picture in three passes: first the points of even row and column, then those of odd row and column,
whose diagonal neighbours are known, then the others, whose four neighbours are known. How likely a
magnitude is depends on those of its known neighbours, of the moment and channel before, and of the
coarser grid below it (`hint`): their weighted sum picks one of eight tables. Signs are bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neural_fields.codec.tables import MOST, Numbers, bits_of, fitted_table, model_of
from neural_fields.errors import library

_BOUNDS = np.array([1, 2, 4, 7, 11, 18, 30])  # of a context's sum
N_BUCKETS = len(_BOUNDS) + 1
N_TABLES = 2 * N_BUCKETS  # the first pass has its own
_CAP = 15  # of a magnitude in a sum

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class CodedGrid:
    """How a grid is coded: whether moments follow the one before, and its tables, some empty."""

    follows: bool
    tables: tuple[bytes, ...]


class Grid:
    """The numbers of a grid as far as they are known, and the contexts of the next ones."""

    def __init__(self, shape: tuple[int, int, int, int], hint: Numbers | None) -> None:
        """`hint` [moments, height, width]: magnitudes of what lies below, or None."""
        self.values = np.zeros(shape, np.int64)
        self._hint = hint
        _, height, width, _ = shape
        row, column = np.indices((height, width)) % 2
        self._passes = [(row == 0) & (column == 0), (row == 1) & (column == 1), row != column]

    def steps(self) -> Iterator[tuple[int, int, int, Mask]]:
        """(moment, channel, pass, which points) in the order of coding."""
        n_moments, _, _, n_channels = self.values.shape
        for moment in range(n_moments):
            for channel in range(n_channels):
                for number, mask in enumerate(self._passes):
                    if mask.any():
                        yield moment, channel, number, mask

    def context(self, moment: int, channel: int, number: int, mask: Mask) -> Numbers:
        """The table of each point of a pass, from what is known before it."""
        now = self._magnitude(moment, channel)
        total = np.zeros(now.shape, np.int64)
        if number == 1:
            total += 2 * _around(now, diagonal=True)
        if number == 2:
            total += 2 * _around(now, diagonal=False)
        if moment > 0:
            before = self._magnitude(moment - 1, channel)
            total += 2 * before + _around(before, diagonal=False)
        if channel > 0:
            total += 2 * self._magnitude(moment, channel - 1)
        if self._hint is not None:
            total += np.minimum(self._hint[moment], _CAP)
        bucket = np.searchsorted(_BOUNDS, total[mask], side="right")
        return bucket + (N_BUCKETS if number > 0 else 0)

    def _magnitude(self, moment: int, channel: int) -> Numbers:
        return np.minimum(np.abs(self.values[moment, :, :, channel]), _CAP)


def _around(values: Numbers, *, diagonal: bool) -> Numbers:
    """The sum of the four neighbours; nothing lies outside."""
    padded = np.pad(values, 1)
    if diagonal:
        return padded[:-2, :-2] + padded[:-2, 2:] + padded[2:, :-2] + padded[2:, 2:]
    return padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]


def hint_for(shape: tuple[int, int, int, int], below: Numbers) -> Numbers:
    """Magnitudes [moments, height, width] of a coarser grid, at the points of a finer one.

    Example:
        >>> below = np.array([1, -2]).reshape(1, 1, 2, 1)
        >>> hint_for((1, 2, 4, 1), below)[0].tolist()
        [[1, 1, 2, 2], [1, 1, 2, 2]]
    """
    picked = [
        (2 * np.arange(n) + 1) * m // (2 * n)
        for n, m in zip(shape[:3], below.shape[:3], strict=True)
    ]
    magnitudes: Numbers = np.abs(below).sum(3)
    return magnitudes[np.ix_(*picked)]


def _residual(values: Numbers, follows: bool) -> Numbers:
    """What is coded: the numbers, or how they differ from the moment before.

    Of the first moment then how they differ from the left, in the first column from above.
    """
    if not follows:
        return values
    first = values[:1].copy()
    first[:, :, 1:] -= values[:1, :, :-1]
    first[:, 1:, 0] -= values[:1, :-1, 0]
    return np.concatenate([first, np.diff(values, axis=0)])


def _summed(residual: Numbers) -> Numbers:
    """The inverse of `_residual`."""
    values = residual.copy()
    values[0, :, 0] = np.cumsum(values[0, :, 0], axis=0)
    values[0] = np.cumsum(values[0], axis=1)
    return np.cumsum(values, axis=0)


@dataclass(frozen=True)
class _Prepared:
    """A grid with its contexts: what is left is to write it."""

    coded: CodedGrid
    parts: list[tuple[Numbers, Numbers]]  # numbers and tables of each pass
    bits: float


def _prepared(values: Numbers, hint: Numbers | None, follows: bool) -> _Prepared:
    residual = _residual(values, follows)
    grid = Grid(residual.shape, None if follows else hint)  # type: ignore[arg-type]
    grid.values[:] = residual  # contexts look at what a decoder knows by then, and masks see to it
    parts = []
    counts = np.zeros((N_TABLES, min(MOST, int(np.abs(residual).max(initial=0)) + 1)), np.int64)
    for moment, channel, number, mask in grid.steps():
        numbers = residual[moment, :, :, channel][mask]
        which = grid.context(moment, channel, number, mask)
        np.add.at(counts, (which, np.abs(numbers)), 1)
        parts.append((numbers, which))
    tables = tuple(fitted_table(row) for row in counts)
    size = sum(bits_of(row, table) + 8 * len(table) for row, table in zip(counts, tables, strict=True))
    return _Prepared(CodedGrid(follows, tables), parts, size + float((residual != 0).sum()))


class Writer:
    """Codes grids one after the other into one stream."""

    def __init__(self) -> None:
        self._stream = library("constriction", "video").stream
        self._coder = self._stream.queue.RangeEncoder()

    def add(self, values: Numbers, hint: Numbers | None = None) -> CodedGrid:
        """Write a grid of whole numbers [moments, height, width, channels].

        Raises:
            ValueError: a number is larger than a table can be.
        """
        if int(np.abs(values).max(initial=0)) >= MOST // 2:
            raise ValueError(f"numbers need to be smaller than {MOST // 2}")
        ways = [_prepared(values, hint, follows) for follows in (False, True)]
        best = min(ways, key=lambda way: way.bits)
        models = [model_of(table) if table else None for table in best.coded.tables]
        half = self._stream.model.Uniform(2)
        for numbers, which in best.parts:
            for number in np.unique(which):
                symbols = np.abs(numbers[which == number]).astype(np.int32)
                self._coder.encode(symbols, models[number])
            signs = (numbers[numbers != 0] < 0).astype(np.int32)
            if len(signs):
                self._coder.encode(signs, half)
        return best.coded

    def data(self) -> bytes:
        """All that was written."""
        words: NDArray[np.uint32] = self._coder.get_compressed()
        return words.astype("<u4").tobytes()


class Reader:
    """Reads the grids of a `Writer` in the same order."""

    def __init__(self, data: bytes) -> None:
        self._stream = library("constriction", "video").stream
        words = np.frombuffer(data, "<u4").astype(np.uint32)
        self._coder = self._stream.queue.RangeDecoder(words)

    def read(
        self, shape: tuple[int, int, int, int], coded: CodedGrid, hint: Numbers | None = None
    ) -> Numbers:
        """The numbers of a grid.

        Raises:
            ValueError: the tables do not fit, or the data are damaged.
        """
        models: list[Any] = [model_of(table) if table else None for table in coded.tables]
        half = self._stream.model.Uniform(2)
        grid = Grid(shape, None if coded.follows else hint)
        try:
            for moment, channel, number, mask in grid.steps():
                which = grid.context(moment, channel, number, mask)
                numbers = np.zeros(len(which), np.int64)
                for table in np.unique(which):
                    here = which == table
                    if models[table] is None:
                        raise ValueError("a table is missing")
                    numbers[here] = self._coder.decode(models[table], int(here.sum()))
                negative = self._signs(half, int((numbers != 0).sum()))
                numbers[numbers != 0] *= 1 - 2 * negative
                grid.values[moment, :, :, channel][mask] = numbers
        except AssertionError as error:  # what the library says of data that cannot be
            raise ValueError("the coded numbers are damaged") from error
        return _summed(grid.values) if coded.follows else grid.values

    def _signs(self, half: Any, n: int) -> Numbers:
        if n == 0:
            return np.zeros(0, np.int64)
        signs: Numbers = np.asarray(self._coder.decode(half, n)).astype(np.int64)
        return signs


__all__ = ["CodedGrid", "Reader", "Writer", "hint_for"]
