"""Small fully connected networks, whole tiles of samples through all layers at once."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

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
)

Activation = Literal["none", "relu", "softplus", "sigmoid"]
Precision = Literal["float32", "bf16"]


@dataclass(frozen=True)
class MlpSpec:
    """The shape of a small network.

    Attributes:
        widths: input, hidden layers ..., output; each 1 to 512, at most 12 matrices.
        hidden: activation of the hidden layers: none, relu, softplus or sigmoid.
        output: activation of the last layer, of the same kinds.
        beta: of softplus, log(1 + exp(beta z)) / beta.
        biases: whether layers have them.
        precision: float32 (float64 for tensors of that type), or bf16: inputs, matrices, hidden
            activations and their gradients are rounded to bfloat16 (8 bits of fraction) before
            they are multiplied; sums, biases, activations and results stay float32. CPU only,
            once differentiable.

    Example:
        >>> spec = MlpSpec((32, 64, 16))
        >>> spec.n_params, spec.n_input, spec.n_output
        (3072, 32, 16)
    """

    widths: tuple[int, ...]
    hidden: Activation = "relu"
    output: Activation = "none"
    beta: float = 1.0
    biases: bool = False
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        if not isinstance(self.widths, tuple):
            raise TypeError(f"MlpSpec: widths needs a tuple of integers, got {self.widths!r}.")
        check_integers("MlpSpec", **{f"widths[{i}]": width for i, width in enumerate(self.widths)})
        _shape_of(_core, *self.arguments)

    @property
    def arguments(self) -> tuple[tuple[int, ...], str, str, float, bool, str]:
        """The spec as the plain arguments that follow the tensors of every operation."""
        return (
            self.widths,
            self.hidden,
            self.output,
            float(self.beta),
            self.biases,
            self.precision,
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
    def n_params(self) -> int:
        """Numbers of all matrices and biases."""
        return _shape_of(_core, *self.arguments).n_params


@functools.lru_cache(maxsize=256)
def _shape_of(module: ModuleType, *arguments: Argument) -> _core.MlpShape:
    shape: _core.MlpShape = module.MlpShape(*arguments)
    return shape


def mlp(inputs: Tensor, params: Tensor, spec: MlpSpec) -> Tensor:
    """Send samples through a small network.

    Args:
        inputs: [n, spec.n_input] float32 or float64.
        params: [spec.n_params], of the same type and device. Per layer the matrix [n_out, n_in]
            row by row, as in `torch.nn.Linear`, then the bias [n_out] if there is one.
        spec: widths and activations.

    Returns:
        [n, spec.n_output]: h_l = activation(W_l h_(l-1) + b_l) of the last layer.

    Differentiable once in inputs and params. The gradient of the inputs is differentiable again,
    in inputs, params and the output's gradient, as losses on normals need it (relu counts as
    piecewise linear). The gradient of the params is not differentiable again: that raises, as does
    a third order, and in bf16 a second order. While gradients are recorded, the hidden activations
    are kept for them.

    Raises:
        TypeError: a tensor is neither float32 nor float64, or they differ.
        ValueError: a shape or a device is wrong.

    Source: Mueller et al., Real-time Neural Radiance Caching for Path Tracing, 2021, section 5
    (fully fused networks). Deviations: float32, optional biases, any width without padding.

    Example:
        >>> spec = MlpSpec((3, 16, 1), hidden="softplus", beta=100.0, biases=True)
        >>> mlp(torch.rand(5, 3), 0.1 * torch.randn(spec.n_params), spec).shape
        torch.Size([5, 1])
    """
    output: Tensor
    output, _ = _forward(inputs, params, torch.is_grad_enabled(), *spec.arguments)
    return output


_SPEC = (
    "int[] widths, str hidden_activation, str output_activation, float beta, bool biases, "
    'str precision="float32"'
)
_NO_GRADIENT = (None,) * 6  # of the spec's arguments


def _spec(arguments: tuple[Argument, ...]) -> tuple[Argument, ...]:
    """The spec's arguments as something hashable: torch hands lists to kernels."""
    return tuple(arguments[0]), *arguments[1:]


