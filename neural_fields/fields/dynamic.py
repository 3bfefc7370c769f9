"""Radiance fields that move: time as a fourth coordinate, or a network that moves positions."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from neural_fields import architectures
from neural_fields.architectures import NetworkOptions
from neural_fields.architectures.mlp import Mlp, MlpTrunk
from neural_fields.errors import InputError
from neural_fields.fields.radiance import Level, Levels, RadianceConfig, RadianceField, Samples

_MOST_SPANS = 256
_STILL = 1e-4  # the motion's last matrix is drawn from [0, this], so that all rests at first


@dataclass(frozen=True)
class DynamicConfig(RadianceConfig):
    """A radiance field's configuration, and how it moves.

    Attributes:
        motion: makes a displacement of position and time, in the cube's coordinates; None: the
            trunk itself sees time, as a fourth coordinate.
        n_spans: of time, with an occupancy grid each.
    """

    motion: Mlp | None = field(default_factory=lambda: Mlp(4, (64, 64, 64)))
    n_spans: int = 8

    MODULATIONS: ClassVar[tuple[str, ...]] = (*RadianceConfig.MODULATIONS, "time")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.n_spans <= _MOST_SPANS:
            raise InputError(f"config: n_spans needs 1 to {_MOST_SPANS}, got {self.n_spans}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        motion = None if self.motion is None else self.motion.to_dict()
        return {**super().to_dict(), "motion": motion}

    @classmethod
    def _parts(cls, data: dict[str, Any]) -> dict[str, Any]:
        parts = super()._parts(data)
        if parts["motion"] is not None:
            motion = architectures.from_dict(data["motion"])
            if not isinstance(motion, Mlp):
                raise InputError(f"config: motion needs the architecture mlp, got {motion.name}.")
            parts["motion"] = motion
        return parts


class DynamicField(RadianceField):
    """Density and colour inside a box at any time in [0, 1].

    As `RadianceField`, with times in `Samples`; `at` gives one moment, which is a radiance field
    like any other. Once differentiable in parameters, positions and times.

    Source: with `motion`, T-NeRF as coordinate-aware modulation was published on it (Lee et al.
    2024): what lies at x at a time is what the trunk has at x + motion(x, time).

    Example:
        >>> from neural_fields.architectures.hash import Hash
        >>> field = DynamicField(DynamicConfig(architecture=Hash(log2_table_size=12)), seed=1)
        >>> field.at(0.5).density(torch.zeros(4, 3)).shape
        torch.Size([4])
    """

    kind = "dynamic"
    needs = ("positions", "directions", "times")
    config: DynamicConfig
    _time: float | None = None  # of a moment, which also keeps the cells of all spans
    _spans: Tensor | None = None

    def _make_parts(self) -> None:
        motion = self.config.motion
        if motion is None and not self.config.architecture.sees_time:
            raise InputError(
                f"config: {self.architecture} does not see time, so it needs a motion network."
            )
        self.n_dims = 4 if motion is None else 3
        super()._make_parts()
        options = NetworkOptions(self.config.precision)
        self.motion = None if motion is None else MlpTrunk(motion, 4, 3, options)

    def _reset(self, generator: torch.Generator) -> None:
        super()._reset(generator)
        if self.motion is None:
            return
        self.motion.reset(generator)
        with torch.no_grad():
            last, bias = [*self.motion.last.layers()][-1]
            last.uniform_(0, _STILL, generator=generator)
            if bias is not None:
                bias.zero_()

    def at(self, time: float) -> Self:
        """The field as it is at a time: its parameters are this field's own.

        Raises:
            InputError: the time is not in [0, 1].
        """
        if not 0 <= time <= 1:
            raise InputError(f"time: needs a number in [0, 1], got {time}.")
        moment = copy.copy(self)
        moment._time = float(time)
        spans = self.occupancy if self._spans is None else self._spans
        words = spans[int(self.span_of(torch.tensor([time]))[0])]
        # A copy shares everything with its original, so that these have to be its own.
        moment.__dict__.update(_spans=spans, _buffers={**self._buffers, "occupancy": words})
        return moment

    def span_of(self, times: Tensor) -> Tensor:
        """Which span, int64 [n], times [n] belong to."""
        return (times * self.config.n_spans).long().clamp(0, self.config.n_spans - 1)

    @property
    def _occupancy_shape(self) -> tuple[int, ...]:
        return (self.config.n_spans, self.config.sampling.grid.n_words)

    @property
    def is_moment(self) -> bool:
        """Whether it is what `at` gave."""
        return self._time is not None

    def evaluate_cube(self, samples: Samples, levels: Sequence[Level]) -> Levels:
        """See `RadianceField.evaluate_cube`; samples without times are those of `at`."""
        cube, times = samples.positions, samples.times
        if times is None:
            if self._time is None:
                raise InputError("this field moves: it needs times, or one moment of it: at(0.5).")
            times = cube.new_full((cube.shape[0],), self._time)
        where = torch.cat([cube, times[:, None]], 1)
        if self.motion is not None:
            where = cube + self.motion(where)
        return super().evaluate_cube(samples._replace(positions=where, times=times), levels)

    def fused_spec(self) -> None:
        """None: there is no fused form."""
        return None
