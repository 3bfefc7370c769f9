"""The hash radiance field in one pass per batch: the trainer's and the renderer's hot path.

What `radiance_train` computes is what `hash_grid`, `mlp`, `spherical_harmonics`, `composite` and a
Huber loss compute one after the other; a test holds them equal. All results go into tensors that
the caller owns, so that a training step allocates nothing here. The tensors are float32 and
contiguous unless said otherwise; wrong types raise TypeError and wrong shapes ValueError.

The field, with x in [0, 1] the position in the cube around the box and d the unit direction:
f = density network(hash grid(x)); sigma per unit = exp(f[0]); colour = colour network([f, the 16
spherical harmonics of d]).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from neural_fields import _core
from neural_fields.ops._library import native
from neural_fields.ops.hash_grid import HashGridSpec
from neural_fields.ops.march import MarchScene, RadianceSamples, native_scene
from neural_fields.ops.mlp import MlpSpec


@dataclass(frozen=True)
class RadianceSpec:
    """The shape of a hash radiance field.

    Attributes:
        grid: of 3 dimensions, with a number of outputs that is a multiple of 16.
        density: network from the grid's outputs to features, a multiple of 16 of them.
        color: network from the features and 16 spherical harmonics to 3 numbers. Its output is
            sigmoid for colours in [0, 1].

    Hidden widths are multiples of 16.

    Example:
        >>> color = MlpSpec((32, 64, 64, 3), output="sigmoid")
        >>> RadianceSpec(HashGridSpec(), MlpSpec((32, 64, 16)), color).n_params
        11691200
    """

    grid: HashGridSpec
    density: MlpSpec
    color: MlpSpec

    def __post_init__(self) -> None:
        _shape_of(_core, self)

    @property
    def n_params(self) -> int:
        """Numbers of table and networks."""
        n_table = self.grid.n_entries * self.grid.n_features
        return n_table + self.density.n_params + self.color.n_params


@functools.lru_cache(maxsize=64)
def _shape_of(module: ModuleType, spec: RadianceSpec) -> _core.RadianceShape:
    shape: _core.RadianceShape = module.RadianceShape(
        module.HashGridShape(*spec.grid.arguments),
        module.MlpShape(*spec.density.arguments),
        module.MlpShape(*spec.color.arguments),
    )
    return shape


class RadianceParams(NamedTuple):
    """What a field learns."""

    table: Tensor  # [grid.n_entries, grid.n_features]
    density: Tensor  # [density.n_params]
    color: Tensor  # [color.n_params]


class RadianceGradients(NamedTuple):
    """Where `radiance_train` leaves gradients."""

    table: Tensor  # like the table; added to
    touched: Tensor  # uint8 [ceil(numbers of the table / 16)]; set to 1 where they were added to
    density: Tensor  # like the density network's parameters; overwritten
    color: Tensor  # like the colour network's parameters; overwritten

    @classmethod
    def zeros(cls, spec: RadianceSpec, device: torch.device | str = "cpu") -> RadianceGradients:
        """Fresh ones, all zero."""
        shape = (spec.grid.n_entries, spec.grid.n_features)
        return cls(
            torch.zeros(shape, device=device),
            torch.zeros((shape[0] * shape[1] + 15) // 16, dtype=torch.uint8, device=device),
            torch.zeros(spec.density.n_params, device=device),
            torch.zeros(spec.color.n_params, device=device),
        )


def radiance_train(
    spec: RadianceSpec,
    params: RadianceParams,
    samples: RadianceSamples,
    origins: Tensor,
    directions: Tensor,
    target: Tensor,
    background: Tensor,
    features: Tensor,
    gradients: RadianceGradients,
    ray_loss: Tensor,
    ray_color: Tensor,
    *,
    unit: float,
    stop: float,
    n_loss_rays: int,
    huber: float = 0.1,
) -> int:
    """Evaluate a batch of rays, their loss and the gradients of all parameters.

    The loss is the mean over rays and channels of Huber(error) / 5, as instant-ngp has it:
    Huber(e) = e^2 / (2 knee) for |e| <= knee, else |e| - knee / 2.

    Args:
        spec: the shape of the field.
        params: its parameters.
        samples: as `march_into` left them; the positions are used up.
        origins: [n_rays, 3], as they were marched.
        directions: [n_rays, 3] unit vectors.
        target: [n_rays, 3] colours over the same background.
        background: [n_rays, 3].
        features: [capacity, spec.grid.n_output], room to work.
        gradients: of sum(ray_loss) / n_loss_rays. The derivative of sigma = exp(f) is
            exp(clamp(f, -15, 15)).
        ray_loss: [n_rays], overwritten.
        ray_color: [n_rays, 3], overwritten: over the background.
        unit: world length of one unit.
        stop: transmittance below which a ray ends; samples behind cost little.
        n_loss_rays: the loss is a mean over this many rays, 1 to n_rays.
        huber: knee of the loss.

    Returns:
        How many samples were in front of the end of their ray.

    Repeatable bit for bit, for any number of threads.

    Example:
        >>> samples, n_rays = RadianceSamples.empty(n_rays=2, capacity=5), 2
        >>> samples.offsets.zero_()  # rays that meet nothing show the background
        tensor([0, 0, 0])
        >>> spec = RadianceSpec(
        ...     HashGridSpec(log2_table_size=8),
        ...     MlpSpec((32, 64, 16)),
        ...     MlpSpec((32, 64, 64, 3), output="sigmoid"),
        ... )
        >>> params = RadianceParams(
        ...     torch.zeros(spec.grid.n_entries, 4),
        ...     torch.zeros(spec.density.n_params),
        ...     torch.zeros(spec.color.n_params),
        ... )
        >>> rays, background = torch.zeros(4, n_rays, 3), torch.ones(n_rays, 3)
        >>> ray_loss, ray_color = torch.empty(n_rays), torch.empty(n_rays, 3)
        >>> radiance_train(spec, params, samples, *rays[:2], target=rays[2], background=background,
        ...     features=torch.empty(5, 32), gradients=RadianceGradients.zeros(spec),
        ...     ray_loss=ray_loss, ray_color=ray_color, unit=1.0, stop=0.0, n_loss_rays=2)
        0
        >>> ray_loss
        tensor([0.1900, 0.1900])
    """
    module = native("radiance_train", origins)
    n_kept: int = module.radiance_train(
        _shape_of(module, spec),
        *params,
        origins,
        directions,
        *samples,
        target,
        background,
        features,
        *gradients,
        ray_loss,
        ray_color,
        unit,
        stop,
        huber,
        n_loss_rays,
    )
    return n_kept


def radiance_density(
    spec: RadianceSpec, params: RadianceParams, positions: Tensor, log_density: Tensor
) -> None:
    """Evaluate log sigma per unit.

    Args:
        spec: the shape of the field.
        params: its parameters.
        positions: [n, 3] in [0, 1], the grid's coordinates.
        log_density: [n], overwritten.

    Example: see `radiance_train` for the arguments.
    """
    module = native("radiance_density", positions)
    module.radiance_density(_shape_of(module, spec), *params, positions, log_density)


def radiance_render(
    spec: RadianceSpec,
    params: RadianceParams,
    scene: MarchScene,
    words: Tensor,
    origins: Tensor,
    directions: Tensor,
    color: Tensor,
    opacity: Tensor,
    depth: Tensor,
    *,
    stop: float,
    cull: float,
) -> int:
    """Render rays: march, evaluate and composite, tile by tile.

    Steps start half a step behind the entry into the box.

    Args:
        spec: the shape of the field.
        params: its parameters.
        scene: see `march`.
        words: [scene.grid.n_words] int64.
        origins: [n_rays, 3] world.
        directions: [n_rays, 3] unit vectors.
        color: [n_rays, 3], overwritten: without background.
        opacity: [n_rays], overwritten.
        depth: [n_rays], overwritten: sum of weight * midpoint, world.
        stop: transmittance below which a ray ends.
        cull: samples of smaller weight add to opacity and depth, but get no colour.

    Returns:
        How many samples were evaluated.

    Example: see `radiance_train` for the arguments.
    """
    module = native("radiance_render", origins)
    n_samples: int = module.radiance_render(
        _shape_of(module, spec),
        *params,
        native_scene(module, scene),
        words,
        origins,
        directions,
        color,
        opacity,
        depth,
        stop,
        cull,
    )
    return n_samples
