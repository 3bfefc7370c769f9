"""Marching cubes, some layers of cells at a time, so that any resolution fits memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neural_fields.errors import InputError, library

NODES = 1 << 20  # of the layers that are in memory at a time
CHUNK = 1 << 18  # positions that are asked for at a time
STRIDE = 8  # cells a side of the cubes that `lipschitz` leaves out
MARGIN = 1e-3  # share of its edge that a vertex keeps from either end

Values = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Lattice:
    """Cubic cells over a box. Nodes are numbered with z fastest.

    Attributes:
        origin: position of node (0, 0, 0).
        spacing: side of a cell.
        n_cells: per axis.
    """

    origin: tuple[float, float, float]
    spacing: float
    n_cells: tuple[int, int, int]

    @staticmethod
    def over(box: Tensor, resolution: int) -> Lattice:
        """Cells over a box, and around it where its sides are not multiples of a cell.

        Args:
            box: lowest and highest corner, [2, 3].
            resolution: cells along the longest side, at least 1.

        Example:
            >>> Lattice.over(torch.tensor([[-1.0, -1, 0], [1, 1, 1]]), 8)
            Lattice(origin=(-1.0, -1.0, 0.0), spacing=0.25, n_cells=(8, 8, 4))
        """
        low, high = box.double().tolist()
        sides = [b - a for a, b in zip(low, high, strict=True)]
        spacing = max(sides) / resolution
        # The longest side is a whole number of cells but for rounding.
        nx, ny, nz = (max(1, int(np.ceil(side / spacing - 1e-6))) for side in sides)
        x, y, z = (
            (a + b - n * spacing) / 2 for a, b, n in zip(low, high, (nx, ny, nz), strict=True)
        )
        return Lattice((x, y, z), spacing, (nx, ny, nz))

    @property
    def n_nodes(self) -> tuple[int, int, int]:
        """Per axis."""
        nx, ny, nz = self.n_cells
        return nx + 1, ny + 1, nz + 1

    @property
    def box(self) -> NDArray[np.float64]:
        """Positions of the first and the last node, float64 [2, 3]."""
        return self.at(np.array([[0, 0, 0], self.n_cells]))

    def at(self, index: NDArray[np.float64] | NDArray[np.int64]) -> NDArray[np.float64]:
        """Positions [n, 3] of nodes, or of places between them, given in cells [n, 3]."""
        positions: NDArray[np.float64] = index * self.spacing + np.array(self.origin)
        return positions

    def positions(self, nodes: NDArray[np.int64]) -> Tensor:
        """Positions of nodes by their numbers [n], float32 [n, 3]."""
        index = np.stack(np.unravel_index(nodes, self.n_nodes), 1)
        return torch.from_numpy(self.at(index)).float()


def marching_cubes(
    values_at: Values,
    lattice: Lattice,
    level: float = 0.0,
    *,
    block: int | None = None,
    lipschitz: float | None = None,
    refine: int = 0,
    on_block: Callable[[int, int], None] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The surface where values pass a level, as triangles.

    Every node is asked for at most once, and a vertex is told by the edge of the lattice that it
    lies on, not by its position. So the surface is closed, each of its edges joins two triangles
    that agree on what is outside, and it is the same whatever the block, for any values: noise,
    values that equal the level, values of a field that answers batches differently in their last
    bits. The lattice's border counts as outside, so that what reaches it is closed there.

    Args:
        values_at: values [n] at float32 positions [n, 3]; smaller inside.
        lattice: the cells.
        level: of the surface; values equal to it are outside.
        block: layers of cells in memory at a time; None: as many as have about a million nodes.
        lipschitz: None, or a bound on how much values change per length. Cubes of 8 cells a side
            are then left out where the value in their middle is too far from the level: nothing is
            lost where no value differs from the one in its cube's middle by more than the bound
            times their distance. A surface that leads into such a cube shows that the bound is
            wrong; all nodes are then asked for. A part that lies in such cubes as a whole is lost.
        refine: how often the stretch of an edge that holds the vertex is halved, by a value in its
            middle, before values are taken as linear on it.
        on_block: called with (blocks done, blocks in all).

    Returns:
        vertices float64 [n, 3] in the positions' frame, and faces int64 [m, 3], counter-clockwise
        seen from outside. A vertex is where the values of an edge's ends, taken as linear between
        them, pass the level (see `refine`), but at least a thousandth of the edge from either end:
        triangles have an area even where a value equals the level.

    Raises:
        InputError: a value is not finite, or the level is passed nowhere.

    Source: Lorensen and Cline, Marching Cubes, 1987, by scikit-image.

    Example:
        >>> lattice = Lattice.over(torch.tensor([[-1.0, -1, -1], [1, 1, 1]]), 32)
        >>> vertices, faces = marching_cubes(lambda x: x.norm(dim=1), lattice, 0.75)
        >>> len(vertices) - 3 * len(faces) // 2 + len(faces)  # Euler's number of a sphere
        2
    """
    nodes = _Nodes(values_at, lattice, level, lipschitz)
    n_layers, ny, nz = lattice.n_nodes
    layers = block or max(1, NODES // (ny * nz))
    starts = range(0, n_layers - 1, layers)
    keys, vertices, faces, n_vertices = [], [], [], 0
    known = nodes.layers(0, 1)
    for number, start in enumerate(starts):
        known = known.followed_by(nodes.layers(start + 1, min(start + layers, n_layers - 1) + 1))
        found = _surface(nodes, known, start, refine)
        if found is None:  # the bound is wrong
            return marching_cubes(
                values_at, lattice, level, block=block, refine=refine, on_block=on_block
            )
        keys.append(found[0])
        vertices.append(found[1])
        faces.append(found[2] + n_vertices)
        n_vertices += len(found[0])
        if on_block is not None:
            on_block(number + 1, len(starts))
    if n_vertices == 0 or not nodes.any_outside:
        raise InputError(
            f"mesh: needs values that pass {level:g} inside the box, got none; choose another "
            "level or box, or fit the field for longer."
        )
    # The layer between two blocks is in both; what lies on it becomes one.
    _, first, one = np.unique(np.concatenate(keys), return_index=True, return_inverse=True)
    return np.concatenate(vertices)[first], one.reshape(-1)[np.concatenate(faces)]


class _Layers(NamedTuple):
    """Values float32 [n, ny, nz], and where they were asked for; None: everywhere."""

    values: NDArray[np.float32]
    asked: NDArray[np.bool_] | None

    def followed_by(self, other: _Layers) -> _Layers:
        """The last of these layers, and others."""
        values = np.concatenate([self.values[-1:], other.values])
        if self.asked is None or other.asked is None:
            return _Layers(values, None)
        return _Layers(values, np.concatenate([self.asked[-1:], other.asked]))


class _Nodes:
    """Values at a lattice's nodes, minus the level; none below 0 on the lattice's border.

    Attributes:
        any_outside: whether a value was not below the level so far.
    """

    def __init__(
        self, values_at: Values, lattice: Lattice, level: float, lipschitz: float | None
    ) -> None:
        self.lattice = lattice
        self.any_outside = False
        self._values_at, self._level = values_at, level
        self._middle: tuple[NDArray[np.float32], NDArray[np.bool_]] | None = None
        if lipschitz is not None:
            reach = lipschitz * np.sqrt(3) / 2 * STRIDE * lattice.spacing
            self._middle = self._cubes(reach)

    def layers(self, start: int, stop: int) -> _Layers:
        """Layers number `start` to `stop` - 1."""
        n_layers, ny, nz = self.lattice.n_nodes
        first = start * ny * nz
        if self._middle is None:
            asked = None
            values = self._ask(first + np.arange((stop - start) * ny * nz))
            values = values.reshape(stop - start, ny, nz)
        else:
            values, asked = self._spread(*self._middle, start, stop)
            values[asked] = self._ask(first + np.flatnonzero(asked))
        self.any_outside = self.any_outside or bool(values.max() >= 0)
        for border in (values[:, 0], values[:, -1], values[:, :, 0], values[:, :, -1]):
            np.maximum(border, 0, out=border)
        for layer in {0, n_layers - 1} & set(range(start, stop)):
            np.maximum(values[layer - start], 0, out=values[layer - start])
        return _Layers(values, asked)

    def at(self, index: NDArray[np.float64]) -> NDArray[np.float32]:
        """Values minus the level [n] at places given in cells [n, 3]."""
        return self._answers(torch.split(torch.from_numpy(self.lattice.at(index)).float(), CHUNK))

    def _ask(self, nodes: NDArray[np.int64]) -> NDArray[np.float32]:
        parts = (nodes[at : at + CHUNK] for at in range(0, len(nodes), CHUNK))
        return self._answers(self.lattice.positions(part) for part in parts)

    def _answers(self, positions: Iterable[Tensor]) -> NDArray[np.float32]:
        with torch.no_grad():
            parts = [self._values_at(part).double() - self._level for part in positions]
        values = torch.cat(parts).float() if parts else torch.empty(0)
        if not bool(torch.isfinite(values).all()):
            raise InputError("mesh: the field's values are not finite; fit it again.")
        result: NDArray[np.float32] = values.numpy()
        return result

    def _cubes(self, reach: float) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The values in the middles of cubes of `STRIDE` cells, and which may hold the surface."""
        shape = [-(-n // STRIDE) for n in self.lattice.n_cells]
        cubes = np.stack(np.unravel_index(np.arange(np.prod(shape)), shape), 1)
        # Beyond the lattice is no nearer to the cube's nodes than the lattice's border is.
        middle = np.minimum((cubes + 0.5) * STRIDE, self.lattice.n_cells)
        values = self.at(middle).reshape(shape)
        at_border = ((cubes == 0) | (cubes == np.array(shape) - 1)).any(1).reshape(shape)
        return values, (np.abs(values) <= reach) | ((values < 0) & at_border)

    def _spread(
        self, values: NDArray[np.float32], near: NDArray[np.bool_], start: int, stop: int
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Each node's value in its cube's middle, and whether one of its cubes is near."""
        _, ny, nz = self.lattice.n_nodes
        for axis, nodes in enumerate((np.arange(start, stop), np.arange(ny), np.arange(nz))):
            # A node between two cubes belongs to both.
            after = np.minimum(nodes // STRIDE, values.shape[axis] - 1)
            before = np.maximum(nodes - 1, 0) // STRIDE
            values = values.take(after, axis)
            near = near.take(after, axis) | near.take(before, axis)
        return values, near


def _surface(
    nodes: _Nodes, known: _Layers, start: int, refine: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]] | None:
    """The triangles of layers of nodes, the first of them number `start`.

    Returns keys [m], which number the lattice's edges, the vertices on them [m, 3], and faces; None
    where the surface passes between nodes that were not asked for.
    """
    values = known.values
    _, ny, nz = values.shape
    steps = np.array([ny * nz, nz, 1])
    inside = values < 0
    if inside.all() or not inside.any():
        return np.empty(0, np.int64), np.empty((0, 3)), np.empty((0, 3), np.int64)
    # Of signs alone: every vertex is then in the middle of an edge, which says without rounding
    # which edge that is. Where the surface passes on it is found below, in float64.
    signs = np.where(inside, -1, 1).astype(np.float32)
    one_block = library("skimage.measure", "mesh").marching_cubes
    middles, faces, _, _ = one_block(signs, 0.0, method="lorensen")
    low = np.floor(middles).astype(np.int64)
    axis = (middles != low).argmax(1)
    node = low @ steps
    ends = node, node + steps[axis]
    if known.asked is not None and not all(known.asked.reshape(-1)[end].all() for end in ends):
        return None
    index = low.astype(np.float64)
    index[:, 0] += start
    a, b = (values.reshape(-1)[end].astype(np.float64) for end in ends)
    index[np.arange(len(index)), axis] += _crossings(nodes, index, axis, a, b, refine)
    keys = 3 * (node + start * ny * nz) + axis
    return keys, nodes.lattice.at(index), faces.astype(np.int64)


def _crossings(
    nodes: _Nodes,
    index: NDArray[np.float64],
    axis: NDArray[np.int64],
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    refine: int,
) -> NDArray[np.float64]:
    """Where edges [m] from nodes along an axis, with values a and b at their ends, pass 0."""
    low, high, a_inside = np.zeros(len(a)), np.ones(len(a)), a < 0
    for _ in range(refine):
        middle = (low + high) / 2
        value = nodes.at(index + middle[:, None] * np.eye(3)[axis]).astype(np.float64)
        like_a = (value < 0) == a_inside
        low, high = np.where(like_a, middle, low), np.where(like_a, high, middle)
        a, b = np.where(like_a, value, a), np.where(like_a, b, value)
    return np.clip(low + (high - low) * a / (a - b), MARGIN, 1 - MARGIN)
