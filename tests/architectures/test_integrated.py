"""Integrated positional encoding, and what samples along rays stand for."""

import pytest
import torch

from neural_fields import architectures, ops
from neural_fields.architectures import Target
from neural_fields.encodings import integrated_frequency
from neural_fields.fields import RadianceConfig, RadianceField, Samples
from neural_fields.rendering.cameras import Cameras
from neural_fields.rendering.footprint import cone_variances
from neural_fields.rendering.volume import render_rays, render_view


def test_points_are_encoded_as_frequencies():
    x = torch.rand(20, 3, dtype=torch.float64)
    expected = ops.frequency(x, 6, identity=False)
    torch.testing.assert_close(integrated_frequency(x, torch.zeros_like(x), 6), expected)


def test_it_is_the_mean_over_a_gaussian():
    x, deviation = torch.tensor([[0.3, -0.8]]).double(), torch.tensor([[0.2, 0.05]]).double()
    draws = x + deviation * torch.randn(400_000, 2, dtype=torch.float64)
    expected = ops.frequency(draws, 4, identity=False).mean(0, keepdim=True)
    actual = integrated_frequency(x, deviation.square(), 4)
    torch.testing.assert_close(actual, expected, atol=5e-3, rtol=0)


def test_gradients_of_positions_and_variances():
    x = torch.rand(4, 2, dtype=torch.float64, requires_grad=True)
    v = torch.rand(4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, v: integrated_frequency(x, v, 3), (x, v))
    assert torch.autograd.gradgradcheck(lambda x, v: integrated_frequency(x, v, 3), (x, v))


@pytest.mark.parametrize(("begin", "end"), [(3.9, 4.1), (2.0, 4.0)])
def test_variances_are_those_of_points_in_a_cone(begin, end):
    n, width = 400_000, 0.5
    radius = 2 / 12**0.5 * width
    # Uniform in the frustum along z: t with density t^2, then a point of the disc of radius r t.
    t = (begin**3 + torch.rand(n).double() * (end**3 - begin**3)) ** (1 / 3)
    r, angle = radius * t * torch.rand(n).double().sqrt(), torch.rand(n).double() * 2 * torch.pi
    points = torch.stack([r * angle.cos(), r * angle.sin(), t], 1)
    actual = cone_variances(
        torch.tensor([begin]),
        torch.tensor([end]),
        torch.tensor([[0.0, 0, 1]]),
        torch.tensor([width]),
    )
    torch.testing.assert_close(actual.double()[0], points.var(0), rtol=0.01, atol=0)


@pytest.fixture
def field():
    sized = architectures.get("mlp").sized(Target("radiance", 3, 100), "ipe")
    return RadianceField(RadianceConfig(architecture=sized), seed=1)


def test_wide_samples_see_no_high_frequencies(field):
    """Moving by half a wave of the highest octaves changes nothing once they are averaged out."""
    points = torch.rand(100, 3) - 0.5
    moved = points + torch.pi / 2**12

    def change(variance):
        variances = torch.full((100, 3), variance)
        a = field.evaluate(Samples(points, None, variances)).log_density
        b = field.evaluate(Samples(moved, None, variances)).log_density
        return (a - b).abs().mean()

    assert change(1e-2) < 0.1 * change(0.0)


def test_nothing_known_is_a_cell(field):
    points = torch.rand(30, 3) - 0.5
    cell = torch.full((30, 3), (2 / 100) ** 2 / 12)
    torch.testing.assert_close(
        field.evaluate(Samples(points)).log_density,
        field.evaluate(Samples(points, None, cell)).log_density,
    )


def test_pictures_know_the_size_of_their_pixels(field):
    cameras = Cameras.orbit((0, 0, 0), 3, elevation_deg=20, n=1, width=12, height=9)
    view = render_view(field, cameras)
    origins, directions = cameras.image_rays(0)
    widths = torch.full((108,), 1 / float(cameras.focal[0, 0]))
    torch.testing.assert_close(
        view.color.view(-1, 3), render_rays(field, origins, directions, widths).color
    )
    assert not torch.equal(view.color.view(-1, 3), render_rays(field, origins, directions).color)
