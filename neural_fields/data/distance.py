"""Where points are with respect to a mesh: how far, on which side, and what is nearest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from neural_fields.data.mesh import Mesh
from neural_fields.errors import library

# Rays whose crossings are counted to say what is inside; the majority decides.
RAYS_WATERTIGHT, RAYS_WITH_HOLES = 3, 15
_CHUNK = 1 << 18  # points at once


class Distances:
    """Answers about world positions, float64 [n, 3]; by Open3D's ray casting in float32.

    Attributes:
        sign: how the inside is told, in words.

    Example:
        >>> distances = Distances(load_mesh("armadillo.obj"))  # doctest: +SKIP
        >>> distances.signed(torch.zeros(1, 3, dtype=torch.float64))  # doctest: +SKIP
    """

    def __init__(self, mesh: Mesh) -> None:
        open3d = library("open3d", "mesh")
        low, high = mesh.box
        self._center, self._unit = (low + high) / 2, float((high - low).max()) / 2
        self._rays = RAYS_WATERTIGHT if mesh.watertight else RAYS_WITH_HOLES
        state = "watertight" if mesh.watertight else "not watertight"
        self.sign = f"majority of {self._rays} rays ({state})"
        self._scene = open3d.t.geometry.RaycastingScene()
        self._tensor = open3d.core.Tensor
        vertices = ((mesh.vertices - self._center) / self._unit).float()
        faces = mesh.faces.to(torch.int32).numpy().astype("uint32")
        self._scene.add_triangles(self._tensor(vertices.numpy()), self._tensor(faces))

    def signed(self, positions: Tensor) -> Tensor:
        """Distances [n] in world units, float32, negative inside."""

        def ask(points: Any) -> Tensor:
            return _torch(self._scene.compute_signed_distance(points, nsamples=self._rays))

        return self._asked(ask, positions) * self._unit

    def inside(self, positions: Tensor) -> Tensor:
        """Whether positions are inside, bool [n]."""

        def ask(points: Any) -> Tensor:
            return _torch(self._scene.compute_occupancy(points, nsamples=self._rays)) > 0.5

        return self._asked(ask, positions)

    def nearest(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Distances [n], not signed, to the surface and the faces [n] that are nearest."""

        def ask(points: Any) -> Tensor:
            found = self._scene.compute_closest_points(points)
            away = _torch(found["points"]) - _torch(points)
            faces = torch.from_numpy(found["primitive_ids"].numpy().astype("int64"))
            return torch.stack([away.double().norm(dim=1), faces.double()], 1)

        distance, face = self._asked(ask, positions).unbind(1)
        return distance * self._unit, face.long()

    def _asked(self, ask: Callable[[Any], Tensor], positions: Tensor) -> Tensor:
        answers = []
        for part in torch.split(positions, _CHUNK):
            local = ((part.double() - self._center) / self._unit).float().contiguous()
            answers.append(ask(self._tensor(local.numpy())))
        return torch.cat(answers) if answers else positions.new_empty(0)


def _torch(tensor: Any) -> Tensor:
    return torch.from_numpy(tensor.numpy().copy())
