"""What an architecture is: plain data that make a trunk, positions in a cube to numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn

from neural_fields.decoders import Head
from neural_fields.errors import InputError
from neural_fields.ops import FrameSpec, HashGridSpec, MlpSpec, Precision, Slice

Kind = Literal["image", "radiance", "sdf", "video"]


class Target(NamedTuple):
    """What an architecture is sized for.

    Attributes:
        kind: of the field.
        n_dims: of its positions, 2 to 4.
        finest: pixels or voxels that the data resolve along the cube's side.
        scale: the cube's side over that of what is seen best, a power of two (aabb_scale).
        sides: of a video, what it covers: width and height in pixels, and frames.
    """

    kind: Kind
    n_dims: int
    finest: int
    scale: int = 1
    sides: tuple[int, int, int] = (1, 1, 1)


class Rates(NamedTuple):
    """How a trunk likes to be trained.

    Attributes:
        network: learning rate of matrices and biases at the start.
        grid: the same of grids, which get no weight decay.
        final: all at the end, as a share of the start.
        batch: pixels or samples per step.
        seconds: of training where no budget is given; None: what the kind of field takes.
        taught: factor of the rates for a student of another field, whose answers have no noise;
            not of that of `matrices`.
        matrices: root mean square of an orthogonal step of the matrices; 0: Adam moves them.
    """

    network: float
    grid: float
    final: float
    batch: int = 1 << 16
    seconds: float | None = None
    taught: float = 1.0
    matrices: float = 0.0


class Spectral(NamedTuple):
    """A parameter that sets which frequencies a field learns first; what FreSh chooses.

    Attributes:
        path: of the parameter in the configuration; a dot leads into a part.
        default: its value, the published one unless a person chose another; None where that is
            no value of the list's kind.
        candidates: ascending.
        n_bins: of pictures' spectra, cycles per side; scenes take half.
        gain: factor of the grids while spectra are measured, where they start too small for that.
        lowest: no smaller value is tried when candidates are added.
        highest: no larger one.
        whole: whether values are whole numbers.
        caution: what is known against the choice, said with it.
    """

    path: str
    default: float | None
    candidates: tuple[float, ...]
    n_bins: int = 128
    gain: float = 1.0
    lowest: float = 0.0
    highest: float = math.inf
    whole: bool = False
    caution: str = ""


def octave_candidates(first: int, last: int) -> tuple[float, ...]:
    """Powers of two from one to another.

    Example:
        >>> octave_candidates(32, 128)
        (32.0, 64.0, 128.0)
    """
    return tuple(float(1 << k) for k in range(int(math.log2(first)), int(math.log2(last)) + 1))


class NetworkOptions(NamedTuple):
    """What the field wants of a trunk's networks.

    Attributes:
        precision: of products, see `MlpSpec`.
        normalize: hidden rows, as coordinate-aware modulation wants it.
    """

    precision: Precision = "float32"
    normalize: bool = False


class Smoothness(NamedTuple):
    """How smooth values are as a function of position, inside the cube.

    Attributes:
        continuous: how many derivatives are continuous everywhere: 0 where there are kinks,
            math.inf where there are none of any order.
        curved: whether second derivatives between kinks are the field's own; those of linearly
            interpolated grids are zero or miss terms there.
        advice: what to do where they are not.
    """

    continuous: float
    curved: bool = True
    advice: str = ""

    @classmethod
    def of_grid(
        cls,
        interpolation: str = "linear",
        advice: str = "fit it as siren, or as hash with interpolation smoothstep",
    ) -> Smoothness:
        """Of a grid's features."""
        return cls(1) if interpolation == "smoothstep" else cls(0, False, advice)

    def through(self, network: MlpSpec) -> Smoothness:
        """Of a network's values, whose inputs are as smooth as this."""
        if network.n_hidden_layers == 0:
            return self
        kinks = {"relu": 0, "finer": 1, "finer-detached": 1}  # z |z| bends anew at 0
        return self._replace(continuous=min(self.continuous, kinks.get(network.hidden, math.inf)))


class FusedTrunk(NamedTuple):
    """A trunk as csrc/fused knows it: a hash grid's table and a network's parameters."""

    grid: HashGridSpec
    network: MlpSpec
    table: Tensor
    params: Tensor


class FrameTrunk(NamedTuple):
    """A trunk of three axes at one value of the third, as csrc/fused knows it (see `ops.frame`)."""

    spec: FrameSpec
    slices: tuple[Slice, ...]
    params: Tensor

    @property
    def grids(self) -> Tensor:
        """All levels as `ops.frame` has them."""
        return torch.cat([each.between.reshape(-1) for each in self.slices])


class Answer(NamedTuple):
    """What another field says at n positions, as a trunk would: its first k outputs.

    values [n, k], k at least 1; known [n], where that means anything.
    """

    values: Tensor
    known: Tensor


Ask = Callable[[Tensor], Answer]  # of positions [n, n_dims] in the cube


