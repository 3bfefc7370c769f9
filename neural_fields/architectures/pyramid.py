"""Dense grids at several resolutions and a small network: what videos are coded as."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neural_fields.architectures import (
    Architecture,
    FrameTrunk,
    Kind,
    NetworkOptions,
    Rates,
    Smoothness,
    Target,
    Trunk,
    register,
)
from neural_fields.decoders import Mlp
from neural_fields.errors import InputError
from neural_fields.ops import FrameSpec, MlpSpec, Slice, VoxelsSpec, huge_pages_empty, voxels

Treat = Callable[[int, int, Tensor], Tensor]
_COARSEST = 4  # vertices along the shorter side
# Of a video, finest first: halvings of the picture, moments as a share of the frames (0: one for
# all of them), channels. What rests is fine, what changes fast is coarse.
_VIDEO = (
    (0, 0.0, 1),
    (1, 0.0, 2),
    (2, 0.0, 2),
    (1, 1 / 16, 1),
    (2, 1 / 8, 1),
    (2, 1 / 4, 1),
    (3, 1 / 4, 2),
    (3, 1 / 2, 1),
    (4, 1.0, 2),
    (5, 1.0, 2),
)


@register
@dataclass(frozen=True)
class Pyramid(Architecture):
    """Grids without collisions, each of its own resolution along every axis.

    Attributes:
        levels: vertices per axis of each grid, which does not look at axes with one vertex.
        channels: of each grid, 1, 2, 4 or 8.
        hidden: widths of the network's hidden layers.
    """

    levels: tuple[tuple[int, ...], ...] = ((64, 64, 64), (32, 32, 32), (16, 16, 16))
    channels: tuple[int, ...] = (4, 4, 8)
    hidden: tuple[int, ...] = (32, 32)

    name = "pyramid"
    summary = "dense grids at several resolutions of space and time and a small network"

    def trunk(self, n_dims: int, n_output: int, network: NetworkOptions) -> Trunk:
        """Grids of `n_dims` axes and the network."""
        return PyramidTrunk(self, n_dims, n_output, network)

    @classmethod
    def sized(cls, target: Target, preset: str = "default") -> Pyramid:
        """Of images a vertex per pixel; of videos see docs/video.md; of scenes 128 per axis."""
        if target.kind == "video":
            width, height, n_frames = target.sides
            halved = [
                (*_halved(width, height, k), _moments(n_frames, share)) for k, share, _ in _VIDEO
            ]
            return cls(tuple(halved), tuple(channels for *_, channels in _VIDEO), (16, 16))
        if target.kind == "image":
            side = min(8192, max(16, target.finest))
            sides = [max(_COARSEST, side >> k) for k in range(6)]
            return cls(tuple((n, n) for n in sides), (1, 1, 2, 4, 4, 4), (64, 64))
        side = 2 ** min(7, max(5, round(math.log2(max(target.finest, 1)))))
        return cls(
            tuple((side >> k,) * target.n_dims for k in range(4)), (4, 4, 4, 4), hidden=(64, 64)
        )

    @classmethod
    def rates(cls, kind: Kind, preset: str = "default") -> Rates:
        """Those of dense grids, whose entries see few samples each."""
        if kind == "video":
            return Rates(5e-3, 2e-2, final=0.02, batch=1 << 18)
        return Rates(1e-2, 3e-2, final=0.03)


def _halved(width: int, height: int, times: int) -> tuple[int, int]:
    sides = [max(1, math.ceil(side / 2**times)) for side in (width, height)]
    return max(_COARSEST, sides[0]), max(_COARSEST, sides[1])


def _moments(n_frames: int, share: float) -> int:
    """Vertices of time; linear interpolation between two at least, unless nothing changes."""
    return 1 if share == 0 or n_frames == 1 else min(n_frames, max(2, round(n_frames * share)))


class PyramidTrunk(Trunk):
    """See `Pyramid`."""

    def __init__(
        self, config: Pyramid, n_dims: int, n_output: int, network: NetworkOptions
    ) -> None:
        super().__init__()
        if len(config.levels) != len(config.channels):
            raise InputError(
                f"config: pyramid needs as many channels as levels, got {len(config.channels)} for "
                f"{len(config.levels)}."
            )
        self.sides = config.levels
        self._axes = [
            [axis for axis, side in enumerate(sides) if side > 1] for sides in config.levels
        ]
        for sides, axes in zip(self.sides, self._axes, strict=True):
            if len(sides) != n_dims or not {0, 1} <= set(axes):
                raise InputError(
                    f"config: a level of a pyramid needs {n_dims} sides, of which the first two "
                    f"have 2 vertices or more, got {sides}."
                )
        self._specs = [
            VoxelsSpec(tuple(sides[axis] for axis in axes), channels)
            for sides, axes, channels in zip(self.sides, self._axes, config.channels, strict=True)
        ]
        self.tables = nn.ParameterList(
            huge_pages_empty((spec.n_vertices, spec.n_channels)) for spec in self._specs
        )
        self.grids = frozenset(f"tables.{name}" for name, _ in self.tables.named_parameters())
        widths = (sum(config.channels), *config.hidden, n_output)
        self.mlp = Mlp(MlpSpec(widths, biases=True, **network._asdict()))
        self.n_modulated = len(config.hidden)
        self.hidden_channels = sum(config.hidden)

    @property
    def smoothness(self) -> Smoothness:
        """That of linear interpolation, and of the network."""
        return Smoothness.of_grid().through(self.mlp.spec)

    def reset(self, generator: torch.Generator) -> None:
        """Entries uniform in +-0.1, matrices as in `Mlp`."""
        with torch.no_grad():
            for table in self.tables:
                table.uniform_(-0.1, 0.1, generator=generator)
        self.mlp.reset(generator)

    def forward(
        self, positions: Tensor, scale: Tensor | None = None, shift: Tensor | None = None
    ) -> Tensor:
        """Twice differentiable in positions as far as linear interpolation is."""
        features = [
            voxels(torch.stack([positions[:, axis] for axis in axes], 1), table, spec)
            for axes, table, spec in zip(self._axes, self.tables, self._specs, strict=True)
        ]
        return self.mlp.forward(torch.cat(features, 1), scale, shift)

    def frame(self, time: float, treat: Treat | None = None) -> FrameTrunk | None:
        """Every level's slice between the two vertices of time around it.

        `treat` changes what is looked at, called with a level's number, its first vertex of time
        and the one or two moments from there, [moments, height, width, channels].
        """
        spec = self.mlp.spec
        if self.mlp.params.device.type != "cpu":
            return None
        if spec.precision != "float32" or spec.normalize or any(len(s) != 3 for s in self.sides):
            return None
        slices = tuple(self._slice(number, time, treat) for number in range(len(self.sides)))
        levels = tuple(
            (sides[0], sides[1], of.n_channels)
            for sides, of in zip(self.sides, self._specs, strict=True)
        )
        return FrameTrunk(FrameSpec(levels, spec), slices, self.mlp.params)

    def level(self, number: int) -> Tensor:
        """A view of a level's entries, [moments, height, width, channels]."""
        width, height, n_moments = self.sides[number]
        table: Tensor = self.tables[number]
        return table.view(n_moments, height, width, -1)

    def _slice(self, number: int, time: float, treat: Treat | None) -> Slice:
        """A level at a time in [0, 1]."""
        moments = self.level(number)
        first, share = around(len(moments), time)
        seen = moments[first : first + (1 if share == 0 else 2)]
        if treat is not None:
            seen = treat(number, first, seen)
        return Slice(seen, share)


def around(n_moments: int, time: float) -> tuple[int, float]:
    """The vertex of time at or before a time in [0, 1], and the share of the next one.

    Example:
        >>> around(5, 0.375), around(5, 1.0), around(1, 0.7)
        ((1, 0.5), (3, 1.0), (0, 0.0))
    """
    at = time * (n_moments - 1)
    first = min(int(at), max(0, n_moments - 2))
    return first, at - first
