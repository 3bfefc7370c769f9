"""Registration of native operations with torch, argument checks, and the choice of device.

An operation is registered once with `torch.library`, with a fake and an autograd formula, which is
what `torch.compile` and `torch.ops.neural_fields` see. Eager calls go through an
`autograd.Function` made of the same formula, because only that is understood by `torch.func`.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any, ParamSpec, TypeAlias, TypeVar

import torch
from torch import Tensor

from neural_fields import _core

_library: Any = torch.library  # in part without types
LIBRARY = _library.Library("neural_fields", "DEF")
FLOATS = (torch.float32, torch.float64)

# What torch leaves untyped in its registration interface.
Context: TypeAlias = Any  # of an autograd formula
Argument: TypeAlias = Any  # a tensor, or a plain number, string or list of a spec
Gradients: TypeAlias = Any  # a tensor or None for every argument, or for the only one

Setup: TypeAlias = Callable[[Context, tuple[Argument, ...], Argument], None]
Backward: TypeAlias = Callable[..., Gradients]

P = ParamSpec("P")
R = TypeVar("R")

MODULES: dict[str, ModuleType] = {"cpu": _core}  # native modules by device type; CUDA's comes late

_reference: ModuleType | None = None  # what computes instead, inside of `use_reference`
_backend: Mapping[str, Callable[..., Any]] = {}  # or inside of `use_backend`, by name


@contextmanager
def use_backend(functions: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """Compute operations by other functions inside, wherever they are called from.

    Args:
        functions: by the name of the operation that they replace, one of those that `use_reference`
            lists; they take its arguments. Other names are ignored.

    May be nested: the innermost function of a name counts, and inside of `use_reference` none.
    What was computed outside keeps the derivatives that it had. One switch for the process, not
    one per thread. Fused operations stay native.

    Example:
        >>> from neural_fields.ops import frequency
        >>> with use_backend({"frequency": lambda positions, n_octaves: positions}):
        ...     frequency(torch.ones(1, 2), n_octaves=4)
        tensor([[1., 1.]])
    """
    global _backend
    before = _backend
    _backend = {**before, **functions}
    try:
        yield
    finally:
        _backend = before


def is_replaced(name: str) -> bool:
    """Whether another function computes an operation now: see `use_backend`.

    Example:
        >>> is_replaced("hash_grid")
        False
    """
    return _reference is None and name in _backend


@contextmanager
def use_reference() -> Iterator[None]:
    """Compute field operations by their torch reference inside, differentiable to any order.

    Of `hash_grid`, `tensor_planes`, `voxels`, `frequency`, `spherical_harmonics`, `mlp`,
    `modulate`, `modulation`, `rate`, `rbf`, `composite` and `level_losses`, wherever they are
    called from; slower, with more memory and without checks of their arguments. What was computed
    outside keeps the derivatives that it had. May be nested; one switch for the process, not one
    per thread.

    Example:
        >>> from neural_fields.ops import frequency
        >>> x = torch.zeros(1, 1, requires_grad=True)
        >>> with use_reference():
        ...     slope = frequency(x, n_octaves=1)[:, 1]  # sin
        >>> for _ in range(3):
        ...     (slope,) = torch.autograd.grad(slope, x, torch.ones_like(slope), create_graph=True)
        >>> slope.item()
        -1.0
    """
    global _reference
    before = _reference
    _reference = importlib.import_module("neural_fields.ops.reference")
    try:
        yield
    finally:
        _reference = before


def with_reference(operation: Callable[P, R]) -> Callable[P, R]:
    """Let `use_reference` and `use_backend` put a function in an operation's place, by its name."""

    @functools.wraps(operation)
    def chosen(*args: P.args, **kwargs: P.kwargs) -> R:
        name = operation.__name__
        if _reference is not None:
            function: Callable[..., R] = getattr(_reference, name)
        else:
            function = _backend.get(name, operation)
        return function(*args, **kwargs)

    return chosen


