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
    """Forward, all gradients, and the gradient of the inputs' gradient; then in bfloat16."""
    bench = _Bench(sizes, "float32")
    yield bench.forward()
    yield bench.backward()
    yield bench.second()
    bench = _Bench(sizes, "bf16")
    yield bench.forward()
    yield bench.backward()


class _Bench:
    """The tensors that the cases of one precision share; PyTorch's arms are of the same type."""

    def __init__(self, sizes: Sizes, precision: str) -> None:
        self.sizes, self.n = sizes, sizes.n_samples
        self.suffix = "f32" if precision == "float32" else "bf16"
        self.dtype = torch.float32 if precision == "float32" else torch.bfloat16
        self.shape = _core.MlpShape(WIDTHS, "relu", "none", 1.0, False, precision)
        self.params = xavier(WIDTHS, torch.Generator().manual_seed(3))
        self.matrices = _split(self.params.to(self.dtype))
        self.inputs, self.grad_output = (torch.randn(self.n, w) for w in (WIDTHS[0], WIDTHS[-1]))
        self.output = torch.empty(self.n, WIDTHS[-1])
        self.hidden = torch.empty(self.n * self.shape.n_hidden, dtype=self.dtype)
        self.grad_inputs = torch.empty_like(self.inputs)
        self.grad_params = torch.empty_like(self.params)
        _core.mlp_forward(self.shape, self.inputs, self.params, self.output, self.hidden)
        self.pieces = torch.split(self.inputs.to(self.dtype), PIECE_SAMPLES)
        grads = torch.split(self.grad_output.to(self.dtype), PIECE_SAMPLES)
        self.saved = [
            (grad, piece, *forward(piece, self.matrices)[:-1])
            for piece, grad in zip(self.pieces, grads, strict=True)
        ]

    def forward(self) -> Case:
        """Values alone."""
        compiled, matrices = torch.compile(forward, fullgraph=True), self.matrices
        return Case(
            f"mlp.forward.{self.suffix}",
            self.n,
            "M samples/s",
            ours=lambda: _core.mlp_forward(self.shape, self.inputs, self.params, self.output),
            eager=lambda: torch.cat([forward(piece, matrices)[-1] for piece in self.pieces]),
            compiled=lambda: torch.cat([compiled(piece, matrices)[-1] for piece in self.pieces]),
            limit=lambda: self.sizes.flops() / (2 * self.shape.n_params),
            bar=_SHARE if self.suffix == "f32" else None,
        )

    def backward(self) -> Case:
        """All gradients, from saved activations."""
        compiled, matrices = torch.compile(backward, fullgraph=True), self.matrices
        return Case(
            f"mlp.backward.{self.suffix}",
            self.n,
            "M samples/s",
            ours=lambda: _core.mlp_backward(
                self.shape, self.grad_output, self.inputs, self.params, self.hidden, self.output,
                self.grad_inputs, self.grad_params,
            ),
            eager=lambda: [backward(*tensors, matrices) for tensors in self.saved],
            compiled=lambda: [compiled(*tensors, matrices) for tensors in self.saved],
            limit=lambda: self.sizes.flops() / (4 * self.shape.n_params),
            bar=_SHARE if self.suffix == "f32" else None,
        )  # fmt: skip

    def second(self) -> Case:
        """Derivatives of the gradient of the inputs."""
        tangents = torch.randn_like(self.inputs)
        grad_grad_output = torch.empty_like(self.grad_output)
        arms = [
            _second_arm(self.matrices, *tensors[:2], tangent)
            for tensors, tangent in zip(
                self.saved, torch.split(tangents, PIECE_SAMPLES), strict=True
            )
        ]
        return Case(
            f"mlp.second.{self.suffix}",
            self.n,
            "M samples/s",
            ours=lambda: _core.mlp_second(
                self.shape, tangents, self.grad_output, self.inputs, self.params, self.hidden,
                self.output, grad_grad_output, self.grad_inputs, self.grad_params,
            ),
            eager=lambda: [arm() for arm in arms],
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
