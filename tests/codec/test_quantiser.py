"""Entries to whole numbers."""

import pytest
import torch

from neural_fields import InputError
from neural_fields.codec.quantiser import Quantiser


@pytest.mark.parametrize("bits", [4, 6, 8])
@pytest.mark.parametrize("rule", ["step", "tanh"])
def test_whole_numbers_within_their_bits(rule, bits):
    quantiser = Quantiser(rule, bits)
    entries = torch.linspace(-300, 300, 4001)
    numbers = quantiser.numbers(entries)
    assert torch.equal(numbers, numbers.round())
    assert float(numbers.abs().max()) <= 2 ** (bits - 1) - 1
    assert bool((numbers.diff() >= 0).all())


def test_the_rules_by_hand():
    """Rounding to the nearest; and n tanh(w) towards zero, as the published code has it."""
    entries = torch.tensor([0.49, 0.51, -1.7, 40.0])
    assert Quantiser("step", 8).numbers(entries).tolist() == [0, 1, -2, 40]
    tanh = Quantiser("tanh", 6)
    expected = torch.sign(entries) * torch.floor(torch.tanh(entries).abs() * 31)
    torch.testing.assert_close(tanh.numbers(entries), expected)
    torch.testing.assert_close(tanh.features(expected), expected / 31)
    # Pitfall 3 of the published rule: a scale of 1 is kept as 0.742 with 6 bits.
    one = tanh.features(tanh.numbers(torch.tensor(1.0)))
    assert float(one) == pytest.approx(0.742, abs=1e-3)


@pytest.mark.parametrize("rule", ["step", "tanh"])
def test_gradients_pass_straight_through(rule):
    entries = torch.linspace(-1.2, 1.2, 7, requires_grad=True)
    quantiser = Quantiser(rule, 8)
    quantiser.numbers(entries).sum().backward()
    if rule == "step":
        assert torch.equal(entries.grad, torch.ones(7))
    else:
        inner = entries.detach()
        torch.testing.assert_close(entries.grad, 127 * (1 - torch.tanh(inner) ** 2))


def test_noise_is_of_one_step_and_follows_its_generator():
    quantiser = Quantiser("step", 8)
    entries = torch.zeros(10000)
    first, again = (quantiser.noisy(entries, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert float(first.abs().max()) <= 0.5
    assert float(first.std()) == pytest.approx(12**-0.5, rel=0.05)


def test_unknown_rules_and_bits_are_refused():
    with pytest.raises(InputError, match=r"--quantiser: needs one of step, tanh"):
        Quantiser("round")
    for bits in (3, 9, 4.0):
        with pytest.raises(InputError, match="--bits: needs 4 to 8"):
            Quantiser("step", bits)
