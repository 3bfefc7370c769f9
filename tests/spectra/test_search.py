"""Searching candidates, on curves that are known."""

import math

import pytest
import torch

from neural_fields.spectra.search import (
    QUICK_SEEDS,
    SEEDS,
    Distances,
    Step,
    extended,
    nearest_by_sections,
    nearest_of_all,
    standard_error,
)

LIST = [10.0 * k for k in range(1, 21)]


def curve(lowest_at, noise=0.0):
    """A distance with one minimum, and noise that the seeds share."""

    def measure(value, seed):
        generator = torch.Generator().manual_seed(seed)
        common = float(torch.randn((), generator=generator))
        own = math.sin(value * 12.9898 + seed)
        return abs(math.log(value / lowest_at)) * 10 + noise * (common + 0.1 * own)

    return measure


@pytest.mark.parametrize("lowest_at", [12, 30, 77, 120, 155, 190])
def test_sections_find_what_the_whole_list_has(lowest_at):
    few, all_of_them = Distances(curve(lowest_at, 0.3)), Distances(curve(lowest_at, 0.3))
    quick = nearest_by_sections(few, LIST, SEEDS)
    whole = nearest_of_all(all_of_them, LIST, SEEDS)
    assert abs(quick - whole) <= 10
    looked_at = {d.value: len(d.by_seed) for d in few.all()}
    assert len(looked_at) <= 9
    assert sum(looked_at.values()) <= 9 * QUICK_SEEDS + 2 * (SEEDS - QUICK_SEEDS)
    assert len(all_of_them.all()) == 20


@pytest.mark.parametrize("n", [2, 3, 4, 5, 7])
def test_sections_of_short_lists(n):
    values = LIST[:n]
    for best in values:
        assert nearest_by_sections(Distances(curve(best)), values, 1) == best


def test_values_are_measured_once():
    asked = []
    distances = Distances(lambda value, seed: asked.append((value, seed)) or value)
    distances.at(3.0, 4)
    distances.at(3.0, 2)
    distances.at(3.0, 5)
    assert asked == [(3.0, seed) for seed in range(5)]


def test_the_mean_of_distances_and_its_error():
    found = Distances(lambda value, seed: float(seed % 2)).at(1.0, 10)
    assert found.mean == 0.5
    assert found.error == pytest.approx(math.sqrt(0.25 * 10 / 9 / 10))
    assert standard_error([4.0]) == 0


def step_of(values, lowest=0.0, highest=math.inf, whole=False):
    return Step(values, lowest, highest, whole)


@pytest.mark.parametrize(("lowest_at", "expected"), [(217, 220), (4, 5), (120, 120)])
def test_the_search_goes_on_beyond_an_end(lowest_at, expected):
    distances = Distances(curve(lowest_at))
    best = nearest_of_all(distances, LIST, 1)
    assert extended(distances, LIST, best, 1, step_of(LIST)) == (expected, False)


def test_it_says_where_it_gave_up():
    distances = Distances(curve(10_000))
    best, at_edge = extended(distances, LIST, 200.0, 1, step_of(LIST))
    assert (best, at_edge) == (260, True)
    assert extended(distances, LIST, 200.0, 1, step_of(LIST, highest=200)) == (200, True)


@pytest.mark.parametrize(
    ("values", "options", "above", "below"),
    [
        (LIST, {}, 210, 5),
        (LIST, {"lowest": 6.0}, 210, None),
        ([32, 64, 128], {"lowest": 17, "highest": 256, "whole": True}, 256, None),
        ([32, 64, 128], {"lowest": 16, "highest": 200, "whole": True}, None, 16),
        ([3, 4, 5], {"lowest": 1, "whole": True}, 6, 2),
        ([0.1, 0.2, 0.3], {}, 0.4, 0.05),
        ([0.0, 0.1, 0.3], {}, 0.5, None),
    ],
)
def test_lists_go_on_as_they_are(values, options, above, below):
    step = step_of(values, **options)
    assert step.above(values[-1]) == above
    assert step.below(values[0]) == below
