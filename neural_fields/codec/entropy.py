"""Whole numbers on grids to bits and back, exactly.

A grid [moments, height, width, channels] is coded moment by moment, channel by channel, and
within a picture in three passes: first the points of even row and column, then those of odd row
and column, whose diagonal neighbours are known, then the others, whose four neighbours are known.
How likely a magnitude is depends on those of its known neighbours, of the moment and channel
before, and of the coarser grid below it (`hint`): their weighted sum picks one of eight tables.
Signs are bits.
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
_HALF = 2 * N_BUCKETS  # the first pass has its own
N_TABLES = 2 * _HALF  # and so has the first moment, where the others are differences
_CAP = 15  # of a magnitude in a sum

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class CodedGrid:
    """How a grid is coded: the number of its way (see `differences`), and tables, some empty."""

    way: int
    tables: tuple[bytes, ...]


class Grid:
    """The numbers of a grid as far as they are known, and the contexts of the next ones."""

    def __init__(
        self, shape: tuple[int, int, int, int], hint: Numbers | None, *, apart: bool
    ) -> None:
        """`hint` [moments, height, width]: magnitudes of what lies below, or None.

        `apart`: whether the first moment says nothing of the others.
        """
        self.values = np.zeros(shape, np.int64)
        self._hint, self._apart = hint, apart
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
        if moment > (1 if self._apart else 0):
            before = self._magnitude(moment - 1, channel)
            total += 2 * before + _around(before, diagonal=False)
        if channel > 0:
            total += 2 * self._magnitude(moment, channel - 1)
        if self._hint is not None:
            total += np.minimum(self._hint[moment], _CAP)
        bucket = np.searchsorted(_BOUNDS, total[mask], side="right")
        bucket += N_BUCKETS if number > 0 else 0
        return bucket + (_HALF if self._apart and moment == 0 else 0)

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


N_WAYS = 4


def differences(values: Numbers, way: int) -> Numbers:
    """What is coded of numbers [moments, height, width, channels], one of four ways.

    0: the numbers; 1: how moments differ from the one before; 2: the same, and of the first moment
    how columns differ from the left, the first column from above; 3: the latter of all moments'
    differences, which are alike where a whole picture moves.

    Example:
        >>> grid = np.arange(6).reshape(2, 1, 3, 1)
        >>> differences(grid, 3)[..., 0].tolist()
        [[[0, 1, 1]], [[3, 0, 0]]]
    """
    if way == 0:
        return values
    changes = np.concatenate([values[:1], np.diff(values, axis=0)])
    sloped = slice(0, {1: 0, 2: 1, 3: len(values)}[way])
    part = changes[sloped]
    changes[sloped, :, 1:] = np.diff(part, axis=2)
    changes[sloped, 1:, :1] = np.diff(part[:, :, :1], axis=1)
    return changes


def summed(changes: Numbers, way: int) -> Numbers:
    """The inverse of `differences`.

    Example:
        >>> grid = np.arange(24).reshape(2, 3, 4, 1) ** 2
        >>> all(np.array_equal(summed(differences(grid, way), way), grid) for way in range(4))
        True
    """
    if way == 0:
        return changes
    values = changes.copy()
    sloped = slice(0, {1: 0, 2: 1, 3: len(values)}[way])
    values[sloped, :, :1] = np.cumsum(values[sloped, :, :1], axis=1)
    values[sloped] = np.cumsum(values[sloped], axis=2)
    return np.cumsum(values, axis=0)


@dataclass(frozen=True)
class _Prepared:
    """A grid with its contexts: what is left is to write it."""

    coded: CodedGrid
    parts: list[tuple[Numbers, Numbers]]  # numbers and tables of each pass
    bits: float


def _prepared(values: Numbers, hint: Numbers | None, way: int) -> _Prepared:
    residual = differences(values, way)
    grid = Grid(residual.shape, hint if way == 0 else None, apart=way > 0)
    grid.values[:] = residual  # contexts look at what a decoder knows by then, and masks see to it
    parts = []
    counts = np.zeros((N_TABLES, min(MOST, int(np.abs(residual).max(initial=0)) + 1)), np.int64)
    for moment, channel, number, mask in grid.steps():
        numbers = residual[moment, :, :, channel][mask]
        which = grid.context(moment, channel, number, mask)
        np.add.at(counts, (which, np.abs(numbers)), 1)
        parts.append((numbers, which))
    tables = tuple(fitted_table(row) for row in counts)
    size = sum(
        bits_of(row, table) + 8 * len(table) for row, table in zip(counts, tables, strict=True)
    )
    return _Prepared(CodedGrid(way, tables), parts, size + float((residual != 0).sum()))


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
        if int(np.abs(values).max(initial=0)) >= MOST // 4:
            raise ValueError(f"numbers need to be smaller than {MOST // 4}")
        ways = range(N_WAYS) if len(values) > 1 else (0, 2)
        best = min((_prepared(values, hint, way) for way in ways), key=lambda each: each.bits)
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
        if not 0 <= coded.way < N_WAYS:
            raise ValueError(f"numbers are coded in no way {coded.way}")
        grid = Grid(shape, hint if coded.way == 0 else None, apart=coded.way > 0)
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
        return summed(grid.values, coded.way)

    def _signs(self, half: Any, n: int) -> Numbers:
        if n == 0:
            return np.zeros(0, np.int64)
        signs: Numbers = np.asarray(self._coder.decode(half, n)).astype(np.int64)
        return signs


__all__ = ["N_TABLES", "CodedGrid", "Reader", "Writer", "differences", "hint_for", "summed"]
