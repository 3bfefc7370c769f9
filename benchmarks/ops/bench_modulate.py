"""Modulation of features, which has to be as fast as memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from neural_fields import _core
from neural_fields.benchmarks.case import Bar, Case, Sizes, gradient_arms

_BAR: Bar = {"claim": "modulation at 60 % of the stream bandwidth", "share_of_limit": 0.6}


def cases(sizes: Sizes) -> Iterator[Case]:
    """Normalised features of 64 and 256 channels; numbers are counted."""
    for n_channels in (256, 64):
        variant = "" if n_channels == 256 else f":{n_channels}"
        features = torch.randn(sizes.n_samples, n_channels)
        grad_output, grad = torch.randn_like(features), torch.empty_like(features)
        output = torch.empty_like(features)
        scale, shift = torch.rand(sizes.n_samples), torch.rand(sizes.n_samples)
        sums = torch.empty_like(scale), torch.empty_like(scale)
        yield _forward(variant, sizes, features, scale, shift, output)
        yield _backward(variant, sizes, grad_output, features, scale, shift, grad, *sums)


def _plain(features: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    normal = F.layer_norm(features, (features.shape[1],))
    return torch.addcmul(shift[:, None], scale[:, None], normal)


def _forward(
    variant: str, sizes: Sizes, features: Tensor, scale: Tensor, shift: Tensor, output: Tensor
) -> Case:
    compiled = torch.compile(_plain, fullgraph=True)
    return Case(
        f"modulate.forward.f32{variant}",
        features.numel(),
        "M numbers/s",
        ours=lambda: _core.modulate_forward(features, scale, shift, True, output),
        eager=lambda: _plain(features, scale, shift),
        compiled=lambda: compiled(features, scale, shift),
        limit=sizes.streaming(features.numel(), 8),
        bar=None if variant else _BAR,
    )


def _backward(
    variant: str,
    sizes: Sizes,
    grad_output: Tensor,
    features: Tensor,
    scale: Tensor,
    shift: Tensor,
    grad: Tensor,
    grad_scale: Tensor,
    grad_shift: Tensor,
) -> Case:
    eager, compiled = gradient_arms(lambda x: _plain(x, scale, shift), features, grad_output)
    return Case(
        f"modulate.backward.f32{variant}",
        features.numel(),
        "M numbers/s",
        ours=lambda: _core.modulate_backward(
            grad_output, features, scale, True, grad, grad_scale, grad_shift
        ),
        eager=eager,
        compiled=compiled,
        limit=sizes.streaming(features.numel(), 12),
        bar=None if variant else _BAR,
    )
