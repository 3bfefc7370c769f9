"""Derivatives of fields, and of other functions, in their positions.

    >>> import neural_fields as nf
    >>> field = nf.load("shape.nf")  # doctest: +SKIP
    >>> normals = nf.derivatives.gradient(field, positions)  # doctest: +SKIP

Positions are float32 or float64 in the field's own frame, and so are the units: those of the
field's value (an image's channels, a radiance field's density, a signed distance) per pixel of a
picture or per world length, and per square of it for second derivatives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TypeAlias

import torch
from torch import Tensor, nn

from neural_fields.architectures import Trunk
from neural_fields.errors import InputError
from neural_fields.fields.image import ImageField
from neural_fields.fields.load import Field
from neural_fields.fields.radiance import RadianceField, Samples
from neural_fields.fields.sdf import SdfField
from neural_fields.fields.surface import SurfaceField
from neural_fields.ops import use_reference
from neural_fields.ops._library import FLOATS, NotNativeError

__all__ = ["gradient", "hessian", "jacobian", "laplacian"]

CHUNK = 1 << 14  # positions whose graphs are held at once, where nobody keeps them

Function: TypeAlias = Callable[[Tensor], Tensor]
# Of values [n] or [n, c], at positions [n, d]; and whether the result keeps its graph.
Derivative: TypeAlias = Callable[[Tensor, Tensor, bool], Tensor]


def gradient(
    of: Field | Function,
    positions: Tensor,
    *,
    differentiable: bool = False,
    reference: bool = False,
) -> Tensor:
    """The direction and rate of steepest ascent of one value.

    Args:
        of: a signed distance field or a surface (its distance), a radiance field (its density), an
            image field of one channel (its value), or a function of positions [n, d] to values [n]
            or [n, 1] that answers every row for itself.
        positions: [n, d] float32 or float64, in the field's frame and of its parameters' type.
        differentiable: whether the result can be part of a loss: it is then differentiable in
            parameters, and in positions that ask for it. All positions are computed at once.
        reference: compute by torch references, where losses ask for more than native operations
            have (see `neural_fields.ops.use_reference`); what cannot be had without it takes them
            anyway.

    Returns:
        [n, d]: values per world length (per pixel of an image). At a kink it is that of one side;
        it is 0 where a field clamps its positions, outside of its box or picture. Differentiable
        once natively where `differentiable`, to any order with `reference`.

    Raises:
        InputError: there are several values per position (`jacobian` takes those), or positions
            are of another type or width, or NaN.

    Example:
        >>> gradient(lambda x: x.norm(dim=1), torch.tensor([[3.0, 4.0]]))
        tensor([[0.6000, 0.8000]])
    """
    return _derived("gradient", _gradient, of, positions, differentiable, reference)


def jacobian(
    of: Field | Function,
    positions: Tensor,
    *,
    differentiable: bool = False,
    reference: bool = False,
) -> Tensor:
    """The gradients of all values.

    Args:
        of: as for `gradient`, with values [n] or [n, c]; an image field of any channels.
        positions: as for `gradient`.
        differentiable: as for `gradient`.
        reference: as for `gradient`.

    Returns:
        [n, c, d], c = 1 for values [n]: row by row what `gradient` gives, in its units.

    Raises:
        InputError: positions are of another type or width, or NaN.

    Example:
        >>> jacobian(lambda x: torch.stack([x[:, 0] * x[:, 1], x[:, 1]], 1), torch.ones(1, 2))
        tensor([[[1., 1.],
                 [0., 1.]]])
    """
    return _derived("jacobian", _jacobian, of, positions, differentiable, reference)


def hessian(
    of: Field | Function,
    positions: Tensor,
    *,
    differentiable: bool = False,
    reference: bool = False,
) -> Tensor:
    """The second derivatives of all values.

    Args:
        of: as for `jacobian`; a field, or a trunk, whose second derivatives are its own
            (`Trunk.smoothness`).
        positions: as for `gradient`.
        differentiable: as for `gradient`; losses on the result need `reference`, since their
            gradients are of third order.
        reference: as for `gradient`.

    Returns:
        [n, d, d] for values [n], [n, c, d, d] for [n, c]: per square of a world length (of an
        image's pixel). Kinks are not seen: behind relu it is that of the piece around a position.

    Raises:
        InputError: the field's parts are linear between kinks; or positions are of another type or
            width, or NaN.

    Example:
        >>> hessian(lambda x: x[:, 0] ** 2 + 3 * x[:, 0] * x[:, 1], torch.zeros(1, 2))
        tensor([[[2., 3.],
                 [3., 0.]]])
    """
    return _derived("hessian", _hessian, of, positions, differentiable, reference)


def laplacian(
    of: Field | Function,
    positions: Tensor,
    *,
    differentiable: bool = False,
    reference: bool = False,
) -> Tensor:
    """The sums of the second derivatives along all axes: the trace of `hessian`.

    Args:
        of: as for `hessian`.
        positions: as for `gradient`.
        differentiable: as for `hessian`.
        reference: as for `gradient`.

    Returns:
        [n] for values [n], [n, c] for [n, c], in the units of `hessian`.

    Raises:
        InputError: as `hessian`.

    Example:
        >>> laplacian(lambda x: (x**2).sum(1), torch.rand(4, 3))
        tensor([6., 6., 6., 6.])
    """
    return _derived("laplacian", _laplacian, of, positions, differentiable, reference)


# ---- of values that are there ------------------------------------------------------------------


def _slope(value: Tensor, at: Tensor, keep: bool) -> Tensor:
    """[n, d] of values [n] or [n, 1]: rows do not mix, so the sum's gradient is that of each."""
    if not value.requires_grad:  # a constant, as a linear function's slope is
        return torch.zeros_like(at)
    (slope,) = torch.autograd.grad(
        value.sum(), at, create_graph=keep, retain_graph=True, materialize_grads=True
    )
    return slope


def _gradient(values: Tensor, at: Tensor, keep: bool) -> Tensor:
    if values.dim() == 2 and values.shape[1] != 1:
        raise InputError(
            f"gradient: needs one value per position, got {values.shape[1]}; use jacobian."
        )
    return _slope(values, at, keep)


def _jacobian(values: Tensor, at: Tensor, keep: bool) -> Tensor:
    columns = values[:, None] if values.dim() == 1 else values
    return torch.stack([_slope(column, at, keep) for column in columns.unbind(1)], 1)


def _hessian(values: Tensor, at: Tensor, keep: bool) -> Tensor:
    slopes = _jacobian(values, at, True)
    rows = [_jacobian(slope, at, keep) for slope in slopes.unbind(1)]
    return rows[0] if values.dim() == 1 else torch.stack(rows, 1)


def _laplacian(values: Tensor, at: Tensor, keep: bool) -> Tensor:
    return _hessian(values, at, keep).diagonal(dim1=-2, dim2=-1).sum(-1)


# ---- of functions ------------------------------------------------------------------------------


def _derived(
    name: str,
    derivative: Derivative,
    of: Field | Function,
    positions: Tensor,
    differentiable: bool,
    reference: bool,
) -> Tensor:
    """Natively, and by the references from where a native operation says that it cannot."""
    _check_positions(name, of, positions)
    if derivative in (_hessian, _laplacian):
        _check_curved(name, of)

    def compute(at: Tensor) -> Tensor:
        with torch.enable_grad(), use_reference() if reference else nullcontext():
            return derivative(_values(name, of, at), at, differentiable)

    chunks = (positions,) if differentiable else torch.split(positions.detach(), CHUNK)
    results = []
    with nullcontext() if differentiable else _frozen(of):
        for chunk in chunks:
            at = chunk if chunk.requires_grad else chunk.detach().requires_grad_()
            try:
                results.append(compute(at))
            except NotNativeError:
                reference = True  # from here on
                results.append(compute(at))
    return results[0] if differentiable else torch.cat(results)


@contextmanager
def _frozen(of: Field | Function) -> Iterator[None]:
    """Parameters ask for no gradients inside: theirs would take half the time or more."""
    parameters = of.parameters() if isinstance(of, nn.Module) else ()
    asking = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in asking:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)


