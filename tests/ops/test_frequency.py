"""Frequency encoding."""

import math

import pytest
import tolerances
import torch

from neural_fields import ops
from neural_fields.ops import reference

from .suite import Case, OpSuite


def make_case(name, n_dims, n_octaves, **options):
    return Case(
        name=name,
        function=lambda x: ops.frequency(x, n_octaves, **options),
        reference=lambda x: reference.frequency(x, n_octaves, **options),
        inputs=lambda n, generator: [torch.rand(n, n_dims, generator=generator) * 4 - 2],
        arguments=("positions",),
        tolerance=tolerances.FREQUENCY_FLOAT32,
    )


class TestFrequency(OpSuite):
    name = "frequency"
    cases = (
        make_case("nerf", 3, 10),
        make_case("directions", 3, 4),
        make_case("pi", 2, 6, include_pi=True),
        make_case("bare", 1, 3, identity=False),
    )

    def any_shape(self, argument, wrong):
        return wrong.dim() == 2

    def registered(self, case):
        (x,) = case.make(7)
        spec = (5, True, False)
        grad = torch.ones(7, x.shape[1] * 11)
        yield "frequency", (x.requires_grad_(), *spec)
        yield "frequency_backward", (grad.requires_grad_(), x, *spec)
        yield "frequency_backward_backward", (x.detach(), grad.detach(), x.detach(), *spec)


def test_order_of_the_output():
    x = torch.tensor([[0.3, -0.7]])
    parts = [x, x.sin(), x.cos(), (2 * x).sin(), (2 * x).cos()]
    torch.testing.assert_close(ops.frequency(x, 2), torch.cat(parts, dim=1))
    torch.testing.assert_close(ops.frequency(x, 2, identity=False), torch.cat(parts[1:], dim=1))


def test_widths_of_the_original_network():
    assert ops.frequency(torch.zeros(1, 3), 10).shape == (1, 63)
    assert ops.frequency(torch.zeros(1, 3), 4).shape == (1, 27)
    assert ops.frequency(torch.zeros(2, 3), 0, identity=False).shape == (2, 0)


def test_squares_sum_to_one():
    encoded = ops.frequency(torch.randn(100, 3) * 3, 8, identity=False).view(100, 8, 2, 3)
    torch.testing.assert_close(encoded.pow(2).sum(2), torch.ones(100, 8, 3))


@pytest.mark.parametrize("magnitude", [1.0, 100.0, 1e4])
def test_sines_of_large_phases(magnitude, any_isa):
    x = torch.linspace(-magnitude, magnitude, 20001)[:, None]
    actual = ops.frequency(x, 1, identity=False).double()
    expected = torch.cat([x.double().sin(), x.double().cos()], dim=1)
    assert (actual - expected).abs().max() <= tolerances.SINE_FLOAT32


def test_huge_phases_stay_bounded(any_isa):
    x = torch.logspace(4, 38, 1000)[:, None]
    for include_pi in (False, True):
        encoded = ops.frequency(torch.cat([x, -x]), 1, identity=False, include_pi=include_pi)
        assert encoded.abs().max() <= 1.0 + 1e-5


def test_not_finite_gives_nan(any_isa):
    x = torch.tensor([[math.nan], [math.inf], [-math.inf], [0.0]])
    encoded = ops.frequency(x, 2, identity=False)
    assert encoded[:3].isnan().all()
    assert encoded[3].tolist() == [0.0, 1.0, 0.0, 1.0]


def test_whole_turns_are_exact_with_pi(any_isa):
    x = torch.arange(-4.0, 5.0)[:, None]
    encoded = ops.frequency(x, 16, identity=False, include_pi=True).view(9, 16, 2)
    assert encoded[:, 1:, 0].abs().max() == 0
    assert (encoded[:, 1:, 1] == 1).all()


def test_every_octave_is_accurate_with_pi(any_isa):
    x = torch.linspace(-1, 1, 2001)[:, None]
    options = {"identity": False, "include_pi": True}
    expected = reference.frequency(x.double(), 24, **options)
    error = (ops.frequency(x, 24, **options) - expected).abs().max()
    assert error <= tolerances.SINE_OF_TURNS_FLOAT32


@pytest.mark.parametrize("n_octaves", [-1, 25])
def test_octaves_out_of_range(n_octaves):
    with pytest.raises(ValueError, match=f"^frequency: n_octaves needs 0 to 24, got {n_octaves}"):
        ops.frequency(torch.zeros(1, 1), n_octaves)
    with pytest.raises(ValueError, match="needs 1 to 64 dimensions"):
        ops.frequency(torch.zeros(1, 65), 1)
