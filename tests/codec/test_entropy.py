"""Whole numbers to bits and back, exactly."""

import numpy as np
import pytest

from neural_fields.codec.entropy import Reader, Writer, hint_for
from neural_fields.codec.tables import fitted_table, model_of

SHAPES = [(1, 1, 1, 1), (1, 9, 7, 2), (5, 2, 3, 1), (3, 16, 21, 4), (7, 1, 40, 1)]


def _grid(shape, spread, seed=0):
    generator = np.random.default_rng(seed)
    return np.rint(generator.laplace(0, spread, shape)).astype(np.int64)


@pytest.mark.parametrize("spread", [0.0, 0.2, 3.0, 60.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_numbers_come_back(shape, spread):
    first, second = _grid(shape, spread), _grid((2, 8, 8, 1), 1.0)
    drifting = np.cumsum(_grid(shape, spread / 4, 1), 0)
    writer = Writer()
    grids = [first, drifting, second]
    coded = [writer.add(first), writer.add(drifting, hint_for(shape, first)), writer.add(second)]
    reader = Reader(writer.data())
    hints = [None, hint_for(shape, first), None]
    for grid, how, hint in zip(grids, coded, hints, strict=True):
        assert np.array_equal(reader.read(grid.shape, how, hint), grid)


def test_sizes_are_near_the_entropy():
    grid = _grid((1, 200, 300, 1), 0.8)
    writer = Writer()
    coded = writer.add(grid)
    _, counts = np.unique(grid, return_counts=True)
    entropy = -(counts * np.log2(counts / counts.sum())).sum() / 8
    assert len(writer.data()) < 1.01 * entropy
    assert sum(map(len, coded.tables)) < 150


def test_neighbours_tell_where_numbers_are_large():
    """Clusters of large numbers among zeros cost less than their own histogram says."""
    generator = np.random.default_rng(1)
    busy = generator.random((1, 20, 30, 1)).repeat(8, 1).repeat(8, 2) < 0.1
    grid = np.where(busy, np.rint(generator.laplace(0, 4, busy.shape)), 0).astype(np.int64)
    writer = Writer()
    writer.add(grid)
    _, counts = np.unique(grid, return_counts=True)
    alone = -(counts * np.log2(counts / counts.sum())).sum() / 8
    assert len(writer.data()) < 0.85 * alone


def test_what_repeats_from_moment_to_moment_follows():
    still = _grid((1, 20, 30, 1), 5.0).repeat(40, 0)
    writer = Writer()
    assert writer.add(still).way in (1, 2)
    once = Writer()
    once.add(still[:1])
    assert len(writer.data()) < len(once.data()) + 60


def test_a_whole_picture_that_moves_costs_little():
    """Each moment's change is one number for all places, and another for each moment."""
    generator = np.random.default_rng(4)
    path = np.cumsum(generator.integers(-40, 41, (60, 1, 1, 2)), 0)
    moving = _grid((1, 12, 20, 2), 6.0) + path
    writer = Writer()
    assert writer.add(moving).way == 3
    once = Writer()
    once.add(moving[:1])
    assert len(writer.data()) < len(once.data()) + 60 * 2 * 2


def test_a_coarser_grid_says_where_a_finer_one_is_large():
    generator = np.random.default_rng(2)
    coarse = np.where(generator.random((1, 16, 16, 1)) < 0.2, 9, 0).astype(np.int64)
    fine = coarse.repeat(2, 1).repeat(2, 2) * generator.integers(-1, 2, (1, 32, 32, 1))
    sizes = []
    for hint in (None, hint_for(fine.shape, coarse)):
        writer = Writer()
        writer.add(fine, hint)
        sizes.append(len(writer.data()))
    assert sizes[1] < 0.9 * sizes[0]


def test_tables_are_whole_numbers_of_any_machine():
    table = fitted_table(np.array([900, 300, 0, 1]))
    assert table[0] == 0
    assert table[1] == 13
    assert table[2] == 160
    assert fitted_table(np.array([0, 0])) == b""
    model_of(table)
    for wrong in (b"", b"\xff"):
        with pytest.raises(ValueError, match="bytes of at most 160"):
            model_of(wrong)


def test_numbers_beyond_a_table_are_refused():
    with pytest.raises(ValueError, match="smaller than 1024"):
        Writer().add(np.full((1, 2, 2, 1), 5000))
