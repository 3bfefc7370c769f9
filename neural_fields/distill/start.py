"""Starts in closed form: what a teacher says where a student's vertices are."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from neural_fields.architectures import Answer
from neural_fields.fields import RadianceField, Samples
from neural_fields.fields.radiance import Level, Levels
from neural_fields.ops import spherical_harmonics
from neural_fields.rendering.cameras import Cameras
from neural_fields.rendering.occupancy import occupied

N_DIRECTIONS = 24  # from which a vertex's colours are asked
EMPTY = -6.0  # log-density of vertices that no occupied cell touches
PALEST = 0.02  # colours nearer to 0 or 1 have logits that harmonics cannot follow
_CHUNK = 1 << 17


class Teacher:
    """What a radiance field says at positions of the cube, in another one's outputs."""

    def __init__(
        self,
        teacher: RadianceField,
        cameras: Cameras,
        clip: tuple[float, float],
        generator: torch.Generator,
    ) -> None:
        self._teacher, self._clip = teacher, clip
        self._occupied = occupied_cells(teacher)
        chosen = torch.randint(len(cameras), (N_DIRECTIONS,), generator=generator)
        self._directions = -cameras.camera_to_world[chosen, :3, 2]

    def features(self, cube: Tensor) -> Answer:
        """Clipped log-density, and the other features where there are any."""
        known = self._known(cube)
        levels = self._teacher.levels
        n = self._teacher.config.head.n_features if "features" in levels else 1
        values = torch.zeros(len(cube), n)
        values[:, 0] = EMPTY
        index = known.nonzero()[:, 0]
        for part in torch.split(index, _CHUNK):
            features: tuple[Level, ...] = ("features",) if n > 1 else ()
            found = self._ask(cube[part], (*features, "log_density"))
            if found.features is not None:
                values[part] = found.features
            assert found.log_density is not None
            values[part, 0] = found.log_density.clamp(*self._clip)
        return Answer(values, known)

    def harmonics(self, cube: Tensor, n_harmonics: int) -> Answer:
        """Clipped log-density, and n_harmonics per colour's logit by least squares."""
        known = self._known(cube)
        values = torch.zeros(len(cube), 1 + 3 * n_harmonics)
        values[:, 0] = EMPTY
        basis = spherical_harmonics(self._directions)[:, :n_harmonics].double()
        ridge = 1e-2 * torch.eye(n_harmonics, dtype=torch.float64) * N_DIRECTIONS / 10
        solve = torch.linalg.solve(basis.T @ basis + ridge, basis.T).float()
        index = known.nonzero()[:, 0]
        for part in torch.split(index, _CHUNK // N_DIRECTIONS):
            log_density, color = self._all_around(cube[part])
            logits = color.clamp(PALEST, 1 - PALEST).logit()
            values[part, 1:] = (solve @ logits).transpose(1, 2).reshape(len(part), -1)
            values[part, 0] = log_density.clamp(*self._clip)
        return Answer(values, known)

    @torch.no_grad()
    def _all_around(self, cube: Tensor) -> tuple[Tensor, Tensor]:
        """Log-densities [n], means over directions, and colours [n, N_DIRECTIONS, 3]."""
        directions = self._directions.repeat(len(cube), 1)
        head = self._teacher.color_head
        if head is not None and self._teacher.modulation is None:  # the trunk sees no directions
            found = self._ask(cube, ("features", "log_density"))
            assert found.features is not None
            assert found.log_density is not None
            color = head.forward(found.features.repeat_interleave(N_DIRECTIONS, 0), directions)
            return found.log_density, color.view(-1, N_DIRECTIONS, 3)
        found = self._ask(
            cube.repeat_interleave(N_DIRECTIONS, 0), ("log_density", "color"), directions
        )
        assert found.log_density is not None
        assert found.color is not None
        mean = found.log_density.view(-1, N_DIRECTIONS).mean(1)
        return mean, found.color.view(-1, N_DIRECTIONS, 3)

    @torch.no_grad()
    def _ask(
        self, cube: Tensor, levels: tuple[Level, ...], directions: Tensor | None = None
    ) -> Levels:
        return self._teacher.evaluate_cube(Samples(cube, directions), levels)

    def _known(self, cube: Tensor) -> Tensor:
        """Which positions touch a cell that rays visit: bool [n]."""
        n_cascades, side = self._occupied.shape[:2]
        known = torch.zeros(len(cube), dtype=torch.bool)
        seen = torch.zeros_like(known)
        for cascade in range(n_cascades):  # the innermost first
            half = 0.5 / (1 << (n_cascades - 1 - cascade))
            place = (cube - 0.5) / (2 * half) + 0.5
            inside = ((place >= 0) & (place <= 1)).all(1) & ~seen
            x, y, z = (place[inside] * side).long().clamp(0, side - 1).unbind(1)
            known[inside] = self._occupied[cascade, z, y, x]
            seen |= inside
        return known


def occupied_cells(field: RadianceField, grow: int = 1) -> Tensor:
    """Cells that rays visit and those within `grow` of them: bool [cascades, z, y, x]."""
    spec = field.config.sampling.grid
    blocks = spec.resolution // 4
    cells = occupied(field).view(spec.n_cascades, blocks, blocks, blocks, 4, 4, 4)
    dense = cells.permute(0, 1, 4, 2, 5, 3, 6).reshape(
        spec.n_cascades, spec.resolution, spec.resolution, spec.resolution
    )
    grown = functional.max_pool3d(dense[:, None].float(), 2 * grow + 1, stride=1, padding=grow)
    return grown[:, 0] > 0


@torch.no_grad()
def start_student(
    student: RadianceField,
    teacher: RadianceField,
    cameras: Cameras,
    clip: tuple[float, float],
    generator: torch.Generator,
    *,
    shares_features: bool,
) -> frozenset[str]:
    """Start a student in closed form where its trunk has one.

    Args:
        student: its trunk is started.
        teacher: is asked.
        cameras: of the scene, along whose axes colours are asked.
        clip: of log-densities.
        generator: of all draws.
        shares_features: whether the student should have the teacher's features, or density alone.

    Returns:
        Names of the trunk's parameters that were set, empty where there is no such form.
    """
    asked = Teacher(teacher, cameras, clip, generator)
    if student.color_head is None:
        n = student.trunk.n_harmonics
        return student.trunk.start_as(lambda x: asked.harmonics(x, n), generator)
    if shares_features:
        return student.trunk.start_as(asked.features, generator)

    def density(cube: Tensor) -> Answer:
        found = asked.features(cube)
        return Answer(found.values[:, :1], found.known)

    return student.trunk.start_as(density, generator)
