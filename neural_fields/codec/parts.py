"""A video field's parameters as pictures of whole numbers, in the order of coding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from neural_fields.architectures.pyramid import PyramidTrunk
from neural_fields.codec.quantiser import Quantiser, rounded
from neural_fields.errors import InputError
from neural_fields.fields import AnyVideo, FramesField, VideoField

_HEAD_BITS = 8  # of the layers that make pictures, whatever the others have, as published


@dataclass(frozen=True)
class Steps:
    """What one unit of a whole number is worth.

    Attributes:
        motion: pixels.
        modulation: of scales and shifts.
        network: of matrices and biases.
    """

    motion: float = 0.5
    modulation: float = 1 / 32
    network: float = 1 / 64


@dataclass(frozen=True)
class Rules:
    """How a field's parameters become whole numbers.

    `scales`: of a field of frames, the step of every parameter that a quantiser rounds.
    """

    quantiser: Quantiser
    steps: Steps = Steps()
    scales: tuple[float | Tensor, ...] = ()


@dataclass(frozen=True)
class Part:
    """A parameter of a field, and what its numbers stand for.

    Attributes:
        view: of it, [moments, height, width, channels].
        back: from such numbers to the parameter's shape.
        rest: what 0 stands for.
        quantiser: None: numbers are rounded and have no bounds.
        step: what one unit is worth; of a quantiser, of its features.
        nested: whether it is a grid whose finer neighbour comes next.
    """

    view: Tensor
    back: Callable[[Tensor], Tensor]
    rest: Tensor | float = 0.0
    quantiser: Quantiser | None = None
    step: float | Tensor = 1.0
    nested: bool = False

    def numbers(self, generator: torch.Generator | None = None) -> Tensor:
        """The whole numbers, as floats, gradients straight through; with noise instead."""
        entries = (self.view - self.rest) / self.step
        if self.quantiser is None:
            return rounded(entries)
        if generator is not None:
            return self.quantiser.noisy(entries, generator)
        return self.quantiser.numbers(entries)

    def values(self, numbers: Tensor) -> Tensor:
        """What the view holds for these numbers."""
        features = numbers if self.quantiser is None else self.quantiser.features(numbers)
        return features * self.step + self.rest


def parts_of(field: AnyVideo, rules: Rules) -> list[Part]:
    """All parameters of a field, once each.

    Raises:
        InputError: fields of this architecture have no such form.
    """
    return _of_frames(field, rules) if isinstance(field, FramesField) else _of_grids(field, rules)


def _of_grids(field: VideoField, rules: Rules) -> list[Part]:
    """Grids from the coarsest to the finest, then displacements, modulation and network."""
    trunk, steps = field.trunk, rules.steps
    if not isinstance(trunk, PyramidTrunk):
        raise InputError(
            f"compress: needs a field of the architecture pyramid, got {field.architecture}."
        )
    numbers = reversed(range(len(trunk.sides)))
    parts = [
        Part(trunk.level(number), _as(trunk.tables[number]), 0.0, rules.quantiser, nested=True)
        for number in numbers
    ]
    if field.motion is not None:
        parts.append(Part(field.motion, _as(field.motion), step=steps.motion))
    if field.modulation is not None:
        grid = field.modulation.grid
        n_moments, n = grid.shape
        rest = torch.cat([torch.ones(n // 2), torch.zeros(n // 2)]).view(1, 1, n, 1)
        parts.append(Part(grid.view(n_moments, 1, n, 1), _as(grid), rest, step=steps.modulation))
    params = trunk.mlp.params
    parts.append(Part(params.view(1, 1, -1, 1), _as(params), step=steps.network))
    return parts


def _of_frames(field: FramesField, rules: Rules) -> list[Part]:
    """Every parameter by the quantiser, with a step of its own where that has steps."""
    names = [name for name, _ in field.named_parameters()]
    scales = rules.scales or (1.0,) * len(names)
    if len(scales) != len(names):
        raise InputError(f"a field of frames needs {len(names)} steps, got {len(scales)}.")
    heads = Quantiser(rules.quantiser.rule, max(_HEAD_BITS, rules.quantiser.bits))
    parts = []
    for (name, parameter), scale in zip(field.named_parameters(), scales, strict=True):
        is_head = name.startswith(("decoder.lookups", "decoder.picture"))
        quantiser = heads if is_head else rules.quantiser
        view, back, rest = _seen(name, parameter)
        parts.append(Part(view, back, rest, quantiser, scale))
    return parts


def _seen(
    name: str, parameter: Tensor
) -> tuple[Tensor, Callable[[Tensor], Tensor], Tensor | float]:
    """A parameter of a field of frames as pictures, the way back, and where it rests."""
    if name.startswith("decoder.grids"):
        return parameter.permute(0, 2, 3, 1), lambda seen: seen.permute(0, 3, 1, 2), 0.0
    if name.endswith("modulation"):
        n_moments, _, n = parameter.shape
        rest = torch.cat([torch.ones(n), torch.zeros(n)]).view(1, 1, 2 * n, 1)
        return parameter.view(n_moments, 1, 2 * n, 1), _as(parameter), rest
    rows = parameter.shape[0] if parameter.dim() > 1 else 1
    return parameter.view(1, rows, -1, 1), _as(parameter), 0.0


def _as(parameter: Tensor) -> Callable[[Tensor], Tensor]:
    shape = parameter.shape
    return lambda seen: seen.reshape(shape)
