"""Fitting a signed distance field to a mesh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from neural_fields.data.distance import Distances
from neural_fields.data.mesh import Mesh
from neural_fields.fields import SdfConfig, SdfField
from neural_fields.ops import generator
from neural_fields.training.state import stream_seed
from neural_fields.training.values import ValueTrainer

NEAREST, FARTHEST = 2e-3, 5e-2  # units: deviations of points beside the surface, log-uniform


@dataclass(frozen=True)
class SdfOptions:
    """How a signed distance field is trained.

    Attributes:
        batch_points: per step.
        surface: share of points on the surface.
        near: share of points beside it; the rest lie anywhere in the box.
        pool: points on the surface, and as many beside it, that are made before training and drawn
            from; half as many anywhere, whose distances take the longest.
        learning_rate: of networks, at the start.
        grid_rate: of grids, at the start.
        matrix_rate: of the matrices of networks, at the start, root mean square of an
            orthogonal step (`Muon`); 0: Adam moves them, at `learning_rate`.
        modulation_share: learning rate of a modulation's grid as a share of the networks'.
        final_rate: all at the end, as a share of the start's; exponential between.
        l2: weight decay of the networks, added to the gradient.
        eikonal: weight of the mean of (|gradient| - 1)^2 over points beside the surface and
            anywhere; 0 leaves it out.
    """

    batch_points: int = 1 << 16
    surface: float = 0.2
    near: float = 0.4
    pool: int = 1 << 20
    learning_rate: float = 1e-2
    grid_rate: float = 1e-2
    matrix_rate: float = 0.0
    modulation_share: float = 1.0
    final_rate: float = 0.02
    l2: float = 1e-6
    eikonal: float = 0.0

    ANY_NUMBER = frozenset({"matrix_rate"})


class Shape(Protocol):
    """What is fitted.

    Attributes:
        sign: how it knows what is inside, in words.
    """

    sign: str

    def surface(self, n: int, generator: torch.Generator) -> Tensor:
        """Points float64 [n, 3] on it, world."""
        ...

    def signed(self, positions: Tensor) -> Tensor:
        """Distances float32 [n] of world positions [n, 3], negative inside."""
        ...


class MeshShape:
    """A mesh as a shape."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh, self._distances = mesh, Distances(mesh)
        self.sign = self._distances.sign

    def surface(self, n: int, generator: torch.Generator) -> Tensor:
        """Uniform over its triangles."""
        return self._mesh.surface(n, generator)[0]

    def signed(self, positions: Tensor) -> Tensor:
        """See `Distances`."""
        return self._distances.signed(positions)


class Pool:
    """Points on the surface, beside it and anywhere, with their distances, as the field has them.

    Positions lie in the cube [0, 1]^3, distances are in units.
    """

    def __init__(
        self,
        shape: Shape,
        field: SdfField,
        size: int,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self._device = torch.device(device)
        draws = torch.Generator().manual_seed(stream_seed(seed, -1))
        low, high = torch.tensor(field.config.box, dtype=torch.float64)
        surface = shape.surface(2 * size, draws)
        spread = torch.rand(size, 1, generator=draws, dtype=torch.float64)
        deviation = NEAREST * (FARTHEST / NEAREST) ** spread * field.unit
        offset = torch.randn(size, 3, generator=draws, dtype=torch.float64)
        near = torch.minimum(torch.maximum(surface[size:] + deviation * offset, low), high)
        share = torch.rand(max(1, size // 2), 3, generator=draws, dtype=torch.float64)
        anywhere = low + share * (high - low)
        self._parts: list[tuple[Tensor, Tensor]] = []
        for world, is_zero in ((surface[:size], True), (near, False), (anywhere, False)):
            # Neighbours share lines of memory, in the mesh's tree and in the field's grids.
            world = world[morton_order(field.to_cube(world))]
            value = torch.zeros(size) if is_zero else shape.signed(world) / field.unit
            cube = field.to_cube(world).float()
            self._parts.append((cube.to(self._device), value.to(self._device)))

    def draw(self, counts: tuple[int, int, int], seed: int) -> tuple[Tensor, Tensor]:
        """Positions [n, 3] and distances [n]: so many on the surface, beside it and anywhere."""
        draw = generator(self._device, seed)
        positions, values = [], []
        for count, (cube, value) in zip(counts, self._parts, strict=True):
            # In the pool's order.
            index = torch.randint(len(cube), (count,), generator=draw, device=self._device)
            index = index.sort().values
            positions.append(cube[index])
            values.append(value[index])
        return torch.cat(positions), torch.cat(values)


def morton_order(cube: Tensor) -> Tensor:
    """Indices [n] that put positions [n, 3] in [0, 1] into the order of a Z-shaped curve.

    Example:
        >>> morton_order(torch.tensor([[0.9, 0.9, 0.9], [0.1, 0.1, 0.1]]))
        tensor([1, 0])
    """
    cell = (cube.double().clamp(0, 1) * 1023).long()
    code = torch.zeros(len(cube), dtype=torch.long)
    for bit in range(10):
        for axis in range(3):
            code |= ((cell[:, axis] >> bit) & 1) << (3 * bit + axis)
    return code.argsort(stable=True)


class SdfTrainer(ValueTrainer[SdfField]):
    """One run of a signed distance field, from a mesh or anything else that knows distances."""

    def __init__(
        self,
        config: SdfConfig,
        shape: Shape,
        options: SdfOptions,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        field = SdfField(config, seed)
        self.pool = Pool(shape, field, options.pool, seed, device)
        self.sign = shape.sign
        super().__init__(field, options, seed, sparse=options.eikonal == 0, device=device)
        self.options = options

    def _draw(self, seed: int) -> tuple[Tensor, Tensor]:
        """Positions [n, 3] in the cube and distances [n] in units."""
        n = self.options.batch_points
        surface, near = (round(share * n) for share in (self.options.surface, self.options.near))
        return self.pool.draw((surface, near, n - surface - near), seed)

    def _shown(self, positions: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        return positions, target[:, None]

    def _loss(self, positions: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The mean absolute error and the eikonal term."""
        options = self.options
        eikonal = options.eikonal > 0
        positions.requires_grad_(eikonal)
        value = self.field.encoded(positions)
        error = value - target
        loss = error.abs().mean()
        if eikonal:
            (slope,) = torch.autograd.grad(value.sum(), positions, create_graph=True)
            length = slope[round(options.surface * len(target)) :].norm(dim=1) / 2  # per unit
            loss = loss + options.eikonal * (length - 1).square().mean()
        return loss, error.detach().square().mean()

    def averaged_field(self) -> SdfField:
        """A copy of the field with the averaged weights."""
        field = SdfField(self.field.config, seed=None).to(self.device)
        self.state.average_into(field)
        return field
