"""Spherical harmonics of degree 4 (16 values)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from neural_fields import _core
from neural_fields.benchmarks.case import Case, Sizes, gradient_arms
from neural_fields.benchmarks.torch_baseline import spherical_harmonics


def cases(sizes: Sizes) -> Iterator[Case]:
    """Values and the gradient of the directions."""
    n = sizes.n_samples
    directions = F.normalize(torch.randn(n, 3), dim=1)
    output, grad_directions = torch.empty(n, 16), torch.empty(n, 3)
    grad_output = torch.randn(n, 16)
    compiled = torch.compile(spherical_harmonics, fullgraph=True)
    yield Case(
        "spherical_harmonics.forward.f32",
        n,
        "M directions/s",
        ours=lambda: _core.spherical_harmonics_forward(4, directions, output),
        eager=lambda: spherical_harmonics(directions),
        compiled=lambda: compiled(directions),
        limit=sizes.streaming(n, 4 * (3 + 16)),
    )
    eager, compiled_gradient = gradient_arms(spherical_harmonics, directions, grad_output)
    yield Case(
        "spherical_harmonics.backward.f32",
        n,
        "M directions/s",
        ours=lambda: _core.spherical_harmonics_backward(
            4, grad_output, directions, grad_directions
        ),
        eager=eager,
        compiled=compiled_gradient,
        limit=sizes.streaming(n, 4 * (3 + 16 + 3)),
    )
