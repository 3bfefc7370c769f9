"""tiny-cuda-nn's kernels in place of ours, through its Python package `tinycudann`.

Written against the sources of tiny-cuda-nn 2.0 (NVlabs/tiny-cuda-nn, commit 6ee3546). It has not
been run with the package itself yet: the tests use a stand-in written from the same sources.

The package is imported on first use. A field's parameters are brought into tiny-cuda-nn's layout in
every call, so that parameters, checkpoints and files stay as they are:

- A grid's parameters are our table, row by row, where its levels have the sizes of ours.
- A network's matrices are ours, [n_out, n_in] row by row, with all widths rounded up to multiples
  of 16. Inputs are filled up with ones there; zeros in the matrix keep them out.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import unwrap
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from neural_fields import ops
from neural_fields.errors import InputError
from neural_fields.ops import HashGridSpec, MlpSpec

GridPrecision = Literal["half", "float32"]
Operation: TypeAlias = Callable[[Tensor, Tensor], Tensor]  # of inputs and parameters
Module: TypeAlias = Any  # of tinycudann, which has no types

_DEVICE = "cuda"
_LOSS_SCALE = 128.0  # tiny-cuda-nn's own; a power of two rounds nothing
_ALIGNMENT = 16  # of a network's widths
_FUSED_WIDTHS = (16, 32, 64, 128)
_FUSED_BYTES = 1 << 16  # of shared memory, which every GPU with the fused kernels gives to a block
_ACTIVATIONS = {"none": "None", "relu": "ReLU", "sigmoid": "Sigmoid"}
_MAX_RESOLUTION = {2: 65535, 3: 1625, 4: 255}  # its power fits 32 bits; above, all is hashed
_SCALE_ERROR = 1e-5  # of a level's vertices per unit: powers in float32, approximated on the GPU

_our_hash_grid: Callable[..., Tensor] = unwrap(ops.hash_grid)
_our_mlp: Callable[..., Tensor] = unwrap(ops.mlp)
_lock = threading.Lock()  # for the moment in which a module holds parameters of ours


@contextmanager
def use_tcnn(*, grid_precision: GridPrecision = "half") -> Iterator[None]:
    """Compute `hash_grid` and `mlp` by tiny-cuda-nn inside, for float32 tensors on CUDA.

    Args:
        grid_precision: of hash grids, `half` or `float32`. Networks are always computed in half
            precision, or as tinycudann was built.

    What `covers` refuses is computed natively without a word, as are empty batches, float64,
    gradients that are differentiated again (tiny-cuda-nn's networks have no second derivatives, and
    its grids leave out those of the table's gradient) and fused operations. Results are float32
    and, like gradients, differentiable as those of `neural_fields.ops`; `torch.compile` and
    `torch.func` do not pass through. May be nested; one switch for the process, not one per thread.

    Half precision has 11 significant bits, no number above 65504 and none between 0 and 6e-8.
    Parameters, features, activations and the sums in networks are rounded to it, and so are sums
    over samples in the gradient of a grid's table, after every addition and in no fixed order: a
    run does not repeat bit for bit. Gradients are 128 times as large meanwhile, so that small ones
    stay; one above 511 overflows.

    Raises:
        InputError: tinycudann cannot be imported; or inside, its modules have other sizes than
            those of version 2.0.

    Source: Mueller, tiny-cuda-nn, 2021 (bindings/torch/tinycudann/modules.py).

    Example:
        >>> with use_tcnn():  # doctest: +SKIP
        ...     features = field.encoding(positions)
    """
    _package()
    grid = functools.partial(hash_grid, precision=grid_precision)
    with ops.use_backend({"hash_grid": grid, "mlp": mlp}):
        yield


def covers(spec: HashGridSpec | MlpSpec) -> bool:
    """Whether tiny-cuda-nn computes grids or networks of this shape; all others stay native.

    Of grids those in its own convention, unless a level that is not hashed has another size there:
    because a tile's entries are no multiple of 8, because its index leaves 32 bits, or possibly
    because its scale is within rounding of a whole number and the growth is no power of two. Of
    networks those without biases and normalisation, with hidden layers of one width, and with the
    activations none, relu or sigmoid (its softplus has a fixed beta of 10 and overflows at 8.8).

    Example:
        >>> covers(HashGridSpec(n_levels=8, per_level_scale=2.0)), covers(MlpSpec((32, 64, 64, 16)))
        (True, True)
        >>> covers(HashGridSpec(convention="torch-ngp")), covers(MlpSpec((3, 16, 32, 1)))
        (False, False)
    """
    return _covers_grid(spec) if isinstance(spec, HashGridSpec) else _covers_network(spec)


def hash_grid(
    positions: Tensor, table: Tensor, spec: HashGridSpec, *, precision: GridPrecision = "half"
) -> Tensor:
    """`neural_fields.ops.hash_grid` by tiny-cuda-nn, natively where that does not cover it.

    Args:
        positions: [n, n_dims] float32 on CUDA; positions outside of [0, 1] are clamped.
        table: [spec.n_entries, n_features], of the same type and device.
        spec: the shape of the grid.
        precision: of table and features, `half` or `float32`.

    Returns:
        [n, n_levels * n_features] float32: the features of the coarsest level first.

    Differentiable as `ops.hash_grid`; see `use_tcnn` for what half precision costs.

    Raises:
        InputError: tinycudann cannot be imported or has other sizes.

    Example:
        >>> features = hash_grid(positions, table, spec)  # doctest: +SKIP
    """

    def ours(positions: Tensor, table: Tensor) -> Tensor:
        return _our_hash_grid(positions, table, spec)

    def theirs(positions: Tensor, table: Tensor) -> Tensor:
        inside = positions.nan_to_num(0.0).clamp(0, 1)  # as ours; tiny-cuda-nn would wrap
        return _call(_encoding(spec, precision, positions.device), inside, table.flatten())

    sizes = (spec.n_entries, spec.n_features)
    fits = positions.shape[1:] == (spec.n_dims,) and table.shape == sizes
    return _either(positions, table, theirs, ours, usable=fits and covers(spec))


def mlp(
    inputs: Tensor,
    params: Tensor,
    spec: MlpSpec,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
) -> Tensor:
    """`neural_fields.ops.mlp` by tiny-cuda-nn, natively where that does not cover it.

    Hidden widths of 16, 32, 64 and 128 are computed by its FullyFusedMLP, others by its CutlassMLP.

    Args:
        inputs: [n, spec.n_input] float32 on CUDA, below 65504.
        params: [spec.n_params], of the same type and device.
        spec: widths and activations.
        scale: as for `ops.mlp`; natively where given.
        shift: as scale.

    Returns:
        [n, spec.n_output] float32: the last layer.

    Differentiable as `ops.mlp`; see `use_tcnn` for what half precision costs.

    Raises:
        InputError: tinycudann cannot be imported or has other sizes.

    Example:
        >>> values = mlp(features, params, spec)  # doctest: +SKIP
    """

    def ours(inputs: Tensor, params: Tensor) -> Tensor:
        return _our_mlp(inputs, params, spec, scale, shift)

    def theirs(inputs: Tensor, params: Tensor) -> Tensor:
        return _call(_network(spec, inputs.device), inputs, _padded_matrices(params, spec))

    plain = scale is None and shift is None
    fits = inputs.shape[1:] == (spec.n_input,) and params.shape == (spec.n_params,)
    return _either(inputs, params, theirs, ours, usable=plain and fits and covers(spec))


# ---- what tiny-cuda-nn has -----------------------------------------------------------------------


@functools.lru_cache(maxsize=256)
def _covers_grid(spec: HashGridSpec) -> bool:
    if spec.convention != "tiny-cuda-nn":
        return False
    if spec.n_entries * spec.n_features >= 1 << 32:  # its offsets have 32 bits
        return False
    if spec.grid_type == "tiled" and spec.base_resolution**spec.n_dims % 8:  # ours are rounded up
        return False
    growth = torch.tensor(spec.growth, dtype=torch.float32).item()
    by_two = math.frexp(growth)[0] == 0.5  # then scales are exact
    exact = [by_two or index == 0 for index in range(spec.n_levels)]
    return all(
        _is_certain(spec, level.scale, 0.0 if is_exact else _SCALE_ERROR)
        for level, is_exact in zip(spec.levels, exact, strict=True)
    )


def _is_certain(spec: HashGridSpec, scale: float, error: float) -> bool:
    """Whether a level has the entries and indices of ours for all scales within the error."""
    resolutions = {math.ceil(scale + sign * error * (scale + 1)) + 1 for sign in (-1, 1)}
    if spec.grid_type == "hash":
        cap = 1 << spec.log2_table_size
        if all(math.ceil(r**spec.n_dims / 8) * 8 > cap for r in resolutions):
            return True
    return len(resolutions) == 1 and max(resolutions) <= _MAX_RESOLUTION[spec.n_dims]


@functools.lru_cache(maxsize=256)
def _covers_network(spec: MlpSpec) -> bool:
    known = spec.output in _ACTIVATIONS and (spec.hidden in _ACTIVATIONS or not spec.widths[1:-1])
    plain = not spec.biases and not spec.normalize and spec.precision == "float32"
    return known and plain and len(set(spec.widths[1:-1])) <= 1


# ---- its modules ---------------------------------------------------------------------------------


def _package() -> Module:
    try:
        return importlib.import_module("tinycudann")
    except (ImportError, OSError) as error:  # OSError where it finds no GPU
        raise InputError(
            f"--backend tcnn: needs the package tinycudann, which cannot be imported here "
            f"({str(error).rstrip('.')}); install it from github.com/NVlabs/tiny-cuda-nn on a "
            "machine with nvcc and a GPU, or leave --backend out."
        ) from error


@functools.lru_cache(maxsize=64)
def _encoding(spec: HashGridSpec, precision: GridPrecision, device: torch.device) -> Module:
    config = {
        "otype": "Grid",
        "type": spec.grid_type.capitalize(),
        "n_levels": spec.n_levels,
        "n_features_per_level": spec.n_features,
        "log2_hashmap_size": spec.log2_table_size,
        "base_resolution": spec.base_resolution,
        "per_level_scale": spec.growth,
        "interpolation": spec.interpolation.capitalize(),
    }
    dtype = torch.float16 if precision == "half" else torch.float32
    make = functools.partial(_package().Encoding, spec.n_dims, config, dtype=dtype)
    return _ready(make, spec.n_entries * spec.n_features, device)


@functools.lru_cache(maxsize=64)
def _network(spec: MlpSpec, device: torch.device) -> Module:
    width = _aligned(max(spec.widths[1:-1], default=_ALIGNMENT))
    config = {
        "otype": "FullyFusedMLP" if _is_fused(spec, width) else "CutlassMLP",
        "activation": _ACTIVATIONS.get(spec.hidden, "None"),
        "output_activation": _ACTIVATIONS[spec.output],
        "n_neurons": width,
        "n_hidden_layers": spec.n_hidden_layers,
    }
    make = functools.partial(_package().Network, spec.n_input, spec.n_output, config)
    widths = [_aligned(width) for width in spec.widths]
    return _ready(make, sum(a * b for a, b in itertools.pairwise(widths)), device)


def _is_fused(spec: MlpSpec, width: int) -> bool:
    """Whether there is a fused kernel, and a block has the memory for it."""
    # The first matrix and 16 rows of inputs in half precision, 8 numbers longer each.
    n_bytes = 2 * (width + 16) * (_aligned(spec.n_input) + 8)
    return spec.n_hidden_layers > 0 and width in _FUSED_WIDTHS and n_bytes <= _FUSED_BYTES


def _ready(make: Callable[[], Module], n_params: int, device: torch.device) -> Module:
    """A new module for parameters of ours."""
    with torch.cuda.device_of(torch.empty(0, device=device)):  # type: ignore[no-untyped-call]
        module = make()
    if module.params.numel() != n_params:
        raise InputError(
            f"--backend tcnn: needs {n_params} parameters as in tinycudann 2.0, and this version "
            f"has {module.params.numel()}; install version 2.0, or leave --backend out."
        )
    module.params = nn.Parameter(module.params.new_empty(0))  # its own are never used
    module.loss_scale = 1.0  # gradients are scaled here, where they are float32
    return module


def _call(module: Module, inputs: Tensor, params: Tensor) -> Tensor:
    with _lock:
        output: Tensor = torch.func.functional_call(module, {"params": params}, (inputs,))
    return output.float()


def _aligned(width: int) -> int:
    return math.ceil(width / _ALIGNMENT) * _ALIGNMENT


def _padded_matrices(params: Tensor, spec: MlpSpec) -> Tensor:
    """Parameters of a network with all widths rounded up, zeros where nothing was."""
    if not any(width % _ALIGNMENT for width in spec.widths):
        return params
    pairs = list(itertools.pairwise(spec.widths))
    matrices = torch.split(params, [n_in * n_out for n_in, n_out in pairs])
    padded = [
        nn.functional.pad(
            matrix.view(n_out, n_in), (0, _aligned(n_in) - n_in, 0, _aligned(n_out) - n_out)
        )
        for matrix, (n_in, n_out) in zip(matrices, pairs, strict=True)
    ]
    return torch.cat([matrix.flatten() for matrix in padded])


# ---- the choice, and gradients -------------------------------------------------------------------


def _either(
    inputs: Tensor, params: Tensor, theirs: Operation, ours: Operation, *, usable: bool
) -> Tensor:
    alike = inputs.dtype == params.dtype == torch.float32 and inputs.device == params.device
    there = inputs.device.type == _DEVICE  # a start from data may be computed on the CPU
    if not (usable and alike and there and len(inputs)):
        return ours(inputs, params)  # which also says what is wrong with them
    if torch.is_grad_enabled() and (inputs.requires_grad or params.requires_grad):
        result: Tensor = _Scaled.apply(inputs, params, theirs, ours)  # type: ignore[no-untyped-call]
        return result
    return theirs(inputs.detach(), params.detach())  # so that it keeps nothing for gradients


class _Scaled(torch.autograd.Function):
    """Their operation with gradients that half precision can hold; second ones are ours."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, params: Tensor, theirs: Operation, ours: Operation
    ) -> Tensor:
        ctx.theirs, ctx.ours = theirs, ours
        ctx.save_for_backward(inputs, params)
        ctx.run = _recorded(theirs, (inputs, params), ctx.needs_input_grad)
        output: Tensor = ctx.run[0].detach()
        return output

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        saved, needs = ctx.saved_tensors, ctx.needs_input_grad[:2]
        if torch.is_grad_enabled():  # with create_graph
            tensors = [tensor.view_as(tensor) for tensor in saved]  # one may depend on the other
            gradients = _gradients(ctx.ours(*tensors), tensors, needs, grad_output, again=True)
            return *gradients, None, None
        output, tensors = ctx.run or _recorded(ctx.theirs, saved, needs)
        ctx.run = None  # frees what it keeps; a second backward pass computes it anew
        scaled = _gradients(output, tensors, needs, grad_output * _LOSS_SCALE, again=False)
        return *(g if g is None else g / _LOSS_SCALE for g in scaled), None, None


def _recorded(
    operation: Operation, tensors: tuple[Tensor, ...], needs: tuple[bool, ...]
) -> tuple[Tensor, list[Tensor]]:
    """The result in a graph of its own, and that graph's leaves."""
    leaves = [t.detach().requires_grad_(n) for t, n in zip(tensors, needs, strict=False)]
    with torch.enable_grad():
        return operation(*leaves), leaves


def _gradients(
    output: Tensor, tensors: list[Tensor], needs: tuple[bool, ...], grad: Tensor, *, again: bool
) -> list[Tensor | None]:
    wanted = [tensor for tensor, needed in zip(tensors, needs, strict=True) if needed]
    found = iter(torch.autograd.grad(output, wanted, grad, create_graph=again))
    return [next(found) if needed else None for needed in needs]
