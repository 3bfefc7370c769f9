"""Small fully connected networks, whole tiles of samples through all layers at once."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from neural_fields import _core
from neural_fields.ops._library import (
    Argument,
    Context,
    Gradients,
    check_integers,
    check_tensor,
    define,
    native,
    no_third_order,
    not_native,
    save_nothing,
    with_reference,
)

Activation = Literal["none", "relu", "softplus", "sigmoid"]
Wave = Literal["sine", "finer", "finer-detached", "gabor"]
Precision = Literal["float32", "bf16"]


@dataclass(frozen=True)
class MlpSpec:
    """The shape of a small network.

    Attributes:
        widths: input, hidden layers ..., output; each 1 to 512, at most 12 matrices.
        hidden: activation of the hidden layers: none, relu, softplus, sigmoid, or of the waves
            sine, sin(omega z) (SIREN); finer, sin(omega (|z| + 1) z); finer-detached, the same
            values with |z| + 1 taken as a constant in derivatives, as FINER's released code does;
            gabor, exp(i omega z - |s z|^2) (WIRE), where the first half of a layer's even width
            are the real parts of z, the second half the imaginary ones, and of the result alike.
        output: activation of the last layer: none, relu, softplus or sigmoid.
        beta: of softplus, log(1 + exp(beta z)) / beta.
        biases: whether layers have them.
        precision: float32 (float64 for tensors of that type), or bf16: inputs, matrices, hidden
            activations and their gradients are rounded to bfloat16 (8 bits of fraction) before
            they are multiplied; sums, biases, activations and results stay float32. CPU only,
            once differentiable, and without waves, normalize, scale and shift.
        omega: of the waves.
        first_omega: the same for the first hidden layer; None: omega.
        gabor_scale: s of gabor.
        normalize: hidden rows of each sample to mean 0 and variance 1 (biased, plus 1e-5), before
            scale, shift and activation.

    Example:
        >>> spec = MlpSpec((32, 64, 16))
        >>> spec.n_params, spec.n_input, spec.n_output
        (3072, 32, 16)
    """

    widths: tuple[int, ...]
    hidden: Activation | Wave = "relu"
    output: Activation = "none"
    beta: float = 1.0
    biases: bool = False
    precision: Precision = "float32"
    omega: float = 1.0
    first_omega: float | None = None
    gabor_scale: float = 1.0
    normalize: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.widths, tuple):
            raise TypeError(f"MlpSpec: widths needs a tuple of integers, got {self.widths!r}.")
        check_integers("MlpSpec", **{f"widths[{i}]": width for i, width in enumerate(self.widths)})
        _shape_of(_core, *self.arguments)

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """The spec as the plain arguments that follow the tensors of every operation (`_SPEC`)."""
        first_omega = self.omega if self.first_omega is None else self.first_omega
        return (
            self.widths,
            self.hidden,
            self.output,
            float(self.beta),
            self.biases,
            self.precision,
            float(self.omega),
            float(first_omega),
            float(self.gabor_scale),
            self.normalize,
        )

    @property
    def n_input(self) -> int:
        """Numbers of a sample that go in."""
        return self.widths[0]

    @property
    def n_output(self) -> int:
        """Numbers of a sample that come out."""
        return self.widths[-1]

    @property
    def n_hidden_layers(self) -> int:
        """Layers with the activation `hidden`: columns of scale and shift."""
        return len(self.widths) - 2

    @property
    def n_params(self) -> int:
        """Numbers of all matrices and biases."""
        return _shape_of(_core, *self.arguments).n_params


@functools.lru_cache(maxsize=256)
def _shape_of(module: ModuleType, *arguments: Argument) -> _core.MlpShape:
    shape: _core.MlpShape = module.MlpShape(*arguments)
    return shape


@with_reference
def mlp(
    inputs: Tensor,
    params: Tensor,
    spec: MlpSpec,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
) -> Tensor:
    """Send samples through a small network.

    Args:
        inputs: [n, spec.n_input] float32 or float64.
        params: [spec.n_params], of the same type and device. Per layer the matrix [n_out, n_in]
            row by row, as in `torch.nn.Linear`, then the bias [n_out] if there is one.
        spec: widths and activations.
        scale: [n, spec.n_hidden_layers], a factor per sample and hidden layer; None: 1.
        shift: [n, spec.n_hidden_layers], what is added; given if and only if scale is.

    Returns:
        [n, spec.n_output]: the last layer. A hidden layer is
        h_l = activation(scale_l N(W_l h_(l-1) + b_l) + shift_l), where N normalises the row if
        spec.normalize is set; the last layer is activation(W h + b).

    Differentiable once in inputs, params, scale and shift. The gradients of inputs, scale and shift
    are differentiable again, in all of these and the output's gradient, as losses on normals need
    it (relu counts as piecewise linear). The gradient of the params is not differentiable again:
    that raises, as does a third order, and in bf16 a second order. While gradients are recorded,
    one number per hidden neuron is kept for them.

    Raises:
        TypeError: a tensor is neither float32 nor float64, or they differ.
        ValueError: a shape or a device is wrong, or of scale and shift one is missing.

    Source: Mueller et al., Real-time Neural Radiance Caching for Path Tracing, 2021, section 5
    (fully fused networks). Deviations: float32, optional biases, any width without padding.
    Scale, shift and normalize: Lee et al., Coordinate-Aware Modulation for Neural Fields, 2024.

    Example:
        >>> spec = MlpSpec((3, 16, 1), hidden="softplus", beta=100.0, biases=True)
        >>> mlp(torch.rand(5, 3), 0.1 * torch.randn(spec.n_params), spec).shape
        torch.Size([5, 1])
    """
    output: Tensor
    keep = torch.is_grad_enabled()
    output, _ = _forward(inputs, params, scale, shift, keep, *spec.arguments)
    return output


_SPEC = (
    "int[] widths, str hidden_activation, str output_activation, float beta, bool biases, "
    'str precision="float32", float omega=1.0, float first_omega=1.0, float gabor_scale=1.0, '
    "bool normalize=False"
)
_NO_GRADIENT = (None,) * len(_SPEC.split(", "))


class _Network(NamedTuple):
    """The arguments that all three operations share; the spec's stand last, as one tuple."""

    inputs: Tensor
    params: Tensor
    scale: Tensor | None
    shift: Tensor | None
    spec: tuple[Argument, ...]

    @classmethod
    def of(cls, tensors: Sequence[Argument], spec: tuple[Argument, ...]) -> _Network:
        inputs, params, scale, shift = tensors
        return cls(inputs, params, scale, shift, spec)

    def shape(self, module: ModuleType = _core) -> _core.MlpShape:
        # torch hands lists to kernels, and leaves out trailing defaults.
        return _shape_of(module, tuple(self.spec[0]), *self.spec[1:])

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(self.spec[0])

    @property
    def output_shape(self) -> tuple[int, int]:
        return self.inputs.shape[0], self.widths[-1]

    def check(self) -> None:
        check_tensor("mlp", "inputs", self.inputs, (None, self.widths[0]), self.inputs)
        check_tensor("mlp", "params", self.params, (self.shape().n_params,), self.inputs)
        per_layer = (self.inputs.shape[0], len(self.widths) - 2)
        for name, tensor in (("scale", self.scale), ("shift", self.shift)):
            if tensor is not None:
                check_tensor("mlp", name, tensor, per_layer, self.inputs)
        if (self.scale is None) != (self.shift is None):
            raise ValueError("mlp: scale and shift need to come together; give both or none.")
        if _is_bf16(self.spec) and self.scale is not None:
            raise ValueError("mlp: scale and shift need precision float32, got bf16.")
        if _is_bf16(self.spec) and self.inputs.dtype != torch.float32:
            raise TypeError(f"mlp: bf16 needs float32 tensors, got {self.inputs.dtype}.")


