"""Real spherical harmonics."""

import math

import numpy as np
import pytest
import tolerances
import torch

from neural_fields import ops
from neural_fields.ops import reference

from .suite import Case, OpSuite


def unit_vectors(n, generator):
    return torch.nn.functional.normalize(torch.randn(n, 3, generator=generator), dim=1)


def make_case(degree):
    return Case(
        name=f"degree{degree}",
        function=lambda d: ops.spherical_harmonics(d, degree),
        reference=lambda d: reference.spherical_harmonics(d, degree),
        inputs=lambda n, generator: [unit_vectors(n, generator)],
        arguments=("directions",),
        tolerance=tolerances.SPHERICAL_HARMONICS_FLOAT32,
    )


class TestSphericalHarmonics(OpSuite):
    name = "spherical_harmonics"
    cases = tuple(make_case(degree) for degree in (1, 2, 3, 4))

    def registered(self, case):
        (d,) = case.make(7)
        grad = torch.ones(7, 9)
        yield "spherical_harmonics", (d.requires_grad_(), 3)
        yield "spherical_harmonics_backward", (grad.requires_grad_(), d, 3)
        yield "spherical_harmonics_backward_backward", (d.detach(), grad.detach(), d.detach(), 3)


# Computed from the definition, to six decimals.
GOLDEN = [
    *(0.282095, -0.325735, 0.325735, -0.162868, 0.242789, -0.485577, 0.105131, -0.242789),
    *(-0.182091, 0.043707, 0.428239, -0.372408, -0.193499, -0.186204, -0.321179, 0.240388),
]


def test_golden_values(any_isa):
    values = ops.spherical_harmonics(torch.tensor([[1.0, 2.0, 2.0]]) / 3)
    assert values[0].tolist() == pytest.approx(GOLDEN, abs=1e-6)


def test_squares_of_a_band_sum_to_a_constant():
    values = ops.spherical_harmonics(unit_vectors(1000, torch.Generator().manual_seed(0)))
    for degree in (1, 2, 3, 4):
        total = values[:, : degree**2].pow(2).sum(1)
        torch.testing.assert_close(total, torch.full((1000,), degree**2 / (4 * math.pi)))


def test_orthonormal_on_the_sphere():
    z, weight = np.polynomial.legendre.leggauss(8)  # exact for the products, as is 16 around
    phi = np.arange(16) * (2 * np.pi / 16)
    radius = np.sqrt(1 - z**2)[:, None]
    axes = radius * np.cos(phi), radius * np.sin(phi), z[:, None] + 0 * phi
    directions = torch.from_numpy(np.stack(axes, axis=-1).reshape(-1, 3))
    values = ops.spherical_harmonics(directions)
    weights = torch.from_numpy(np.repeat(weight * 2 * np.pi / 16, 16))
    gram = values.T @ (weights[:, None] * values)
    torch.testing.assert_close(gram, torch.eye(16, dtype=torch.float64))


@pytest.mark.parametrize("degree", [0, 5])
def test_degree_out_of_range(degree):
    message = f"^spherical_harmonics: degree needs 1 to 4, got {degree}"
    with pytest.raises(ValueError, match=message):
        ops.spherical_harmonics(torch.zeros(1, 3), degree)


def test_degree_is_an_integer():
    with pytest.raises(TypeError, match=r"degree needs an integer, got 2\.0"):
        ops.spherical_harmonics(torch.zeros(1, 3), 2.0)
