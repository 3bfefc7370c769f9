"""Repeated grids: sizes of the paper, and torch's grid_sample as an independent reference."""

import pytest
import torch
import torch.nn.functional as F

from neural_fields import InputError
from neural_fields.architectures.rbf import DifSizes
from neural_fields.encodings import DifEncoding


@pytest.mark.parametrize(("n_dims", "count"), [(3, 10_157_342), (2, 106_038)])
def test_published_numbers_of_parameters(n_dims, count):
    with torch.device("meta"):
        encoding = DifSizes().encoding(n_dims)
    assert sum(p.numel() for p in encoding.parameters()) == count
    assert encoding.n_output == 18


@pytest.mark.parametrize("n_dims", [2, 3])
def test_equals_grid_sample_of_a_sawtooth(n_dims):
    encoding = DifEncoding(n_dims, sides=(5, 8), channels=(3, 2), periods=(2.0, 3.2))
    encoding.reset(torch.Generator().manual_seed(1))
    positions = torch.rand(500, n_dims)
    expected = []
    for table, side, period in zip(encoding.tables, (5, 8), (2.0, 3.2), strict=True):
        # Box [-1, 1]: ((p - min) mod period) / (period / 2) - 1 with period = extent / frequency.
        length = 2 / period
        saw = ((positions * 2 - 1 + 1) % length) / (length / 2) - 1
        grid = table.detach().view(*(side,) * n_dims, -1)
        planes = grid.movedim(-1, 0)[None]
        at = saw.view(1, *(1,) * (n_dims - 1), -1, n_dims)
        sampled = F.grid_sample(planes, at, "bilinear", "border", align_corners=False)
        expected.append(sampled.view(sampled.shape[1], -1).T)
    torch.testing.assert_close(encoding(positions), torch.cat(expected, 1), rtol=1e-4, atol=1e-4)


def test_a_period_begins_anew():
    encoding = DifEncoding(2, sides=(6,), channels=(2,), periods=(4.0,))
    encoding.reset(torch.Generator().manual_seed(1))
    positions = torch.rand(50, 2) / 4
    torch.testing.assert_close(
        encoding(positions), encoding(positions + 0.25), rtol=1e-4, atol=1e-4
    )
    inside = torch.tensor([[0.0, 0.5]])
    torch.testing.assert_close(encoding(inside - torch.tensor([[1.0, 0.0]])), encoding(inside))


def test_lists_that_do_not_match_are_refused():
    with pytest.raises(InputError, match=r"as many sides as channels and periods, got 2, 1 and 2"):
        DifEncoding(3, sides=(4, 5), channels=(1,), periods=(2.0, 3.0))
    with pytest.raises(InputError, match=r"periods of at least 1, got 0\.5"):
        DifEncoding(3, sides=(4,), channels=(1,), periods=(0.5,))