def _is_bf16(spec: tuple[Argument, ...]) -> bool:
    return len(spec) > 5 and bool(spec[5] == "bf16")


def _plain(*tensors: Tensor | None) -> tuple[Tensor | None, ...]:
    return tuple(None if tensor is None else tensor.contiguous() for tensor in tensors)


def _or_none(tensor: Tensor, needed: bool) -> Tensor | None:
    return tensor if needed else None


# ---- values --------------------------------------------------------------------------------------


def _forward_fake(*arguments: Argument) -> tuple[Tensor, Tensor]:
    network, keep = _Network.of(arguments[:4], arguments[5:]), arguments[4]
    network.check()
    inputs = network.inputs
    n_hidden = network.shape().n_hidden if keep else 0
    dtype = torch.bfloat16 if _is_bf16(network.spec) else inputs.dtype
    hidden = inputs.new_empty((inputs.shape[0] * n_hidden,), dtype=dtype)
    return inputs.new_empty(network.output_shape), hidden


def _forward_kernel(*arguments: Argument) -> tuple[Tensor, Tensor]:
    network, keep = _Network.of(arguments[:4], arguments[5:]), arguments[4]
    output, hidden = _forward_fake(*arguments)
    module = native("mlp", network.inputs)
    inputs, params, *modulation = _plain(*network[:4])
    kept = _or_none(hidden, keep)
    module.mlp_forward(network.shape(module), inputs, params, output, kept, *modulation)
    return output, hidden


