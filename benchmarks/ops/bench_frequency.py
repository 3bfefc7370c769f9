"""Frequency encoding of positions with 10 octaves (63 values)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from neural_fields import _core
from neural_fields.benchmarks.case import Case, Sizes, gradient_arms

N_OCTAVES = 10


def cases(sizes: Sizes) -> Iterator[Case]:
    """Values and the gradient of the positions."""
    n = sizes.n_samples
    shape = _core.FrequencyShape(3, N_OCTAVES, True, False)
    positions, output = torch.rand(n, 3), torch.empty(n, shape.n_output)
    grad_output, grad_positions = torch.randn(n, shape.n_output), torch.empty(n, 3)
    compiled = torch.compile(frequency, fullgraph=True)
    yield Case(
        "frequency.forward.f32",
        n,
        "M points/s",
        ours=lambda: _core.frequency_forward(shape, positions, output),
        eager=lambda: frequency(positions),
        compiled=lambda: compiled(positions),
        limit=sizes.streaming(n, 4 * (3 + shape.n_output)),
    )
    eager, compiled_gradient = gradient_arms(frequency, positions, grad_output)
    yield Case(
        "frequency.backward.f32",
        n,
        "M points/s",
        ours=lambda: _core.frequency_backward(shape, grad_output, positions, grad_positions),
        eager=eager,
        compiled=compiled_gradient,
        limit=sizes.streaming(n, 4 * (6 + shape.n_output)),
    )


def frequency(positions: Tensor) -> Tensor:
    """All octaves in one computation, then brought into the operation's order."""
    octaves = 2.0 ** torch.arange(N_OCTAVES)
    phases = positions[:, None] * octaves[:, None]  # [n, octave, axis]
    waves = torch.stack((phases.sin(), phases.cos()), 2)
    return torch.cat((positions, waves.flatten(1)), 1)