class Trunk(nn.Module):
    """Positions [n, n_dims] in [0, 1] to values [n, n_output]; the module of an architecture.

    Parameters are made without values, so that a file's shapes can be compared on the device
    `meta`; `reset` draws the values that training starts from.

    Attributes:
        grids: names of the parameters that are grids; the others are networks.
        n_modulated: hidden layers that coordinate-aware modulation may act on.
        hidden_channels: the channels of all of them, where `frame` has a form.
        sees_variances: whether `forward` takes what positions stand for, not points alone.
        n_harmonics: coefficients per colour that `density_and_color` has, 0 where it has none.
        start_step: the step before which trainers call `start`; None: never.
    """

    grids: frozenset[str] = frozenset()
    n_modulated: int = 0
    hidden_channels: int = 0
    sees_variances: bool = False
    n_harmonics: int = 0
    start_step: int | None = None

    @property
    def smoothness(self) -> Smoothness:
        """How smooth values are in position: to any order unless a trunk says otherwise."""
        return Smoothness(math.inf)

    def reset(self, generator: torch.Generator) -> None:
        """Draw the parameters."""
        raise NotImplementedError

    def forward(
        self, positions: Tensor, scale: Tensor | None = None, shift: Tensor | None = None
    ) -> Tensor:
        """Values [n, n_output] of positions [n, n_dims]; positions outside are clamped.

        Where n_modulated > 0, scale and shift [n, n_modulated] act on the hidden layers.
        """
        raise NotImplementedError

    def start(
        self, positions: Tensor, targets: Tensor | None, generator: torch.Generator
    ) -> frozenset[str]:
        """Start over from the data; the names of the parameters that were drawn anew.

        `targets` [n, n_output] are what `forward` should give at positions [n, n_dims], or None.
        """
        return frozenset()

    def start_as(self, ask: Ask, generator: torch.Generator) -> frozenset[str]:
        """Start as another field, in closed form; the names of the parameters that were set.

        Those of architectures that have such a form; the others stay as they are.
        """
        return frozenset()

    def density_and_color(self, positions: Tensor, directions: Tensor | None) -> Tensor:
        """[n, 4]: log-density and colours before the sigmoid, of architectures that have them."""
        raise NotImplementedError

    def fused(self) -> FusedTrunk | None:
        """The trunk as csrc/fused knows it; None where it has no such form."""
        return None

    def frame(self, time: float) -> FrameTrunk | None:
        """The trunk where the third of three coordinates is a time in [0, 1]; None as above."""
        return None


@dataclass(frozen=True)
class Architecture:
    """Base class of configurations: a frozen dataclass of plain data, see docs/architectures.md.

    Attributes:
        name: what --field and files call it; the name of its module.
        summary: one line for people.
        sees_time: whether the fourth of four dimensions is the time of a field that moves.
        presets: names of sizes besides `default`, with what they are.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    sees_time: ClassVar[bool] = False
    presets: ClassVar[Mapping[str, str]] = MappingProxyType({})

    @property
    def has_color(self) -> bool:
        """Whether its trunk has `density_and_color` and needs no colour head."""
        return False

    def trunk(self, n_dims: int, n_output: int, network: NetworkOptions) -> Trunk:
        """The module, with parameters that have no values yet.

        Where `has_color`, n_output 0 asks for a radiance field's density and colours.
        """
        raise NotImplementedError

    @classmethod
    def sized(cls, target: Target, preset: str = "default") -> Self:
        """The configuration for what is to be fitted."""
        raise NotImplementedError

    @classmethod
    def rates(cls, kind: Kind, preset: str = "default") -> Rates:
        """How it likes to be trained."""
        raise NotImplementedError

    @classmethod
    def color_head(cls, preset: str = "default") -> Head:
        """The colour branch of radiance fields: one for all but for a paper's sizes."""
        return Head()

    def spectral(self) -> tuple[Spectral, ...]:
        """The parameters that set its frequencies, the one that is chosen first in front."""
        return ()

    def with_value(self, path: str, value: object) -> Self:
        """A copy with another value of a parameter; a dot in `path` leads into a part.

        Raises:
            InputError: the value is out of range.
        """
        name, _, rest = path.partition(".")
        if rest:
            value = replace(getattr(self, name), **{rest: value})
        return replace(self, **{name: value})

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `architectures.from_dict` is the inverse."""
        return {"name": self.name, **asdict(self)}


def lattice(sides: Sequence[int]) -> Tensor:
    """Positions [n, n_dims] of a grid's vertices in the cube, the first axis fastest.

    Example:
        >>> lattice((2, 3))[:3]
        tensor([[0.0000, 0.0000],
                [1.0000, 0.0000],
                [0.0000, 0.5000]])
    """
    axes = [torch.linspace(0, 1, side) for side in reversed(sides)]
    grid = torch.meshgrid(*axes, indexing="ij")
    return torch.stack([axis.reshape(-1) for axis in reversed(grid)], 1)


def checked_keys(owner: type, data: object) -> dict[str, Any]:
    """The data as a dictionary with exactly the keys of a dataclass; lists become tuples.

    Raises:
        InputError: keys are unknown or missing, or the data are no dictionary.
    """
    names = {entry.name for entry in fields(owner)}
    if not isinstance(data, dict) or set(data) != names:
        got = sorted(data) if isinstance(data, dict) else type(data).__name__
        raise InputError(f"config: {owner.__name__} needs the keys {sorted(names)}, got {got}.")
    return {key: _tuples(value) for key, value in data.items()}


def _tuples(value: object) -> object:
    return tuple(_tuples(entry) for entry in value) if isinstance(value, list) else value
