"""Small networks: 32 -> 64 -> 64 -> 16, relu, no biases."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from neural_fields import _core
from neural_fields.benchmarks.batch import xavier
from neural_fields.benchmarks.case import Arm, Bar, Case, Sizes
from neural_fields.benchmarks.torch_baseline import PIECE_SAMPLES

WIDTHS = (32, 64, 64, 16)
_SHARE: Bar = {
    "claim": "the network at 60 percent of the multiply-add peak",
    "share_of_limit": 0.60,
}


def cases(sizes: Sizes) -> Iterator[Case]:
    """Forward, all gradients, and the gradient of the inputs' gradient."""
    n = sizes.n_samples
    shape = _core.MlpShape(WIDTHS, "relu", "none", 1.0, False)
    params = xavier(WIDTHS, torch.Generator().manual_seed(3))
    matrices = _split(params)
    inputs, grad_output = torch.randn(n, WIDTHS[0]), torch.randn(n, WIDTHS[-1])
    output, hidden = torch.empty(n, WIDTHS[-1]), torch.empty(n * shape.n_hidden)
    grad_inputs, grad_params = torch.empty_like(inputs), torch.empty_like(params)
    pieces = torch.split(inputs, PIECE_SAMPLES)
    compiled_forward = torch.compile(forward, fullgraph=True)
    yield Case(
        "mlp.forward.f32",
        n,
        "M samples/s",
        ours=lambda: _core.mlp_forward(shape, inputs, params, output),
        eager=lambda: torch.cat([forward(piece, matrices)[-1] for piece in pieces]),
        compiled=lambda: torch.cat([compiled_forward(piece, matrices)[-1] for piece in pieces]),
        limit=lambda: sizes.flops() / (2 * shape.n_params),
        bar=_SHARE,
    )
    _core.mlp_forward(shape, inputs, params, output, hidden)
    saved = [
        (grad, piece, *forward(piece, matrices)[:-1])
        for piece, grad in zip(pieces, torch.split(grad_output, PIECE_SAMPLES), strict=True)
    ]
    compiled_backward = torch.compile(backward, fullgraph=True)
    yield Case(
        "mlp.backward.f32",
        n,
        "M samples/s",
        ours=lambda: _core.mlp_backward(
            shape, grad_output, inputs, params, hidden, output, grad_inputs, grad_params
        ),
        eager=lambda: [backward(*tensors, matrices) for tensors in saved],
        compiled=lambda: [compiled_backward(*tensors, matrices) for tensors in saved],
        limit=lambda: sizes.flops() / (4 * shape.n_params),
        bar=_SHARE,
    )
    tangents, grad_grad_output = torch.randn_like(inputs), torch.empty_like(grad_output)
    second = [
        _second_arm(matrices, *tensors[:2], tangent)
        for tensors, tangent in zip(saved, torch.split(tangents, PIECE_SAMPLES), strict=True)
    ]
    yield Case(
        "mlp.second.f32",
        n,
        "M samples/s",
        ours=lambda: _core.mlp_second(
            shape, tangents, grad_output, inputs, params, hidden, output,
            grad_grad_output, grad_inputs, grad_params,
        ),
        eager=lambda: [arm() for arm in second],
    )  # fmt: skip


def forward(inputs: Tensor, matrices: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Both hidden layers and the output."""
    first = F.relu(F.linear(inputs, matrices[0]))
    second = F.relu(F.linear(first, matrices[1]))
    return first, second, F.linear(second, matrices[2])


def backward(
    grad: Tensor, inputs: Tensor, first: Tensor, second: Tensor, matrices: list[Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the inputs and of the matrices, written out: as fast as autograd's, no graph."""
    grad_second = (grad @ matrices[2]) * (second > 0)
    grad_first = (grad_second @ matrices[1]) * (first > 0)
    return (
        grad_first @ matrices[0],
        grad_first.t() @ inputs,
        grad_second.t() @ first,
        grad.t() @ second,
    )


def _second_arm(matrices: list[Tensor], grad: Tensor, inputs: Tensor, tangents: Tensor) -> Arm:
    leaves = [matrix.clone().requires_grad_() for matrix in matrices]
    x, g = inputs.clone().requires_grad_(), grad.clone().requires_grad_()
    (grad_x,) = torch.autograd.grad(forward(x, leaves)[-1], x, g, create_graph=True)
    return lambda: torch.autograd.grad(grad_x, [g, *leaves], tangents, retain_graph=True)


def _split(params: Tensor) -> list[Tensor]:
    shapes = list(zip(WIDTHS[1:], WIDTHS[:-1], strict=True))
    parts = torch.split(params, [n_out * n_in for n_out, n_in in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
