"""A group of pictures as bytes: the whole numbers of a video field, and the field of such bytes.

Layout: the lengths of description and tables as two little-endian 32-bit numbers, both deflated;
then the entropy coder's words. The description is one JSON list; `parts` says what is coded.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neural_fields.codec.entropy import N_TABLES, CodedGrid, Reader, Writer, hint_for
from neural_fields.codec.parts import Part, Rules, Steps, parts_of
from neural_fields.codec.quantiser import Quantiser
from neural_fields.codec.tables import Numbers
from neural_fields.decoders.frames import FrameNetwork
from neural_fields.errors import InputError
from neural_fields.fields import AnyVideo, FramesConfig, FramesField, VideoConfig, VideoField

_LENGTHS = struct.Struct("<II")
_MOST_DESCRIPTION = 1 << 20  # bytes, inflated
_MOST_NUMBERS = 1 << 26  # of a group; what decodes them takes less than 3 GB
_MOST_PIXELS = 1 << 25  # of a frame: 8K

Shape = tuple[int, int, int, int]
AnyConfig = VideoConfig | FramesConfig


def numbers_of(field: AnyVideo, rules: Rules) -> list[Numbers]:
    """A field's parameters as whole numbers, in the order of coding, [moments, y, x, channels]."""
    parts = parts_of(field, rules)
    return [part.numbers().detach().numpy().astype(np.int64) for part in parts]


@torch.no_grad()
def field_of(config: AnyConfig, numbers: list[Numbers], rules: Rules) -> AnyVideo:
    """The field that whole numbers stand for."""
    field = _blank(config)
    for part, values in zip(parts_of(field, rules), numbers, strict=True):
        part.view.copy_(part.values(torch.from_numpy(values).float()))
    return field


def _blank(config: AnyConfig) -> AnyVideo:
    if isinstance(config, FramesConfig):
        return FramesField(config, seed=None)
    return VideoField(config, seed=None)


def encode_group(config: AnyConfig, numbers: list[Numbers], rules: Rules) -> bytes:
    """The bytes of a group."""
    writer = Writer()
    coded: list[CodedGrid] = []
    below: Numbers | None = None
    for part, values in zip(_parts(config, rules), numbers, strict=True):
        hint = hint_for(_shape(values), below) if part.nested and below is not None else None
        coded.append(writer.add(values, hint))
        below = values
    steps = rules.steps
    description = json.dumps(
        [
            config.to_dict(),
            [rules.quantiser.rule, rules.quantiser.bits],
            [steps.motion, steps.modulation, steps.network, *rules.scales],
            [grid.way for grid in coded],
        ],
        separators=(",", ":"),
    )
    tables = b"".join(
        struct.pack("<H", len(table)) + table for grid in coded for table in grid.tables
    )
    parts = [zlib.compress(description.encode(), 9), zlib.compress(tables, 9)]
    return b"".join([_LENGTHS.pack(*map(len, parts)), *parts, writer.data()])


def check_size(config: AnyConfig) -> None:
    """Raises InputError where a group would be more than a decoder takes, before any memory is."""
    if config.width * config.height > _MOST_PIXELS:
        raise InputError(
            f"a frame of {config.width}x{config.height}: needs at most {_MOST_PIXELS} pixels; "
            "use --downscale."
        )
    with torch.device("meta"):
        n_params = _blank(config).n_params
    if n_params > _MOST_NUMBERS:
        raise InputError(
            f"a group of {config.n_frames} frames of {config.width}x{config.height}: needs at most "
            f"{_MOST_NUMBERS} numbers, got {n_params}; use --downscale."
        )


def _parts(config: AnyConfig, rules: Rules) -> list[Part]:
    """Those of a field of this configuration, which have shapes and no memory."""
    with torch.device("meta"):
        return parts_of(_blank(config), rules)


def decode_group(data: bytes) -> AnyVideo:
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


def _decoded(data: bytes) -> AnyVideo:
    n_description, n_tables = _LENGTHS.unpack_from(data)
    at = _LENGTHS.size
    description = json.loads(_inflated(data[at : at + n_description]))
    tables = _inflated(data[at + n_description : at + n_description + n_tables])
    words = data[at + n_description + n_tables :]
    parts, (rule, bits), steps, ways = description
    config = _config_of(parts)
    check_size(config)
    worth = [_positive(step) for step in steps]
    rules = Rules(Quantiser(rule, bits), Steps(*worth[:3]), tuple(worth[3:]))
    wanted = _parts(config, rules)
    reader = Reader(words[: len(words) // 4 * 4])
    numbers: list[Numbers] = []
    for part, coded in zip(wanted, _split_tables(tables, ways), strict=True):
        shape = _shape(part.view)
        hint = hint_for(shape, numbers[-1]) if part.nested and numbers else None
        numbers.append(reader.read(shape, coded, hint))
    return field_of(config, numbers, rules)


def _config_of(data: dict[str, Any]) -> AnyConfig:
    whole = data["architecture"]["name"] == FrameNetwork.name
    return FramesConfig.from_dict(data) if whole else VideoConfig.from_dict(data)


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
