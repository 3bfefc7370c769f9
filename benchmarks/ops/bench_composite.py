"""Packed compositing of the stored batch: colour, opacity, depth, and their gradients."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from neural_fields import _core
from neural_fields.benchmarks.batch import stored_batch
from neural_fields.benchmarks.case import Case, Sizes
from neural_fields.benchmarks.torch_baseline import composite


def cases(sizes: Sizes) -> Iterator[Case]:
    """The PyTorch arms leave out depth; the native operation always has it."""
    batch = stored_batch(sizes.n_samples, sizes.image_size).batch
    n, rays = batch.n_samples, (batch.offsets, batch.t_starts, batch.t_ends)
    density, color = 5 * torch.rand(n), torch.rand(n, 3)
    ray_color, opacity = torch.empty(batch.n_rays, 3), torch.empty(batch.n_rays)
    depth = torch.empty(batch.n_rays)
    compiled = torch.compile(composite, fullgraph=True)
    yield Case(
        "composite.forward.f32",
        n,
        "M samples/s",
        ours=lambda: _core.composite_forward(*rays, density, color, 0.0, ray_color, opacity, depth),
        eager=lambda: composite(*rays, density, color),
        compiled=lambda: compiled(*rays, density, color),
        limit=sizes.streaming(n, 4 * 6),
    )
    grad = torch.randn(batch.n_rays, 4)
    grad_ray_color, grad_opacity = grad[:, :3].contiguous(), grad[:, 3].contiguous()
    grad_density, grad_color = torch.empty(n), torch.empty(n, 3)
    leaves = [density.clone().requires_grad_(), color.clone().requires_grad_()]
    values = composite(*rays, *leaves)
    yield Case(
        "composite.backward.f32",
        n,
        "M samples/s",
        ours=lambda: _core.composite_backward(
            *rays, density, color, 0.0, grad_ray_color, grad_opacity, None, None, None,
            grad_density, grad_color,
        ),
        eager=lambda: torch.autograd.grad(values, leaves, grad, retain_graph=True),
        limit=sizes.streaming(n, 4 * 10),
    )  # fmt: skip
