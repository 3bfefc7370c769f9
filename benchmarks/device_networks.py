"""Networks on a GPU: small ones, wide ones, modulated rows, Gaussian neurons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from neural_fields.benchmarks.batch import xavier
from neural_fields.benchmarks.device_case import (
    Arm,
    Case,
    Place,
    Work,
    backward_arm,
    in_turn,
    moved,
    second_arm,
)
from neural_fields.benchmarks.device_peers import HALF, tcnn_mlp
from neural_fields.benchmarks.ops import bench_mlp, bench_rbf

_WIDE = tuple(n for n in bench_mlp.NETWORKS if n.variant in (":relu-256", ":sine-256"))[:2]


def mlp(place: Place) -> Iterator[Case]:
    """32-64-64-16 with relu; 2-256-256-256-3 with relu and with sines."""
    small = _Network(place, bench_mlp.DEFAULT, place.sizes.n_points)
    yield small.forward()
    yield small.backward()
    yield small.forward_backward()
    yield small.second()
    for network in _WIDE:
        wide = _Network(place, network, max(1, place.sizes.n_points // 4))
        yield wide.forward()
        yield wide.backward()


class _Network:
    """The tensors that the cases of one network share."""

    def __init__(self, place: Place, network: bench_mlp.Network, n: int) -> None:
        spec = network.spec
        self.place, self.network, self.n = place, network, n
        self.module, self.shape = place.module, place.module.MlpShape(*spec.arguments)
        params = xavier(spec.widths, torch.Generator().manual_seed(3))
        self.params = params.to(place.device)
        self.inputs, self.grad_output = place.randn(n, spec.n_input), place.randn(n, spec.n_output)
        self.output = place.empty(n, spec.n_output)
        self.hidden = place.empty(n * self.shape.n_hidden)
        self.grad_inputs = torch.empty_like(self.inputs)
        self.grad_params = torch.zeros_like(self.params)
        self.matrices = _matrices(self.params, spec.widths)
        self.ends = 4 * spec.n_input, 4 * spec.n_output, 4 * self.shape.n_hidden

    def _case(self, kind: str, ours: Arm, eager: Arm, work: Work | None, tcnn: Arm | None) -> Case:
        name = f"mlp.{kind}{self.network.variant}"
        note = "" if tcnn is None else HALF
        arms = {"matrix products": eager}
        return Case(name, self.n, "samples", ours, eager=arms, tcnn=tcnn, work=work, note=note)

    def forward(self) -> Case:
        """Values alone."""
        n_in, n_out, _ = self.ends
        return self._case(
            "forward",
            lambda: self.module.mlp_forward(self.shape, self.inputs, self.params, self.output),
            lambda: self.plain(self.inputs)[0],
            moved(self.n, 2 * self.params.numel(), inputs=n_in, outputs=n_out),
            self._tcnn()[0],
        )

    def backward(self) -> Case:
        """All gradients, from what the forward saved."""
        self.forward_keeping()
        saved = self.plain(self.inputs)[1]
        n_in, n_out, n_hidden = self.ends
        return self._case(
            "backward",
            self.native_backward,
            lambda: self.plain_backward(saved),
            moved(
                self.n,
                4 * self.params.numel(),
                inputs_and_gradients=2 * n_in,
                gradients=n_out,
                hidden=n_hidden,
            ),
            None,
        )

    def forward_backward(self) -> Case:
        """Both, as a step of training has them."""
        n_in, n_out, n_hidden = self.ends
        return self._case(
            "backward:with-forward",
            in_turn(self.forward_keeping, self.native_backward),
            lambda: self.plain_backward(self.plain(self.inputs)[1]),
            moved(
                self.n,
                6 * self.params.numel(),
                inputs_read_twice_and_gradients=3 * n_in,
                outputs_and_gradients=2 * n_out,
                hidden_written_and_read=2 * n_hidden,
            ),
            self._tcnn()[1],
        )

    def second(self) -> Case:
        """Derivatives of the gradient of the inputs."""
        tangents, grad_grad = torch.randn_like(self.inputs), torch.empty_like(self.grad_output)
        eager = second_arm(
            lambda x, *matrices: self.plain(x, list(matrices))[0],
            [self.inputs, *self.matrices],
            self.grad_output,
            tangents,
        )
        return self._case(
            "second",
            lambda: self.module.mlp_second(
                self.shape, tangents, self.grad_output, self.inputs, self.params, self.hidden,
                self.output, grad_grad, self.grad_inputs, self.grad_params,
            ),
            eager,
            None,
            None,
        )  # fmt: skip

    def forward_keeping(self) -> None:
        self.module.mlp_forward(self.shape, self.inputs, self.params, self.output, self.hidden)

    def native_backward(self) -> None:
        self.module.mlp_backward(
            self.shape, self.grad_output, self.inputs, self.params, self.hidden, self.output,
            self.grad_inputs, self.grad_params,
        )  # fmt: skip

    def plain(
        self, inputs: Tensor, matrices: list[Tensor] | None = None
    ) -> tuple[Tensor, list[bench_mlp.Layer]]:
        piece = (inputs, inputs, inputs)  # without modulation the last two are not looked at
        return bench_mlp.forward(self.network, piece, matrices or self.matrices)

    def plain_backward(self, saved: list[bench_mlp.Layer]) -> list[Tensor]:
        arguments = (saved, self.inputs, self.matrices)
        return bench_mlp.backward(self.network, self.grad_output, *arguments)

    def _tcnn(self) -> tuple[Arm | None, Arm | None]:
        tensors = (self.inputs, self.params, self.grad_output)
        return tcnn_mlp(self.place, self.network.spec, *tensors)


def _matrices(params: Tensor, widths: tuple[int, ...]) -> list[Tensor]:
    shapes = list(zip(widths[1:], widths[:-1], strict=True))
    parts = torch.split(params, [n_out * n_in for n_out, n_in in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def modulate(place: Place) -> Iterator[Case]:
    """Normalised rows of 256 and of 64 channels, as many numbers of either."""
    for width in (256, 64):
        n, module = max(1, place.sizes.n_points * 64 // width), place.module
        variant = f":{width}"
        features, grad_output = place.randn(n, width), place.randn(n, width)
        scale, shift = place.rand(n), place.rand(n)
        output, sums = torch.empty_like(features), (place.empty(n), place.empty(n))
        row = 4 * width
        yield Case(
            f"modulate.forward{variant}",
            n,
            "rows",
            ours=_bound(module.modulate_forward, features, scale, shift, True, output),
            eager={"layer_norm": _bound(_modulated, features, scale, shift)},
            work=moved(n, features_and_results=2 * row, scale_and_shift=8),
        )
        yield Case(
            f"modulate.backward{variant}",
            n,
            "rows",
            ours=_bound(
                module.modulate_backward, grad_output, features, scale, True, output, *sums
            ),
            eager={"autograd": backward_arm(_modulated, [features, scale, shift], grad_output)},
            work=moved(n, features_and_two_gradients=3 * row, scale_and_gradients=12),
        )


def _modulated(features: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    normal = F.layer_norm(features, features.shape[1:])
    return torch.addcmul(shift[:, None], scale[:, None], normal)


def _bound(function: Any, *arguments: object) -> Arm:
    """A call of these arguments, which a loop may not change any more."""
    return lambda: function(*arguments)


def rbf(place: Place) -> Iterator[Case]:
    """64 neurons over 18 features with one output, and over 32 with three."""
    for widths in ((18, 64, 1), (32, 64, 3)):
        neurons = _Neurons(place, *widths)
        yield neurons.forward()
        yield neurons.backward()
        if widths[0] == 18:
            yield neurons.second()


class _Neurons:
    """The tensors that the cases of one size share."""

    def __init__(self, place: Place, n_features: int, n_kernels: int, n_outputs: int) -> None:
        self.n, self.module = place.sizes.n_points, place.module
        self.widths = n_features, n_kernels, n_outputs
        self.variant = f":{n_features}-{n_kernels}-{n_outputs}"
        self.features = place.randn(self.n, n_features)
        self.neurons = (
            place.randn(n_kernels, n_features),
            place.randn(n_kernels, n_features) * 0.3 - 2,
            place.randn(n_outputs, n_kernels),
        )
        self.bias = place.randn(n_outputs)
        self.output, self.grad_output = (
            place.empty(self.n, n_outputs),
            place.randn(self.n, n_outputs),
        )
        self.activations = place.empty(self.n, n_kernels)
        tensors = (self.features, *self.neurons, self.bias)
        self.grads = tuple(torch.zeros_like(tensor) for tensor in tensors)
        each, read_out = n_features * n_kernels, n_kernels * n_outputs
        self.products = 2 * each + read_out, 4 * each + 2 * read_out  # of the expanded square

    def forward(self) -> Case:
        n_features, _, n_outputs = self.widths
        arguments = (self.features, *self.neurons, self.bias, self.output, None)
        return Case(
            f"rbf.forward{self.variant}",
            self.n,
            "points",
            ours=lambda: self.module.rbf_forward(*arguments),
            eager={"expanded square": lambda: self.plain(self.features)[0]},
            work=moved(
                self.n, 2 * self.products[0], features=4 * n_features, outputs=4 * n_outputs
            ),
        )

    def backward(self) -> Case:
        """All gradients, from the activations that the forward kept."""
        n_features, n_kernels, n_outputs = self.widths
        arguments = (self.features, *self.neurons, self.bias, self.output, self.activations)
        self.module.rbf_forward(*arguments)
        saved = (self.grad_output, self.features, *self.neurons, self.activations)
        return Case(
            f"rbf.backward{self.variant}",
            self.n,
            "points",
            ours=lambda: self.module.rbf_backward(*saved, *self.grads),
            eager={
                "written out": lambda: bench_rbf.backward(
                    self.grad_output, self.features, self.activations, self.neurons
                )
            },
            work=moved(
                self.n,
                2 * self.products[1],
                features_and_gradients=8 * n_features,
                gradients=4 * n_outputs,
                activations=4 * n_kernels,
            ),
        )

    def second(self) -> Case:
        """The derivative of the gradient of the features."""
        tangents, grad_grad = torch.randn_like(self.features), torch.empty_like(self.output)
        saved = (self.grad_output, self.features, *self.neurons, self.activations)
        eager = second_arm(
            lambda x, *neurons: bench_rbf.forward(x, neurons, self.bias)[0],
            [self.features, *self.neurons],
            self.grad_output,
            tangents,
        )
        return Case(
            f"rbf.second{self.variant}",
            self.n,
            "points",
            ours=lambda: self.module.rbf_second(tangents, *saved, grad_grad, *self.grads[:4]),
            eager={"autograd": eager},
        )

    def plain(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return bench_rbf.forward(features, self.neurons, self.bias)