def define(
    schema: str,
    kernel: Callable[..., Any],
    fake: Callable[..., Any],
    setup: Setup,
    backward: Backward,
) -> Callable[..., Any]:
    """Register one operation and return the function that calls it.

    `kernel` computes on plain tensors, `fake` makes empty results of the same shapes; `setup` and
    `backward` are those of `torch.library.register_autograd`.
    """
    name = schema.partition("(")[0]
    full_name = f"neural_fields::{name}"
    LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    # One kernel for every device: it finds the module for the device or says what is missing.
    LIBRARY.impl(name, kernel, "CompositeExplicitAutograd")
    torch.library.register_fake(full_name, fake, lib=LIBRARY)
    torch.library.register_autograd(full_name, backward, setup_context=setup, lib=LIBRARY)
    operator = getattr(torch.ops.neural_fields, name).default
    members = {"forward": operator, "setup_context": setup, "backward": backward}
    function: Any = type(
        name, (torch.autograd.Function,), {k: staticmethod(v) for k, v in members.items()}
    )

    def call(*args: Argument) -> Argument:
        return operator(*args) if torch.compiler.is_compiling() else function.apply(*args)

    return call


def save_nothing(ctx: Context, inputs: tuple[Argument, ...], output: Argument) -> None:
    """The `setup` of an operation whose derivative is not available."""


def no_third_order(name: str) -> Backward:
    """The `backward` of an operation's second derivative: an error that names the way out."""

    def backward(ctx: Context, *grads: Tensor) -> Gradients:
        raise not_native(name, "third-order derivatives")

    return backward


class NotNativeError(RuntimeError):
    """A derivative was asked for that the native operation does not have."""


def not_native(name: str, what: str) -> NotNativeError:
    """The error, which names the way out."""
    return NotNativeError(
        f"{name}: {what} are not available natively; use neural_fields.ops.reference.{name}, "
        "which is plain torch and differentiates to any order, or compute inside of "
        "neural_fields.ops.use_reference()."
    )


def native(name: str, tensor: Tensor) -> ModuleType:
    """The native module for a tensor's device."""
    kind = tensor.device.type
    if kind not in MODULES:
        if kind != "cuda":
            raise ValueError(f"{name}: needs CPU or CUDA tensors, got device {tensor.device}.")
        try:
            MODULES[kind] = importlib.import_module("neural_fields._cuda")
        except ImportError as error:
            raise RuntimeError(
                f"{name}: got CUDA tensors, but the CUDA module is not built or cannot be loaded "
                f"({error}); run 'make cuda', or move the tensors to the CPU."
            ) from error
    return MODULES[kind]


def check_tensor(
    name: str, argument: str, tensor: Tensor, shape: tuple[int | None, ...], like: Tensor
) -> None:
    """Raise unless the tensor has this shape (None: any length) and is of the kind of `like`."""
    if tensor.dtype not in FLOATS:
        raise TypeError(f"{name}: {argument} needs float32 or float64, got {tensor.dtype}.")
    if tensor.dtype != like.dtype:
        raise TypeError(
            f"{name}: {argument} needs {like.dtype} like the first argument, got {tensor.dtype}."
        )
    if tensor.device != like.device:
        raise ValueError(
            f"{name}: {argument} needs to be on {like.device} like the first argument, "
            f"got {tensor.device}."
        )
    matches = tensor.dim() == len(shape) and all(
        wanted is None or wanted == got for wanted, got in zip(shape, tensor.shape, strict=True)
    )
    if not matches:
        wanted = ", ".join("n" if length is None else str(length) for length in shape)
        raise ValueError(f"{name}: {argument} needs shape [{wanted}], got {list(tensor.shape)}.")


def check_integers(owner: str, **values: object) -> None:
    """Raise unless all values are integers (True and False are not)."""
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{owner}: {name} needs an integer, got {value!r}.")