def _values(name: str, of: Field | Function, at: Tensor) -> Tensor:
    """What is differentiated: [n] or [n, c], a function of the positions."""
    if isinstance(of, SurfaceField):
        values = of.distance(Samples(at))
    elif isinstance(of, RadianceField):
        values = of.density(at)
    elif isinstance(of, ImageField):
        values = of.value(Samples(at))
    elif isinstance(of, SdfField):
        values = of.distance(Samples(at))
    else:
        values = of(at)
    shape = list(values.shape)
    if len(shape) not in (1, 2) or shape[0] != len(at) or shape[1:] == [0]:
        raise InputError(
            f"{name}: needs a function of values [n] or [n, c] at positions {list(at.shape)}, "
            f"got {shape}."
        )
    if not values.requires_grad:
        raise InputError(
            f"{name}: needs a function that computes with its positions in torch, got values "
            "without a gradient; look for no_grad, detach or numpy in it."
        )
    return values


def _check_positions(name: str, of: Field | Function, positions: Tensor) -> None:
    width, own = None, positions.dtype
    if isinstance(of, Field):
        width = 2 if isinstance(of, ImageField) else 3
        own = next(of.parameters(), positions).dtype
    right = positions.dim() == 2 and (width is None or positions.shape[1] == width)
    if not right or positions.dtype not in FLOATS:
        raise InputError(
            f"{name}: positions need to be float32 or float64 [n, {width or 'd'}], "
            f"got {positions.dtype} {list(positions.shape)}."
        )
    if positions.dtype != own:
        raise InputError(
            f"{name}: positions need the field's {own}, got {positions.dtype}; convert one of them."
        )
    if bool(positions.isnan().any()):
        row = int(positions.isnan().any(1).nonzero()[0])
        raise InputError(f"{name}: positions need numbers, got NaN in row {row}; leave it out.")


def _check_curved(name: str, of: Field | Function) -> None:
    trunk = of if isinstance(of, Trunk) else getattr(of, "trunk", None)
    if isinstance(trunk, Trunk) and not trunk.smoothness.curved:
        kind = getattr(of, "architecture", type(of).__name__)
        raise InputError(
            f"{name}: needs second derivatives of the field's own, got {kind}, whose parts are "
            f"linear between kinks; {trunk.smoothness.advice}."
        )
