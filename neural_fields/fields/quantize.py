"""Weights of 8 bits: what training rounds to, and what files keep."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from neural_fields.errors import InputError

_N = 127  # 2^(8-1) - 1
_SUFFIXES = ("codes", "scales", "rest")


def check_weight_bits(bits: int) -> None:
    """Raise InputError unless this is 8 or 32."""
    if bits not in (8, 32):
        raise InputError(f"--bits: needs 8 or 32, got {bits}.")


class Split(NamedTuple):
    """Views of a parameter: kernels, each with a scale of its own, and what stays float."""

    kernels: list[Tensor]
    rest: list[Tensor]


def split(module: nn.Module, tensor: Tensor) -> Split:
    """The views of a module's parameter (or of a tensor like it): one kernel unless it says so."""
    own = getattr(module, "split", None)
    return Split(*own(tensor)) if own is not None else Split([tensor], [])


@torch.no_grad()
def quantize_(field: nn.Module) -> None:
    """Round every kernel w to 255 levels: s sign(w) round(127 |w| / s) / 127 with s = max |w|.

    Biases stay as they are. Doing it twice changes nothing.

    Source: Lee et al., Coordinate-Aware Modulation for Neural Fields, 2024, as its code has it.

    Example:
        >>> layer = nn.Module()
        >>> layer.register_parameter("w", nn.Parameter(torch.tensor([-0.5, 0.0, 0.1, 1.27])))
        >>> quantize_(layer)
        >>> layer.w.detach()
        tensor([-0.5000,  0.0000,  0.1000,  1.2700])
    """
    for _, module, parameter in _parameters(field):
        for kernel in split(module, parameter.data).kernels:
            codes, scale = _encode(kernel)
            kernel.copy_(_decode(codes, scale))


@contextmanager
def quantized(field: nn.Module, bits: int) -> Iterator[None]:
    """The field with rounded weights inside; outside again with those it had. Nothing for 32 bits.

    Gradients taken inside and applied outside are those of a straight-through estimator.
    """
    if bits == 32:
        yield
        return
    raw = [parameter.detach().clone() for parameter in field.parameters()]
    quantize_(field)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(field.parameters(), raw, strict=True):
                parameter.copy_(value)


@torch.no_grad()
def packed(field: nn.Module) -> dict[str, Tensor]:
    """What a file keeps, by name: NAME.codes int8, NAME.scales and NAME.rest float32; buffers."""
    tensors = dict(field.state_dict())
    for name, module, parameter in _parameters(field):
        del tensors[name]
        kernels, rest = split(module, parameter.data)
        encoded = [_encode(kernel) for kernel in kernels]
        parts = (
            torch.cat([codes.reshape(-1) for codes, _ in encoded]),
            torch.stack([scale for _, scale in encoded]),
            torch.cat([part.reshape(-1) for part in (*rest, parameter.new_empty(0))]),
        )
        tensors |= {f"{name}.{key}": part for key, part in zip(_SUFFIXES, parts, strict=True)}
    return tensors


@torch.no_grad()
def unpack_into(field: nn.Module, tensors: dict[str, Tensor]) -> None:
    """The inverse of `packed`; buffers are left to the caller."""
    for name, module, parameter in _parameters(field):
        codes, scales, rest = (tensors[f"{name}.{key}"] for key in _SUFFIXES)
        kernels, floats = split(module, parameter.data)
        pieces = torch.split(codes, [kernel.numel() for kernel in kernels])
        for kernel, piece, scale in zip(kernels, pieces, scales, strict=True):
            kernel.copy_(_decode(piece.view(kernel.shape), scale))
        for view, piece in zip(floats, torch.split(rest, [v.numel() for v in floats]), strict=True):
            view.copy_(piece.view(view.shape))


def _parameters(field: nn.Module) -> Iterator[tuple[str, nn.Module, nn.Parameter]]:
    for prefix, module in field.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            yield f"{prefix}.{name}" if prefix else name, module, parameter


def _encode(kernel: Tensor) -> tuple[Tensor, Tensor]:
    scale = kernel.abs().amax().clamp(min=1e-6)
    return (kernel * (_N / scale)).round().clamp(-_N, _N).to(torch.int8), scale


def _decode(codes: Tensor, scale: Tensor) -> Tensor:
    # In double, so that the largest comes out as the scale itself, and twice is as once.
    return (codes.double() * scale.double() / _N).to(scale.dtype)
