"""Small networks: 32 -> 64 -> 64 -> 16, relu, no biases; wider ones, waves, CAM's epilogue."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from neural_fields import _core
from neural_fields.benchmarks.batch import xavier
from neural_fields.benchmarks.case import Arm, Bar, Case, Sizes
from neural_fields.benchmarks.torch_baseline import PIECE_SAMPLES
from neural_fields.ops import MlpSpec
from neural_fields.ops.mlp import Activation, Wave

_SHARE: Bar = {
    "claim": "the network at 60 percent of the multiply-add peak",
    "share_of_limit": 0.60,
}
_IMAGE = (2, 256, 256, 256, 3)
_POSITION = (63, 128, 128, 128, 128, 16)


@dataclass(frozen=True)
class Network:
    """What a pair of rows computes; `modulated`: with scale and shift of normalised rows."""

    spec: MlpSpec
    variant: str = ""
    modulated: bool = False

    @property
    def suffix(self) -> str:
        """What follows the pass in a row's name."""
        return ("f32" if self.spec.precision == "float32" else "bf16") + self.variant


def _wide(widths: tuple[int, ...], hidden: Activation | Wave, cam: bool = False) -> Network:
    spec = MlpSpec(widths, hidden, omega=2.0, normalize=cam)  # its size does not change the cost
    return Network(spec, f":{'cam-' if cam else ''}{hidden}-{widths[1]}", cam)


DEFAULT = Network(MlpSpec((32, 64, 64, 16)))
NETWORKS = (
    _wide(_IMAGE, "relu"),
    _wide(_IMAGE, "sine"),
    _wide(_IMAGE, "finer"),
    _wide(_IMAGE, "gabor"),
    _wide(_IMAGE, "sine", cam=True),
    _wide(_POSITION, "relu"),
    _wide(_POSITION, "relu", cam=True),
    Network(MlpSpec((32, 64, 64, 16), precision="bf16")),
    Network(MlpSpec((128, 128, 128, 128), precision="bf16"), ":relu-128"),
    Network(MlpSpec((256, 256, 256, 256), precision="bf16"), ":relu-256"),
)


def cases(sizes: Sizes) -> Iterator[Case]:
    """Forward, all gradients, and the gradient of the inputs' gradient; then other networks."""
    bench = _Bench(sizes, DEFAULT)
    yield bench.forward()
    yield bench.backward()
    yield bench.second()
    for network in NETWORKS:
        bench = _Bench(sizes, network)
        yield bench.forward()
        yield bench.backward()


Piece = tuple[Tensor, Tensor, Tensor]  # inputs, scale and shift of samples that stay in the cache


