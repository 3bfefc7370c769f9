"""Whole frames from a time: grids of time and a convolutional network (FFNeRV, with CAM)."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from neural_fields.errors import InputError
from neural_fields.ops import vector

_MOST = 1 << 16  # of any size
_GROUPS = 8  # of a compact block's first convolution
_WIDEST = 5  # stride whose blocks are never compact, as published


@dataclass(frozen=True)
class FrameNetwork:
    """Sizes of the network, by default those of the published runs at 1280x720.

    Attributes:
        start: height and width of the grids.
        moments: vertices of time of each grid.
        channels: of all grids together.
        strides: by which each block enlarges the picture.
        expansion: channels of the first block, as a share of the grids'.
        narrowest: channels that no later block, each half of the one before, falls below.
        compact: whether blocks are a grouped convolution and a product per pixel.
        neighbours: frames around, counted from the one that is shown, that it is also made of.
    """

    start: tuple[int, int] = (9, 16)
    moments: tuple[int, ...] = (64, 128, 256, 512)
    channels: int = 156
    strides: tuple[int, ...] = (5, 2, 2, 2, 2)
    expansion: float = 1.0
    narrowest: int = 96
    compact: bool = False
    neighbours: tuple[int, ...] = (-2, -1, 0, 1, 2)

    name: ClassVar[str] = "ffnerv"

    def __post_init__(self) -> None:
        for name in ("start", "moments", "strides"):
            sizes = getattr(self, name)
            if not sizes or not all(isinstance(n, int) and 1 <= n <= _MOST for n in sizes):
                raise InputError(f"config: {name} needs numbers of 1 to {_MOST}, got {sizes}.")
        if len(self.start) != 2:
            raise InputError(f"config: start needs a height and a width, got {self.start}.")
        if not self.moments or self.channels % len(self.moments) or not 1 <= self.channels <= _MOST:
            raise InputError(
                f"config: channels needs a multiple of the {len(self.moments)} grids, got "
                f"{self.channels}."
            )
        if not 1 <= self.narrowest <= _MOST or not 0 < self.expansion <= 64:
            raise InputError("config: narrowest and expansion need positive numbers.")
        if 0 not in self.neighbours or not all(abs(n) <= _MOST for n in self.neighbours):
            raise InputError(f"config: neighbours needs 0 among them, got {self.neighbours}.")
        if math.prod(self.strides) * max(self.start) > _MOST:
            raise InputError("config: start and strides make a picture that is too large.")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, the name among them."""
        return {"name": self.name, **asdict(self)}

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what it makes, pixels."""
        scale = math.prod(self.strides)
        return self.start[0] * scale, self.start[1] * scale

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels behind each block."""
        widths = [max(1, int(self.channels * self.expansion))]
        for stride in self.strides[1:]:
            widths.append(max(widths[-1] // (1 if stride == 1 else 2), self.narrowest))
        return tuple(widths)

    @property
    def flow_block(self) -> int:
        """The block that says where neighbours are looked up: two before the last."""
        return max(0, len(self.strides) - 3)


class Raw(NamedTuple):
    """What the network says of one moment.

    independent [3, height, width] in [0, 1]; lookups [3 neighbours, h, w]: x and y of every
    neighbour's displacement in its own pixels, then the weights' logits; blend [2, height, width]:
    logits of the independent and of the aggregated picture.
    """

    independent: Tensor
    lookups: Tensor
    blend: Tensor


class _Convolution(nn.Module):
    """Weights and biases that have no values until they are drawn."""

    def __init__(self, n_in: int, n_out: int, side: int, groups: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_out, n_in // groups, side, side))
        self.bias = nn.Parameter(torch.empty(n_out))
        self._groups = groups

    def reset(self, generator: torch.Generator) -> None:
        """Uniform within one over the root of the inputs, torch's own start."""
        bound = 1 / math.sqrt(self.weight[0].numel())
        with torch.no_grad():
            self.weight.uniform_(-bound, bound, generator=generator)
            self.bias.uniform_(-bound, bound, generator=generator)

    def forward(self, values: Tensor) -> Tensor:
        side = self.weight.shape[-1]
        return functional.conv2d(
            values, self.weight, self.bias, padding=side // 2, groups=self._groups
        )


class _Block(nn.Module):
    """Convolution, more pixels for fewer channels, modulation by time, GELU."""

    def __init__(self, n_in: int, n_out: int, stride: int, compact: bool, moments: int) -> None:
        """`moments` of the modulation; 0: none."""
        super().__init__()
        self._stride = stride
        wide = n_out * stride**2
        compact = compact and stride != _WIDEST
        groups = math.gcd(_GROUPS, math.gcd(n_in, wide)) if compact else 1
        self.spread = _Convolution(n_in, wide, 3, groups)
        self.mixed = _Convolution(wide, wide, 1) if compact else None
        self.modulation: nn.Parameter | None = None
        if moments > 0:
            self.modulation = nn.Parameter(torch.empty(moments, 2, n_out))

    def reset(self, generator: torch.Generator) -> None:
        self.spread.reset(generator)
        if self.mixed is not None:
            self.mixed.reset(generator)
        if self.modulation is not None:
            with torch.no_grad():
                self.modulation[:, 0] = 1
                self.modulation[:, 1] = 0

    def forward(self, values: Tensor, time: float) -> Tensor:
        values = self.spread(values)
        if self.mixed is not None:
            values = self.mixed(values)
        values = functional.pixel_shuffle(values, self._stride)
        if self.modulation is not None:
            scale, shift = between(self.modulation, time * (len(self.modulation) - 1))
            values = functional.group_norm(values, values.shape[1], scale, shift)
        return functional.gelu(values)


class FrameDecoder(nn.Module):
    """A time to everything that its frame is made of.

    Grids of time, whose slices side by side are a small picture, go through blocks that enlarge it.
    With modulation every block's channels have mean 0 and variance 1 over the picture and then a
    scale and a shift that depend on time.

    Source: Lee et al., FFNeRV, 2022, and Coordinate-Aware Modulation, 2024, section 3.4, both by
    their code. Once differentiable in the parameters.

    Example:
        >>> sizes = FrameNetwork((3, 4), (2, 4), 8, (2, 2), narrowest=4)
        >>> decoder = FrameDecoder(sizes, modulation_moments=3)
        >>> decoder.reset(torch.Generator().manual_seed(0))
        >>> decoder(0.5).independent.shape
        torch.Size([3, 12, 16])
    """

    def __init__(self, sizes: FrameNetwork, modulation_moments: int = 0) -> None:
        super().__init__()
        self.sizes = sizes
        share = sizes.channels // len(sizes.moments)
        self.grids = nn.ParameterList(
            torch.empty(moments, share, *sizes.start) for moments in sizes.moments
        )
        widths = (sizes.channels, *sizes.widths)
        self.blocks = nn.ModuleList(
            _Block(n_in, n_out, stride, sizes.compact, modulation_moments)
            for n_in, n_out, stride in zip(widths[:-1], widths[1:], sizes.strides, strict=True)
        )
        n_lookups = 3 * len(sizes.neighbours)
        self.lookups = _Convolution(sizes.widths[sizes.flow_block], n_lookups, 1)
        self.picture = _Convolution(sizes.widths[-1], 5, 1)

    def reset(self, generator: torch.Generator) -> None:
        """Grids as Glorot and Bengio 2010, convolutions as torch, scales 1 and shifts 0."""
        with torch.no_grad():
            for grid in self.grids:
                rest = grid[0, 0].numel()
                bound = math.sqrt(6 / ((grid.shape[0] + grid.shape[1]) * rest))
                grid.uniform_(-bound, bound, generator=generator)
        for part in (*self.blocks, self.lookups, self.picture):
            part.reset(generator)

    def forward(self, time: float) -> Raw:
        """`time` in [0, 1), a frame's number over how many there are."""
        slices = [between(grid, time * len(grid)) for grid in self.grids]
        values = torch.cat(slices)[None]
        lookups = values
        for number, block in enumerate(self.blocks):
            values = block(values, time)
            if number == self.sizes.flow_block:
                lookups = self.lookups(values)[0]
        last = self.picture(values)[0]
        return Raw(torch.sigmoid(last[:3]), lookups, last[3:])


def between(moments: Tensor, at: float) -> Tensor:
    """The entry of [moments, ...] at a number, linear between whole ones, the last one beyond.

    Example:
        >>> between(torch.tensor([0.0, 2.0]), 0.25), between(torch.tensor([0.0, 2.0]), 1.5)
        (tensor(0.5000), tensor(2.))
    """
    first = min(int(at + 1e-6), len(moments) - 1)
    after = min(first + 1, len(moments) - 1)
    share = min(1.0, max(0.0, at - first))
    return torch.lerp(moments[first], moments[after], share)


def aggregated(raw: Raw, neighbours: Tensor, known: list[bool]) -> tuple[Tensor, Tensor]:
    """What a frame's neighbours show of it, and the frame.

    Args:
        raw: of the frame.
        neighbours: [n, 3, height, width] independent pictures, one per lookup.
        known: which of them exist; the others have no part in it. One does.

    Returns:
        Two pictures [3, height, width].
    """
    n, _, height, width = neighbours.shape
    lookups = functional.interpolate(
        raw.lookups[None], (height, width), mode="bilinear", align_corners=False
    )[0]
    scale = height / raw.lookups.shape[1]
    flows = lookups[: 2 * n].view(n, 2, height, width).permute(0, 2, 3, 1) * scale
    y = (torch.arange(height, dtype=flows.dtype, device=flows.device) + 0.5)[:, None]
    x = torch.arange(width, dtype=flows.dtype, device=flows.device) + 0.5
    here = torch.stack([x.expand(height, width), y.expand(height, width)], -1)
    places = (flows + here) * (2 / vector((width, height), flows)) - 1
    moved = functional.grid_sample(neighbours, places, padding_mode="border", align_corners=False)
    missing = vector([0.0 if each else -math.inf for each in known], flows)
    logits = lookups[2 * n :] + missing[:, None, None]
    together = (moved * torch.softmax(logits, 0)[:, None]).sum(0)
    weights = torch.softmax(raw.blend, 0)
    return together, weights[0] * raw.independent + weights[1] * together
