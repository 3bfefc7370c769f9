"""Orthogonal steps: what they are, and that they are worth it."""

import math

import pytest
import torch
from torch import Tensor

from neural_fields.architectures.hash import Hash
from neural_fields.architectures.mlp import Mlp as MlpArchitecture
from neural_fields.data.picture import Picture
from neural_fields.decoders import Mlp
from neural_fields.fields import ImageConfig, RadianceConfig, RadianceField
from neural_fields.ops import MlpSpec
from neural_fields.training.adam import AdamState
from neural_fields.training.image import ImageOptions, ImageTrainer
from neural_fields.training.muon import MuonState, orthogonal
from neural_fields.training.state import TrainState


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network(seed: int = 1) -> Mlp:
    made = Mlp(MlpSpec((24, 48, 48, 3), biases=True))
    made.reset(torch.Generator().manual_seed(seed))
    return made


@pytest.mark.parametrize("shape", [(64, 32), (16, 64), (48, 48), (1, 7), (7, 1)])
def test_orthogonal_factor(shape: tuple[int, int]) -> None:
    """Singular vectors stay, singular values come near 1."""
    matrix = normal(*shape)
    left, sizes, right = torch.linalg.svd(matrix, full_matrices=False)
    found = left.T @ orthogonal(matrix) @ right.T
    large = sizes > 0.01 * matrix.norm()
    values = found.diagonal()[large]
    assert values.min() > 0.6
    assert values.max() < 1.3
    assert (found - found.diagonal().diag()).abs().max() < 1e-4


@pytest.mark.parametrize("scale", [1e-25, 1e-36, 1e20])
def test_orthogonal_of_what_fades_and_of_what_is_huge(scale: float) -> None:
    """Momentum without gradients fades to numbers whose squares are 0."""
    matrix = torch.randn(6, 4, generator=torch.Generator().manual_seed(3))
    found = orthogonal(matrix * scale)
    assert found.isfinite().all()
    torch.testing.assert_close(found, orthogonal(matrix), atol=0.2, rtol=0)


def test_orthogonal_of_zeros() -> None:
    """A layer that got no gradient, or a denormal one, stays finite."""
    assert orthogonal(torch.zeros(4, 6)).equal(torch.zeros(4, 6))
    assert orthogonal(torch.full((4, 6), 1e-42)).isfinite().all()


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_step_sizes(scale: float) -> None:
    """Matrices move by the rate whatever the gradients' size, biases as by Adam alone."""
    made = network()
    before = made.params.detach().clone()
    muon = MuonState(made, l2=0.0, matrix_share=0.5)
    muon.grad.copy_(normal(len(before)) * scale)
    gradient = muon.grad.clone()
    muon.step(0.02, 1)
    plain = network()
    adam = AdamState(plain.params, sparse=False)
    adam.grad.copy_(gradient)
    adam.step(0.02, 1)
    moved = made.split(made.params.detach() - before)
    expected = plain.split(plain.params.detach() - before)
    for matrix in moved[0]:
        assert float(matrix.square().mean().sqrt()) == pytest.approx(0.01, rel=0.25)
    for bias, other in zip(moved[1], expected[1], strict=True):
        assert bias.equal(other)


def test_steps_go_down_with_momentum() -> None:
    """Against the gradient at first; a second gradient of zeros leaves the momentum's way."""
    made = network()
    muon = MuonState(made, l2=0.0, matrix_share=1.0)
    muon.grad.copy_(normal(len(muon.grad)))
    before, gradient = muon.parameter.clone(), muon.grad.clone()
    muon.step(0.01, 1)
    assert float((muon.parameter - before) @ gradient) < 0
    before = muon.parameter.clone()
    muon.grad.zero_()
    muon.step(0.01, 2)
    moved = made.split(muon.parameter - before)[0]
    for step, was in zip(moved, made.split(gradient)[0], strict=True):
        assert float((step * was).sum()) < -0.1 * float(step.norm() * was.norm())


def test_who_is_moved_by_muon() -> None:
    """All networks where the rate is positive, none where it is 0, never a grid."""
    field = RadianceField(RadianceConfig(architecture=Hash(log2_table_size=10)))
    by_adam = TrainState(field, shares={}, l2=0.0)
    assert {type(state) for state in by_adam.adam.values()} == {AdamState}
    state = TrainState(field, shares={}, l2=0.0, matrix_share=1.0)
    for name, adam in state.adam.items():
        owner = field.get_submodule(name.rpartition(".")[0])
        assert isinstance(adam, MuonState) == isinstance(owner, Mlp)
    assert {type(adam) for adam in state.adam.values()} == {AdamState, MuonState}


def small_trainer(matrix_rate: float) -> ImageTrainer:
    y, x = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 64), indexing="ij")
    waves = (40 * x * y).sin() * (12 * x).cos()
    pixels = torch.stack([waves, waves.square(), (x - y).abs()], 2) * 0.5 + 0.5
    pixels = (pixels * 255).round().to(torch.uint8)
    picture = Picture(pixels, "waves", "srgb", 8, {}, "")
    sizes = MlpArchitecture(octaves=4, hidden=(48, 48, 48))
    config = ImageConfig(width=64, height=64, architecture=sizes)
    options = ImageOptions(batch_pixels=1024, learning_rate=5e-3, matrix_rate=matrix_rate)
    return ImageTrainer(config, picture, options)


def test_a_deep_network_learns_faster() -> None:
    """Two thirds of Adam's squared error, or less, after as many steps."""
    errors = []
    for matrix_rate in (0.0, 6e-3):
        trainer = small_trainer(matrix_rate)
        steps = [trainer.step(i / 150).mse for i in range(150)]
        errors.append(math.fsum(steps[-10:]) / 10)
    assert errors[1] < 0.67 * errors[0]