def _check(inputs: Tensor, params: Tensor, spec: tuple[Argument, ...]) -> None:
    check_tensor("mlp", "inputs", inputs, (None, spec[0][0]), inputs)
    check_tensor("mlp", "params", params, (_shape_of(_core, *_spec(spec)).n_params,), inputs)
    if _is_bf16(spec) and inputs.dtype != torch.float32:
        raise TypeError(f"mlp: bf16 needs float32 tensors, got {inputs.dtype}.")


def _is_bf16(spec: tuple[Argument, ...]) -> bool:
    return len(spec) > 5 and bool(spec[5] == "bf16")


def _output_shape(inputs: Tensor, spec: tuple[Argument, ...]) -> tuple[int, int]:
    return inputs.shape[0], spec[0][-1]


# ---- values --------------------------------------------------------------------------------------


def _forward_fake(
    inputs: Tensor, params: Tensor, keep: bool, *spec: Argument
) -> tuple[Tensor, Tensor]:
    _check(inputs, params, spec)
    n_hidden = sum(spec[0][1:-1]) if keep else 0
    dtype = torch.bfloat16 if _is_bf16(spec) else inputs.dtype
    hidden = inputs.new_empty((inputs.shape[0] * n_hidden,), dtype=dtype)
    return inputs.new_empty(_output_shape(inputs, spec)), hidden


def _forward_kernel(
    inputs: Tensor, params: Tensor, keep: bool, *spec: Argument
) -> tuple[Tensor, Tensor]:
    output, hidden = _forward_fake(inputs, params, keep, *spec)
    module = native("mlp", inputs)
    module.mlp_forward(
        _shape_of(module, *_spec(spec)),
        inputs.contiguous(),
        params.contiguous(),
        output,
        hidden if keep else None,
    )
    return output, hidden


def _forward_setup(
    ctx: Context, inputs: tuple[Argument, ...], output: tuple[Tensor, Tensor]
) -> None:
    samples, params, _, *ctx.spec = inputs
    values, hidden = output
    ctx.save_for_backward(samples, params, hidden, values)
    ctx.mark_non_differentiable(hidden)


def _forward_backward(ctx: Context, grad_output: Tensor, _: Tensor | None) -> Gradients:
    needs = ctx.needs_input_grad[:2]
    gradients = _backward(grad_output, *ctx.saved_tensors, *needs, *ctx.spec)
    needed = (gradient if n else None for gradient, n in zip(gradients, needs, strict=True))
    return *needed, None, *_NO_GRADIENT


# ---- gradients -----------------------------------------------------------------------------------
# `hidden` and `output` are functions of inputs and params; the second derivative is that of the
# whole, so that they have none of their own.


def _check_saved(
    grad_output: Tensor, inputs: Tensor, params: Tensor, output: Tensor, spec: tuple[Argument, ...]
) -> None:
    _check(inputs, params, spec)
    check_tensor("mlp", "grad_output", grad_output, _output_shape(inputs, spec), inputs)
    check_tensor("mlp", "output", output, _output_shape(inputs, spec), inputs)


def _backward_fake(
    grad_output: Tensor,
    inputs: Tensor,
    params: Tensor,
    hidden: Tensor,
    output: Tensor,
    needs_inputs: bool,
    needs_params: bool,
    *spec: Argument,
) -> tuple[Tensor, Tensor]:
    _check_saved(grad_output, inputs, params, output, spec)
    return (
        inputs.new_empty(tuple(inputs.shape) if needs_inputs else (0,)),
        inputs.new_empty(tuple(params.shape) if needs_params else (0,)),
    )


def _backward_kernel(
    grad_output: Tensor,
    inputs: Tensor,
    params: Tensor,
    hidden: Tensor,
    output: Tensor,
    needs_inputs: bool,
    needs_params: bool,
    *spec: Argument,
) -> tuple[Tensor, Tensor]:
    grad_inputs, grad_params = _backward_fake(
        grad_output, inputs, params, hidden, output, needs_inputs, needs_params, *spec
    )
    module = native("mlp", inputs)
    module.mlp_backward(
        _shape_of(module, *_spec(spec)),
        grad_output.contiguous(),
        inputs.contiguous(),
        params.contiguous(),
        hidden.contiguous(),
        output.contiguous(),
        grad_inputs if needs_inputs else None,
        grad_params if needs_params else None,
    )
    return grad_inputs, grad_params