def _forward_setup(
    ctx: Context, inputs: tuple[Argument, ...], output: tuple[Tensor, Tensor]
) -> None:
    values, hidden = output
    ctx.spec = inputs[5:]
    ctx.save_for_backward(*inputs[:4], hidden, values)
    ctx.mark_non_differentiable(hidden)


def _forward_backward(ctx: Context, grad_output: Tensor, _: Tensor | None) -> Gradients:
    needs = ctx.needs_input_grad[:4]
    wanted = [needs[0], needs[1], needs[2] or needs[3]]
    gradients = _backward(grad_output, *ctx.saved_tensors, wanted, *ctx.spec)
    needed = (_or_none(gradient, n) for gradient, n in zip(gradients, needs, strict=True))
    return *needed, None, *_NO_GRADIENT


# ---- gradients -----------------------------------------------------------------------------------
# `hidden` and `output` are functions of inputs and params; the second derivative is that of the
# whole, so that they have none of their own.


class _Saved(NamedTuple):
    """The arguments of the first backward pass; `needs` inputs', params', scale's and shift's."""

    grad_output: Tensor
    network: _Network
    hidden: Tensor
    output: Tensor
    needs: tuple[bool, bool, bool]

    @classmethod
    def of(cls, arguments: tuple[Argument, ...]) -> _Saved:
        grad_output, *tensors, hidden, output, needs = arguments[:8]
        return cls(grad_output, _Network.of(tensors, arguments[8:]), hidden, output, needs)

    def gradients(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Room for the gradients, without numbers where they are not needed; checks on the way."""
        network = self.network
        network.check()
        for name, tensor in (("grad_output", self.grad_output), ("output", self.output)):
            check_tensor("mlp", name, tensor, network.output_shape, network.inputs)

        def room(tensor: Tensor | None, needed: bool) -> Tensor:
            shape = tuple(tensor.shape) if needed and tensor is not None else (0,)
            return network.inputs.new_empty(shape)

        inputs, params, modulation = self.needs
        return (
            room(network.inputs, inputs),
            room(network.params, params),
            room(network.scale, modulation),
            room(network.shift, modulation),
        )

    def run(self, name: str, first: tuple[Argument, ...], last: tuple[Argument, ...]) -> Gradients:
        """Call a native function, with the arguments that come before and after these."""
        gradients = self.gradients()
        inputs, params, scale, shift = _plain(*self.network[:4])
        grad_output, hidden, output = _plain(self.grad_output, self.hidden, self.output)
        needs = (self.needs[0], self.needs[1], *(self.needs[2] and scale is not None,) * 2)
        wanted = [_or_none(gradient, n) for gradient, n in zip(gradients, needs, strict=True)]
        module = native("mlp", self.network.inputs)
        tangents, results = first[:1], first[1:]
        getattr(module, name)(
            self.network.shape(module), *_plain(*tangents), grad_output, inputs, params, hidden,
            output, *results, *wanted[:2], scale, shift, *wanted[2:], *_plain(*last),
        )  # fmt: skip
        return gradients


def _backward_fake(*arguments: Argument) -> Gradients:
    return _Saved.of(arguments).gradients()


def _backward_kernel(*arguments: Argument) -> Gradients:
    return _Saved.of(arguments).run("mlp_backward", (), ())


def _backward_setup(ctx: Context, inputs: tuple[Argument, ...], output: Argument) -> None:
    ctx.spec = inputs[8:]
    ctx.set_materialize_grads(False)  # so that an unused gradient of the params is None, not zeros
    ctx.save_for_backward(*inputs[:7])


def _backward_backward(ctx: Context, *all_tangents: Tensor | None) -> Gradients:
    tangents, of_params, of_scale, of_shift = (
        None if t is None or t.numel() == 0 else t for t in all_tangents
    )
    if of_params is not None:
        raise not_native("mlp", "second derivatives of the gradient of params")
    # in the order of grad_output, inputs, params, scale, shift
    needs = ctx.needs_input_grad[:5]
    gradients: Gradients = (None,) * 5
    given = [t for t in all_tangents if t is not None]
    if given:
        if _is_bf16(ctx.spec):
            raise not_native("mlp", "second derivatives in bf16")
        if of_scale is None and of_shift is not None:
            of_scale = torch.zeros_like(of_shift)
        elif of_shift is None and of_scale is not None:
            of_shift = torch.zeros_like(of_scale)
        wanted = [needs[1], needs[2], needs[3] or needs[4]]
        gradients = _second(tangents, of_scale, of_shift, *ctx.saved_tensors, wanted, *ctx.spec)
    needed = (_or_none(gradient, n) for gradient, n in zip(gradients, needs, strict=True))
    return *needed, *(None,) * 3, *_NO_GRADIENT


def _second_fake(*arguments: Argument) -> Gradients:
    saved = _Saved.of(arguments[3:])
    network = saved.network
    per_layer = (network.inputs.shape[0], len(network.widths) - 2)
    shapes = (tuple(network.inputs.shape), per_layer, per_layer)
    names = ("tangents", "scale_tangents", "shift_tangents")
    for name, tensor, shape in zip(names, arguments[:3], shapes, strict=True):
        if tensor is not None:
            check_tensor("mlp", name, tensor, shape, network.inputs)
    return network.inputs.new_empty(network.output_shape), *saved.gradients()


def _second_kernel(*arguments: Argument) -> Gradients:
    grad_grad_output, *_ = _second_fake(*arguments)
    tangents, *others = arguments[:3]
    saved = _Saved.of(arguments[3:])
    gradients = saved.run("mlp_second", (tangents, grad_grad_output), tuple(others))
    return grad_grad_output, *gradients


_TENSORS = "Tensor inputs, Tensor params, Tensor? scale, Tensor? shift"
_SAVED = f"Tensor grad_output, {_TENSORS}, Tensor hidden, Tensor output, bool[] needs"
_TANGENTS = "Tensor? tangents, Tensor? scale_tangents, Tensor? shift_tangents"
_second = define(
    f"mlp_backward_backward({_TANGENTS}, {_SAVED}, {_SPEC}) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _second_kernel,
    _second_fake,
    save_nothing,
    no_third_order("mlp"),
)
_backward = define(
    f"mlp_backward({_SAVED}, {_SPEC}) -> (Tensor, Tensor, Tensor, Tensor)",
    _backward_kernel,
    _backward_fake,
    _backward_setup,
    _backward_backward,
)
_forward = define(
    f"mlp({_TENSORS}, bool keep_hidden, {_SPEC}) -> (Tensor, Tensor)",
    _forward_kernel,
    _forward_fake,
    _forward_setup,
    _forward_backward,
)
