"""Gaussian neurons with their readout over 18 and 32 features, and a small MLP beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from neural_fields import _core
from neural_fields.benchmarks.case import Arm, Bar, Case, Sizes
from neural_fields.benchmarks.torch_baseline import PIECE_SAMPLES
from neural_fields.ops import MlpSpec

_SHARE: Bar = {"claim": "neurons at 60 percent of the machine's limit", "share_of_limit": 0.6}
_MLP: Bar = {"claim": "neurons faster than a 3 x 64 MLP on the same features", "ratio_eager": 1.3}


def cases(sizes: Sizes) -> Iterator[Case]:
    """SDF decoders on a DiF grid's and a hash grid's features, an image's, harmonics' 49."""
    for n_features, n_kernels, n_outputs in ((18, 64, 1), (32, 64, 1), (32, 64, 3), (18, 32, 49)):
        bench = _Bench(sizes, n_features, n_kernels, n_outputs)
        variant = f":{n_features}-{n_kernels}-{n_outputs}"
        yield bench.case("forward", variant, bench.forward, bench.forward_torch)
        yield bench.case("backward", variant, bench.backward, bench.backward_torch)
        if n_outputs == 1:
            yield bench.beside_mlp(variant)
        if variant == ":18-64-1":
            yield bench.second(variant)


class _Bench:
    """The tensors that the cases of one size share."""

    def __init__(self, sizes: Sizes, n_features: int, n_kernels: int, n_outputs: int) -> None:
        self.sizes, self.n = sizes, sizes.n_samples
        self.widths = n_features, n_kernels, n_outputs
        self.features = torch.randn(self.n, n_features)
        self.centers = torch.randn(n_kernels, n_features)
        self.log_precision = torch.randn(n_kernels, n_features) * 0.3 - 2
        self.weight, self.bias = torch.randn(n_outputs, n_kernels), torch.randn(n_outputs)
        self.output = torch.empty(self.n, n_outputs)
        self.grad_output = torch.randn(self.n, n_outputs)
        self.activations = torch.empty(self.n, n_kernels)
        self.neurons = self.centers, self.log_precision, self.weight
        self.forward_keeping()
        self.grads = tuple(torch.empty_like(t) for t in (self.features, *self.neurons, self.bias))

    def case(self, kind: str, variant: str, ours: Arm, eager: Arm) -> Case:
        """A row beside PyTorch and the machine's limit."""
        return Case(
            f"rbf.{kind}.f32{variant}",
            self.n,
            "M points/s",
            ours=ours,
            eager=eager,
            limit=lambda: self.limit(kind),
            bar=_SHARE,
        )

    def limit(self, kind: str) -> float:
        """Of the multiply-adds of matrix products, and of what is read and written."""
        n_features, n_kernels, n_outputs = self.widths
        each, read_out = 2 * n_features * n_kernels, n_kernels * n_outputs
        forward = kind == "forward"
        products = each + read_out if forward else 2 * each + 2 * read_out
        kept = 0 if forward else n_kernels
        numbers = n_features * (1 if forward else 2) + n_outputs + kept
        return min(self.sizes.flops() / (2 * products), self.sizes.streaming(self.n, 4 * numbers)())

    def forward(self) -> None:
        _core.rbf_forward(self.features, *self.neurons, self.bias, self.output, None)

    def forward_keeping(self) -> None:
        _core.rbf_forward(self.features, *self.neurons, self.bias, self.output, self.activations)

    def backward(self) -> None:
        saved = (self.grad_output, self.features, *self.neurons, self.activations)
        _core.rbf_backward(*saved, *self.grads)

    def second(self, variant: str) -> Case:
        """The derivative of the gradient of the features."""
        tangents, grad_grad = torch.randn_like(self.features), torch.empty_like(self.output)
        saved = (tangents, self.grad_output, self.features, *self.neurons, self.activations)
        tensors = (self.features, *self.neurons, self.grad_output)
        leaves = [tensor.clone().requires_grad_() for tensor in tensors]
        x, centers, log_precision, weight, grad_output = leaves
        output, _ = forward(x, (centers, log_precision, weight), self.bias)
        (slope,) = torch.autograd.grad(output, x, grad_output, create_graph=True)
        return Case(
            f"rbf.second.f32{variant}",
            self.n,
            "M points/s",
            ours=lambda: _core.rbf_second(*saved, grad_grad, *self.grads[:4]),
            eager=lambda: torch.autograd.grad(slope, leaves, tangents, retain_graph=True),
        )

    def beside_mlp(self, variant: str) -> Case:
        """Forward and backward of either decoder; the network's is our own, too."""
        n_features, _, n_outputs = self.widths
        spec = MlpSpec((n_features, 64, 64, n_outputs), biases=True)
        shape = _core.MlpShape(*spec.arguments)
        params = torch.randn(spec.n_params) * 0.1
        hidden = torch.empty(self.n * shape.n_hidden)
        output, grads = torch.empty_like(self.output), torch.empty_like(params)
        grad_features = torch.empty_like(self.features)

        def ours() -> None:
            self.forward_keeping()
            self.backward()

        def network() -> None:
            _core.mlp_forward(shape, self.features, params, output, hidden)
            saved = (self.grad_output, self.features, params, hidden, output)
            _core.mlp_backward(shape, *saved, grad_features, grads)

        return Case(
            f"rbf.backward.f32{variant}-with-forward-beside-mlp",
            self.n,
            "M points/s",
            ours=ours,
            eager=network,
            bar=_MLP if n_features == 18 else None,
        )

    def forward_torch(self) -> list[Any]:
        return self._in_pieces(lambda x: forward(x, self.neurons, self.bias)[0], self.features)

    def backward_torch(self) -> list[Any]:
        return self._in_pieces(
            lambda g, x, a: backward(g, x, a, self.neurons),
            self.grad_output,
            self.features,
            self.activations,
        )

    def _in_pieces(self, function: Callable[..., object], *tensors: Tensor) -> list[Any]:
        pieces = zip(*(torch.split(tensor, PIECE_SAMPLES) for tensor in tensors), strict=True)
        return [function(*piece) for piece in pieces]


Neurons = tuple[Tensor, Tensor, Tensor]  # centres, logarithms of precisions, weights


def forward(x: Tensor, neurons: Neurons, bias: Tensor) -> tuple[Tensor, Tensor]:
    """The output and the activations, by the expanded square."""
    centers, log_precision, weight = neurons
    precision = log_precision.exp()
    constant = (precision * centers.square()).sum(1)
    squares = torch.addmm(constant, x.square(), precision.T)
    squares = torch.addmm(squares, x, (precision * centers).T, alpha=-2)
    activations = (-0.5 * squares.clamp(min=0)).exp()
    return torch.addmm(bias, activations, weight.T), activations


def backward(grad: Tensor, x: Tensor, activations: Tensor, neurons: Neurons) -> tuple[Tensor, ...]:
    """All gradients, written out in matrix products: no graph."""
    centers, log_precision, weight = neurons
    precision = log_precision.exp()
    q = (grad @ weight).mul_(activations)
    of_x = torch.addcmul(q @ (precision * centers), x, q @ precision, value=-1)
    total, first, second = q.sum(0)[:, None], q.T @ x, q.T @ x.square()
    of_centers = precision * (first - centers * total)
    of_precision = -0.5 * precision * (second - 2 * centers * first + centers.square() * total)
    return of_x, of_centers, of_precision, grad.T @ activations, grad.sum(0)