def _backward_setup(ctx: Context, inputs: tuple[Argument, ...], output: Argument) -> None:
    *tensors, _, _ = inputs[:7]
    ctx.spec = inputs[7:]
    ctx.set_materialize_grads(False)  # so that an unused gradient of the params is None, not zeros
    ctx.save_for_backward(*tensors)


def _backward_backward(
    ctx: Context, tangents: Tensor | None, params_tangents: Tensor | None
) -> Gradients:
    if params_tangents is not None and params_tangents.numel() > 0:
        raise not_native("mlp", "second derivatives of the gradient of params")
    needs_grad_output, needs_inputs, needs_params = ctx.needs_input_grad[:3]
    grad_output = grad_inputs = grad_params = None
    if tangents is not None:
        if _is_bf16(ctx.spec):
            raise not_native("mlp", "second derivatives in bf16")
        grad_output, grad_inputs, grad_params = _second(
            tangents, *ctx.saved_tensors, needs_inputs, needs_params, *ctx.spec
        )
    return (
        grad_output if needs_grad_output else None,
        grad_inputs if needs_inputs else None,
        grad_params if needs_params else None,
        *(None,) * 4,
        *_NO_GRADIENT,
    )


def _second_fake(
    tangents: Tensor,
    grad_output: Tensor,
    inputs: Tensor,
    params: Tensor,
    hidden: Tensor,
    output: Tensor,
    needs_inputs: bool,
    needs_params: bool,
    *spec: Argument,
) -> tuple[Tensor, Tensor, Tensor]:
    gradients = _backward_fake(
        grad_output, inputs, params, hidden, output, needs_inputs, needs_params, *spec
    )
    check_tensor("mlp", "tangents", tangents, tuple(inputs.shape), inputs)
    return inputs.new_empty(_output_shape(inputs, spec)), *gradients


def _second_kernel(
    tangents: Tensor,
    grad_output: Tensor,
    inputs: Tensor,
    params: Tensor,
    hidden: Tensor,
    output: Tensor,
    needs_inputs: bool,
    needs_params: bool,
    *spec: Argument,
) -> tuple[Tensor, Tensor, Tensor]:
    grad_grad_output, grad_inputs, grad_params = _second_fake(
        tangents, grad_output, inputs, params, hidden, output, needs_inputs, needs_params, *spec
    )
    module = native("mlp", inputs)
    module.mlp_second(
        _shape_of(module, *_spec(spec)),
        tangents.contiguous(),
        grad_output.contiguous(),
        inputs.contiguous(),
        params.contiguous(),
        hidden.contiguous(),
        output.contiguous(),
        grad_grad_output,
        grad_inputs if needs_inputs else None,
        grad_params if needs_params else None,
    )
    return grad_grad_output, grad_inputs, grad_params


_SAVED = "Tensor grad_output, Tensor inputs, Tensor params, Tensor hidden, Tensor output"
_second = define(
    f"mlp_backward_backward(Tensor tangents, {_SAVED}, bool needs_inputs, bool needs_params, "
    f"{_SPEC}) -> (Tensor, Tensor, Tensor)",
    _second_kernel,
    _second_fake,
    save_nothing,
    no_third_order("mlp"),
)
_backward = define(
    f"mlp_backward({_SAVED}, bool needs_inputs, bool needs_params, {_SPEC}) -> (Tensor, Tensor)",
    _backward_kernel,
    _backward_fake,
    _backward_setup,
    _backward_backward,
)
_forward = define(
    f"mlp(Tensor inputs, Tensor params, bool keep_hidden, {_SPEC}) -> (Tensor, Tensor)",
    _forward_kernel,
    _forward_fake,
    _forward_setup,
    _forward_backward,
)
