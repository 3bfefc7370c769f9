"""`rate` is its reference, gradients included."""

import pytest
import torch

from neural_fields import _core
from neural_fields.ops import rate
from neural_fields.ops.reference.rate import rate as reference

SHAPES = [(1, 1, 1, 1), (2, 3, 5, 2), (3, 20, 37, 1), (1, 33, 70, 4), (0, 4, 4, 1)]


def _case(shape, spread, earlier):
    generator = torch.Generator().manual_seed(sum(shape))
    numbers = spread * torch.randn(shape, generator=generator)
    numbers[numbers.abs() < 0.3 * spread] = 0
    before = spread * torch.randn(shape[1:], generator=generator) if earlier else None
    weights = torch.tensor([-0.3, 0.6, 0.4], requires_grad=True)
    return numbers.requires_grad_(), weights, before


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("spread", [0.2, 1.0, 30.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_its_reference(shape, spread, earlier):
    numbers, weights, before = _case(shape, spread, earlier)
    expected = reference(numbers, weights, before)
    found = rate(numbers, weights, before)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    wanted = torch.autograd.grad(expected, [numbers, weights])
    for one, other in zip(torch.autograd.grad(3 * found, [numbers, weights]), wanted, strict=True):
        size = 1e-6 + float(other.abs().max()) if other.numel() else 1
        torch.testing.assert_close(one / size, 3 * other / size, rtol=2e-3, atol=1e-4)


def test_rounded_numbers_far_out_stay_finite():
    numbers = torch.tensor([0.0, 0.5, -0.5, 1e4, -1e6]).view(1, 1, 5, 1).requires_grad_()
    for base in (-20.0, 0.0, 20.0):
        bits = rate(numbers, torch.tensor([base, 0.0, 0.0]))
        (gradient,) = torch.autograd.grad(bits, numbers)
        assert torch.isfinite(bits)
        assert torch.isfinite(gradient).all()


def test_results_do_not_depend_on_the_number_of_threads():
    numbers, weights, before = _case((3, 50, 37, 2), 1.0, True)
    before_threads = _core.num_threads()
    results = []
    try:
        for n_threads in (1, 2, 5):
            _core.set_num_threads(n_threads)
            bits = rate(numbers, weights, before)
            results.append((bits, *torch.autograd.grad(bits, [numbers, weights])))
    finally:
        _core.set_num_threads(before_threads)
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            assert torch.equal(one, two)


def test_wrong_tensors_are_refused():
    numbers, weights, _ = _case((1, 4, 4, 1), 1.0, False)
    with pytest.raises(ValueError, match="numbers"):
        rate(numbers[0], weights)
    with pytest.raises(ValueError, match="before"):
        rate(numbers, weights, torch.zeros(4, 4, 2))
    with pytest.raises(ValueError, match="weights"):
        rate(numbers, weights[:2])
