"""A group of pictures as bytes: the whole numbers of a video field, and the field of such bytes.

Layout: the lengths of description and tables as two little-endian 32-bit numbers, both deflated;
then the entropy coder's words. The description is one JSON list. Grids are coded from the coarsest
to the finest, then displacements, modulation and network.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neural_fields.architectures.pyramid import PyramidTrunk
from neural_fields.codec.entropy import N_TABLES, CodedGrid, Reader, Writer, hint_for
from neural_fields.codec.quantiser import Quantiser
from neural_fields.codec.tables import Numbers
from neural_fields.errors import InputError
from neural_fields.fields import VideoConfig, VideoField

_LENGTHS = struct.Struct("<II")
_MOST_DESCRIPTION = 1 << 20  # bytes, inflated
_MOST_NUMBERS = 1 << 28  # of a group

Shape = tuple[int, int, int, int]


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
    """How a field's parameters become whole numbers."""

    quantiser: Quantiser
    steps: Steps = Steps()


def numbers_of(field: VideoField, rules: Rules) -> list[Numbers]:
    """A field's parameters as whole numbers, in the order of coding, [moments, y, x, channels]."""
    found = [rules.quantiser.numbers(level) for level in _levels(field)]
    found += [
        torch.round((tensor.detach() - rest) / step) for tensor, rest, step in _others(field, rules)
    ]
    return [part.detach().numpy().astype(np.int64) for part in found]


@torch.no_grad()
def field_of(config: VideoConfig, numbers: list[Numbers], rules: Rules) -> VideoField:
    """The field that whole numbers stand for."""
    field = VideoField(config, seed=None)
    levels = _levels(field)
    for level, values in zip(levels, numbers, strict=False):
        level.copy_(rules.quantiser.features(torch.from_numpy(values).float()))
    for (tensor, rest, step), values in zip(
        _others(field, rules), numbers[len(levels) :], strict=True
    ):
        tensor.copy_(torch.from_numpy(values).float() * step + rest)
    return field


def _levels(field: VideoField) -> list[Tensor]:
    """Views of the grids, coarsest first."""
    trunk = field.trunk
    if not isinstance(trunk, PyramidTrunk):
        raise InputError(
            f"compress: needs a field of the architecture pyramid, got {field.architecture}."
        )
    return [trunk.level(number) for number in reversed(range(len(trunk.sides)))]


def _others(field: VideoField, rules: Rules) -> list[tuple[Tensor, Tensor | float, float]]:
    """Views [moments, y, x, channels], what they are at rest, and their steps."""
    assert isinstance(field.trunk, PyramidTrunk)
    views: list[tuple[Tensor, Tensor | float, float]] = []
    if field.motion is not None:
        views.append((field.motion, 0.0, rules.steps.motion))
    if field.modulation is not None:
        grid = field.modulation.grid
        n_moments, n = grid.shape
        rest = torch.cat([torch.ones(n // 2), torch.zeros(n // 2)])
        views.append((grid.view(n_moments, 1, n, 1), rest.view(1, 1, n, 1), rules.steps.modulation))
    params = field.trunk.mlp.params
    views.append((params.view(1, 1, -1, 1), 0.0, rules.steps.network))
    return views


def encode_group(config: VideoConfig, numbers: list[Numbers], rules: Rules) -> bytes:
    """The bytes of a group."""
    writer = Writer()
    coded: list[CodedGrid] = []
    below: Numbers | None = None
    n_levels = len(config.architecture.to_dict()["levels"])
    for index, values in enumerate(numbers):
        hint = hint_for(_shape(values), below) if below is not None and index < n_levels else None
        coded.append(writer.add(values, hint))
        below = values
    steps = rules.steps
    description = json.dumps(
        [
            config.to_dict(),
            [rules.quantiser.rule, rules.quantiser.bits],
            [steps.motion, steps.modulation, steps.network],
            [grid.way for grid in coded],
        ],
        separators=(",", ":"),
    )
    tables = b"".join(
        struct.pack("<H", len(table)) + table for grid in coded for table in grid.tables
    )
    parts = [zlib.compress(description.encode(), 9), zlib.compress(tables, 9)]
    return b"".join([_LENGTHS.pack(*map(len, parts)), *parts, writer.data()])


def decode_group(data: bytes) -> VideoField:
    """The field of a group's bytes.

    Raises:
        InputError: the bytes are not those of a group.
    """
    try:
        return _decoded(data)
    except (ValueError, TypeError, KeyError, IndexError, zlib.error, struct.error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"its content is damaged ({error}).") from error


def _decoded(data: bytes) -> VideoField:
    n_description, n_tables = _LENGTHS.unpack_from(data)
    at = _LENGTHS.size
    description = json.loads(_inflated(data[at : at + n_description]))
    tables = _inflated(data[at + n_description : at + n_description + n_tables])
    words = data[at + n_description + n_tables :]
    parts, (rule, bits), steps, ways = description
    config = VideoConfig.from_dict(parts)
    rules = Rules(Quantiser(rule, bits), Steps(*(_positive(step) for step in steps)))
    with torch.device("meta"):  # shapes before memory
        like = VideoField(config, seed=None)
        if like.n_params > _MOST_NUMBERS:
            raise ValueError(f"{like.n_params} numbers are more than a group may have")
        levels = [_shape(level) for level in _levels(like)]
        shapes = levels + [_shape(tensor) for tensor, _, _ in _others(like, rules)]
    reader = Reader(words[: len(words) // 4 * 4])
    numbers: list[Numbers] = []
    grids = _split_tables(tables, ways)
    for index, (shape, coded) in enumerate(zip(shapes, grids, strict=True)):
        hint = hint_for(shape, numbers[-1]) if 0 < index < len(levels) else None
        numbers.append(reader.read(shape, coded, hint))
    return field_of(config, numbers, rules)


def _split_tables(tables: bytes, ways: list[int]) -> list[CodedGrid]:
    grids, at = [], 0
    for way in ways:
        found = []
        for _ in range(N_TABLES):
            (n,) = struct.unpack_from("<H", tables, at)
            found.append(tables[at + 2 : at + 2 + n])
            at += 2 + n
        grids.append(CodedGrid(way, tuple(found)))
    return grids


def _inflated(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    found = inflater.decompress(data, _MOST_DESCRIPTION)
    if not inflater.eof:
        raise ValueError("a part is cut short or too long")
    return found


def _positive(value: Any) -> float:
    if not isinstance(value, int | float) or not 0 < value < 1e6:
        raise ValueError(f"a step needs a positive number, got {value!r}")
    return float(value)


def _shape(values: Tensor | Numbers) -> Shape:
    n_moments, height, width, n_channels = values.shape
    return int(n_moments), int(height), int(width), int(n_channels)