class _Bench:
    """The tensors that the cases of one network share; PyTorch's arms are of the same type."""

    def __init__(self, sizes: Sizes, network: Network) -> None:
        spec = network.spec
        self.sizes, self.network = sizes, network
        self.n = sizes.n_samples if not network.variant else max(sizes.n_samples // 4, 1)
        dtype = torch.float32 if spec.precision == "float32" else torch.bfloat16
        self.shape = _core.MlpShape(*spec.arguments)
        self.params = xavier(spec.widths, torch.Generator().manual_seed(3))
        self.matrices = _split(self.params.to(dtype), spec.widths)
        self.inputs, self.grad_output = (
            torch.randn(self.n, width) for width in (spec.n_input, spec.n_output)
        )
        scale, shift = 0.5 + torch.rand(2, self.n, spec.n_hidden_layers)
        self.modulation = (scale, shift) if network.modulated else (None, None)
        self.grad_modulation = tuple(
            None if tensor is None else torch.empty_like(tensor) for tensor in self.modulation
        )
        self.output = torch.empty(self.n, spec.n_output)
        self.hidden = torch.empty(self.n * self.shape.n_hidden, dtype=dtype)
        self.grad_inputs = torch.empty_like(self.inputs)
        self.grad_params = torch.empty_like(self.params)
        arguments = (self.inputs, self.params, self.output, self.hidden)
        _core.mlp_forward(self.shape, *arguments, *self.modulation)
        split = [torch.split(t, PIECE_SAMPLES) for t in (self.inputs.to(dtype), scale, shift)]
        self.pieces: list[Piece] = list(zip(*split, strict=True))
        grads = torch.split(self.grad_output.to(dtype), PIECE_SAMPLES)
        self.saved = [
            (grad, forward(network, piece, self.matrices)[1], piece[1])
            for piece, grad in zip(self.pieces, grads, strict=True)
        ]

    def _case(self, kind: str, flops: int, ours: Arm, eager: Arm, compiled: Arm) -> Case:
        return Case(
            f"mlp.{kind}.{self.network.suffix}",
            self.n,
            "M samples/s",
            ours=ours,
            eager=eager,
            compiled=compiled,
            limit=lambda: self.sizes.flops() / flops,
            bar=_SHARE if self.network is DEFAULT else None,
        )

    def forward(self) -> Case:
        """Values alone."""
        network, matrices = self.network, self.matrices
        compiled = _compiled(forward, network)
        return self._case(
            "forward",
            2 * self.shape.n_params,
            ours=lambda: _core.mlp_forward(
                self.shape, self.inputs, self.params, self.output, None, *self.modulation
            ),
            eager=lambda: torch.cat([forward(network, p, matrices)[0] for p in self.pieces]),
            compiled=lambda: torch.cat([compiled(p, matrices)[0] for p in self.pieces]),
        )

    def backward(self) -> Case:
        """All gradients, from what the forward saved."""
        network, matrices = self.network, self.matrices
        compiled = _compiled(backward, network)
        return self._case(
            "backward",
            4 * self.shape.n_params,
            ours=lambda: _core.mlp_backward(
                self.shape, self.grad_output, self.inputs, self.params, self.hidden, self.output,
                self.grad_inputs, self.grad_params, *self.modulation, *self.grad_modulation,
            ),
            eager=lambda: [backward(network, *tensors, matrices) for tensors in self.saved],
            compiled=lambda: [compiled(*tensors, matrices) for tensors in self.saved],
        )  # fmt: skip

    def second(self) -> Case:
        """Derivatives of the gradient of the inputs."""
        tangents = torch.randn_like(self.inputs)
        grad_grad_output = torch.empty_like(self.grad_output)
        arms = [
            _second_arm(self.network, self.matrices, grad, piece, tangent)
            for (grad, *_), piece, tangent in zip(
                self.saved, self.pieces, torch.split(tangents, PIECE_SAMPLES), strict=True
            )
        ]
        return Case(
            f"mlp.second.{self.network.suffix}",
            self.n,
            "M samples/s",
            ours=lambda: _core.mlp_second(
                self.shape, tangents, self.grad_output, self.inputs, self.params, self.hidden,
                self.output, grad_grad_output, self.grad_inputs, self.grad_params,
            ),
            eager=lambda: [arm() for arm in arms],
        )  # fmt: skip


Layer = tuple[Tensor, ...]  # its input; of a hidden one y, and what its backward needs beside it


def forward(network: Network, piece: Piece, matrices: list[Tensor]) -> tuple[Tensor, list[Layer]]:
    """The output, and what the backward needs of every layer."""
    x, scale, shift = piece
    saved: list[Layer] = []
    for layer, matrix in enumerate(matrices[:-1]):
        v = z = F.linear(x, matrix)
        normal: Layer = ()
        if network.modulated:
            m, mean, rstd = torch.native_layer_norm(z, z.shape[1:], None, None, 1e-5)
            v = torch.addcmul(shift[:, layer, None], scale[:, layer, None], m)
            normal = (z, m, mean, rstd)
        y = _activate(network.spec, v)
        saved.append((x, y, v, *normal))
        x = y
    return F.linear(x, matrices[-1]), [*saved, (x,)]


def backward(
    network: Network, grad: Tensor, saved: list[Layer], scale: Tensor, matrices: list[Tensor]
) -> list[Tensor]:
    """Gradients of inputs and matrices, written out: as fast as autograd's, no graph."""
    gradients: list[Tensor] = []
    for layer in reversed(range(len(matrices))):
        gradients.append(grad.t() @ saved[layer][0])
        grad = grad @ matrices[layer]
        if layer == 0:
            break
        _, y, v, *normal = saved[layer - 1]
        grad = _slope(network.spec, grad, y, v)
        if network.modulated:
            z, m, mean, rstd = normal
            gradients += [(grad * m).sum(1), grad.sum(1)]
            arguments = (z, z.shape[1:], mean, rstd, None, None, [True, False, False])
            grad = torch.ops.aten.native_layer_norm_backward(
                grad * scale[:, layer - 1, None], *arguments
            )[0]
    return [*gradients, grad]


def _activate(spec: MlpSpec, v: Tensor) -> Tensor:
    if spec.hidden == "relu":
        return F.relu(v)
    if spec.hidden == "sine":
        return torch.sin(spec.omega * v)
    if spec.hidden == "finer":
        return torch.sin(spec.omega * (v.abs() + 1) * v)
    a, b = v.chunk(2, 1)
    magnitude = torch.exp(-spec.omega * b - spec.gabor_scale**2 * (a * a + b * b))
    phase = spec.omega * a
    return torch.cat([magnitude * torch.cos(phase), magnitude * torch.sin(phase)], 1)


def _slope(spec: MlpSpec, grad: Tensor, y: Tensor, v: Tensor) -> Tensor:
    if spec.hidden == "relu":
        return grad * (y > 0)
    if spec.hidden == "sine":
        return grad * (torch.cos(spec.omega * v) * spec.omega)
    if spec.hidden == "finer":
        stretch = v.abs() + 1
        return grad * torch.cos(spec.omega * stretch * v) * (spec.omega * (2 * stretch - 1))
    (a, b), (re, im), (g, h) = v.chunk(2, 1), y.chunk(2, 1), grad.chunk(2, 1)
    along, across = g * re + h * im, g * im - h * re
    twice = -2 * spec.gabor_scale**2
    return torch.cat([along * twice * a - across * spec.omega, along * (twice * b - spec.omega)], 1)


def _compiled(function: Callable[..., Any], network: Network) -> Callable[..., Any]:
    torch._dynamo.reset()  # more networks than it would keep
    return torch.compile(functools.partial(function, network), fullgraph=True)


def _second_arm(
    network: Network,
    matrices: list[Tensor],
    grad: Tensor,
    piece: Piece,
    tangents: Tensor,
) -> Arm:
    leaves = [matrix.clone().requires_grad_() for matrix in matrices]
    inputs, scale, shift = piece
    x, g = inputs.clone().requires_grad_(), grad.clone().requires_grad_()
    values = forward(network, (x, scale, shift), leaves)[0]
    (grad_x,) = torch.autograd.grad(values, x, g, create_graph=True)
    return lambda: torch.autograd.grad(grad_x, [g, *leaves], tangents, retain_graph=True)


def _split(params: Tensor, widths: tuple[int, ...]) -> list[Tensor]:
    shapes = list(zip(widths[1:], widths[:-1], strict=True))
    parts = torch.split(params, [n_out * n_in for n_out, n_in in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
