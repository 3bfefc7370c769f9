"""Surfaces from photographs: against the density mesh of a NeRF, and the eikonal step.

python -m neural_fields.benchmarks.surfaces -o surfaces.json
python -m neural_fields.benchmarks.surfaces -o surfaces.json --parts eikonal

Rows that the JSON file has are not computed again. Shapes are scored on the procedural scene
`chess`, whose geometry is known exactly: what the training cameras see of one surface is compared
with the other surface, both directions, in diagonals of the scene's box (Chamfer) and degrees
(normals of the meshes' triangles). Both meshes are at the same resolution; a NeRF's is what
`nf export` makes of it.

The eikonal step is encoding, network, slopes, the loss (|slope| - 1)^2 + |distance|, all gradients
and Adam, on random points; plain PyTorch differentiates twice (`create_graph`), in pieces that stay
in the cache, with Adam's fused form.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from neural_fields import export, fit, scenes
from neural_fields.benchmarks.papers.rows import Rows, markdown
from neural_fields.benchmarks.timing import compare, ratio
from neural_fields.benchmarks.torch_baseline import PIECE_SAMPLES, Grid
from neural_fields.data.dataset import load_dataset
from neural_fields.errors import library
from neural_fields.ops import HashGridSpec, MlpSpec, SlopeSpec, SparseGradient, trunk_slope
from neural_fields.ops.threads import one_torch_thread
from neural_fields.rendering.cameras import Cameras
from neural_fields.rendering.marching import Lattice, marching_cubes
from neural_fields.scenes import catalog
from neural_fields.training.adam import AdamState

SCENE, SIZE, SECONDS = "chess", 400, 60.0
RESOLUTION = 320  # of the meshes
EXACT = 512  # of the scene's
_EVERY = 3  # pixels: rays that are looked along
ARMS: dict[str, dict[str, Any]] = {
    "nerf": {},
    "volsdf": {"density": "volsdf"},
    "neus": {"density": "neus"},
    "volsdf, numerical": {"density": "volsdf", "options": {"slopes": "numerical"}},
}


class Triangles:
    """A mesh that rays are cast at."""

    def __init__(self, vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> None:
        open3d = library("open3d", "mesh")
        self._tensor = open3d.core.Tensor
        self._scene = open3d.t.geometry.RaycastingScene()
        corners, indices = vertices.astype(np.float32), faces.astype(np.uint32)
        self._scene.add_triangles(self._tensor(corners), self._tensor(indices))
        self.diagonal = float(np.linalg.norm(vertices.max(0) - vertices.min(0)))

    def seen(self, rays: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Where rays [n, 6] meet it first, and its normals there, of those that do."""
        found = self._scene.cast_rays(self._tensor(rays))
        depth = found["t_hit"].numpy()
        hit = np.isfinite(depth)
        points = rays[hit, :3] + depth[hit, None] * rays[hit, 3:]
        return points, found["primitive_normals"].numpy()[hit]

    def nearest(self, points: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        """How far it is from points, and its normals there."""
        found = self._scene.compute_closest_points(self._tensor(points))
        away = found["points"].numpy() - points
        return np.linalg.norm(away, axis=1), found["primitive_normals"].numpy()


def differences(found: Triangles, truth: Triangles, cameras: Cameras) -> dict[str, float]:
    """Chamfer distance in diagonals and normal error in degrees, of what cameras see."""
    pairs = (cameras.image_rays(index) for index in range(len(cameras)))
    parts = [torch.cat([o[::_EVERY], d[::_EVERY]], 1) for o, d in pairs]
    rays = torch.cat(parts).numpy().astype(np.float32)
    distances, angles = [], []
    for one, other in ((found, truth), (truth, found)):
        points, normals = one.seen(rays)
        distance, beside = other.nearest(points)
        lengths = np.linalg.norm(normals, axis=1) * np.linalg.norm(beside, axis=1)
        cosine = (normals * beside).sum(1) / np.maximum(lengths, 1e-12)
        distances.append(float(distance.mean()) / truth.diagonal)
        angles.append(float(np.degrees(np.arccos(np.clip(cosine, -1, 1)).mean())))
    return {"chamfer": sum(distances) / 2, "normal_error_deg": sum(angles) / 2}


def exact(name: str, resolution: int = EXACT) -> Triangles:
    """A procedural scene's own surface."""
    scene = catalog.build(name)
    low, high = scene.bounds()
    box = torch.tensor(np.stack([low - 0.02, high + 0.02]))
    lattice = Lattice.over(box, resolution)
    return Triangles(*marching_cubes(scene.distance, lattice, lipschitz=1.01, refine=2))


def fitted(arm: str, folder: Path, seconds: float, truth: Triangles) -> dict[str, Any]:
    """One arm: fit, mesh, score."""
    trimesh = library("trimesh", "mesh")
    with tempfile.TemporaryDirectory() as place:
        path, mesh_path = Path(place) / "field.nf", Path(place) / "mesh.ply"
        how = fit.nerf if arm == "nerf" else fit.surface
        run = how(folder, path, seconds=seconds, **ARMS[arm])
        report = export(path, mesh_path, resolution=RESOLUTION)
        mesh = trimesh.load(mesh_path, process=False)
    found = Triangles(np.asarray(mesh.vertices), np.asarray(mesh.faces))
    cameras = load_dataset(folder).cameras
    return {
        **differences(found, truth, cameras),
        "watertight": report.watertight,
        "components": report.components,
        "steps": run.summary["steps"],
        "psnr_train": run.summary["psnr_train"],
    }


def shapes(rows: Rows, arms: list[str], seconds: float, place: Path) -> str:
    """The table of all arms."""
    folder = scenes.make(SCENE, place / SCENE, size=SIZE, reuse=True)
    truth = exact(SCENE)
    lines, first = [], None
    for arm in arms:
        key = f"{SCENE} {arm} {seconds:g} s"
        found = rows.get(key, partial(fitted, arm, folder, seconds, truth))
        first = first or found
        cells = [f"{found[name]:.4g}" for name in ("chamfer", "normal_error_deg", "psnr_train")]
        shares = [f"{found[n] / first[n]:.2f}" for n in ("chamfer", "normal_error_deg")]
        closed = "yes" if found["watertight"] else "no"
        lines.append([arm, *cells, *shares, closed, str(found["components"])])
        print(f"{key}: {cells}, of {arms[0]}'s: {shares}", flush=True)
    header = ["", "Chamfer", "normals", "dB", "share", "share", "watertight", "parts"]
    return markdown(header, lines)


class Eikonal:
    """One step, natively and in plain PyTorch, from the same parameters."""

    def __init__(self, n: int = 1 << 16) -> None:
        generator = torch.Generator().manual_seed(1)
        grid = HashGridSpec(log2_table_size=18, finest_resolution=512)
        self.spec = SlopeSpec(grid, MlpSpec((grid.n_output, 64, 16)))
        self.positions = torch.rand(n, 3, generator=generator)
        table = torch.rand(grid.n_entries, grid.n_features, generator=generator) * 2e-4 - 1e-4
        params = torch.randn(self.spec.network.n_params, generator=generator) * 0.2
        self.native = [torch.nn.Parameter(x.clone()) for x in (table, params)]
        self.plain = [torch.nn.Parameter(x.clone()) for x in (table, params)]
        self._states = [AdamState(x, sparse=k == 0, l2=0.0) for k, x in enumerate(self.native)]
        touched = self._states[0].touched
        assert touched is not None
        self._sparse = SparseGradient(self._states[0].grad, touched)
        self._adam = torch.optim.Adam(self.plain, lr=1e-3, fused=True)
        self._grid, self._number = Grid(grid), 0

    @staticmethod
    def loss(features: Tensor, slope: Tensor) -> Tensor:
        """Of slopes and of distances."""
        stretch = (slope.norm(dim=1) - 1).square().sum()
        return torch.add(stretch, features[:, 0].abs().sum())

    def ours(self) -> None:
        """One native step."""
        table, params = self.native
        with one_torch_thread():
            features, slope = trunk_slope(self.positions, table, params, self.spec, self._sparse)
            (gradient,) = torch.autograd.grad(self.loss(features, slope), [params])
            self._states[1].grad.copy_(gradient)
            self._number += 1
            for state in self._states:
                state.step(1e-3, self._number)

    def theirs(self) -> None:
        """One step by `create_graph`."""
        self._adam.zero_grad(set_to_none=False)
        for piece in torch.split(self.positions, PIECE_SAMPLES):
            at = piece.clone().requires_grad_()
            features = self.features(at)
            (slope,) = torch.autograd.grad(features[:, 0].sum(), at, create_graph=True)
            self.loss(features, slope).backward()  # type: ignore[no-untyped-call]
        self._adam.step()

    def features(self, at: Tensor) -> Tensor:
        """What plain PyTorch can differentiate twice."""
        table, params = self.plain
        index, weight = self._grid.corners(at)
        found = F.embedding(index, table) * weight[:, :, None]
        by_level = found.sum(1).view(self.spec.grid.n_levels, len(at), -1)
        encoded = by_level.transpose(0, 1).reshape(len(at), -1)
        n_in, n_hidden, n_out = self.spec.network.widths
        first, second = torch.split(params, [n_in * n_hidden, n_hidden * n_out])
        hidden = F.relu(F.linear(encoded, first.view(n_hidden, n_in)))
        return F.linear(hidden, second.view(n_out, n_hidden))


def eikonal() -> dict[str, Any]:
    """How long either takes, ms, and the ratio of the two in one run."""
    step = Eikonal()
    arms = {"ours": step.ours, "torch": step.theirs}
    taken = compare(arms, rounds=7, min_seconds=0.5)
    return {
        "ours_ms": taken["ours"].median * 1e3,
        "torch_ms": taken["torch"].median * 1e3,
        "ratio": ratio(taken["torch"], taken["ours"]),
        "points": len(step.positions),
    }


def main() -> None:
    """Make the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON file of the rows")
    parser.add_argument(
        "--parts", nargs="*", choices=("shapes", "eikonal"), default=["shapes", "eikonal"]
    )
    parser.add_argument("--arms", nargs="*", choices=[*ARMS], default=[*ARMS])
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"of a fit ({SECONDS:g})")
    parser.add_argument("--scenes", type=Path, default=Path("scenes_made"), help="where it is made")
    options = parser.parse_args()
    rows = Rows(options.output)
    if "eikonal" in options.parts:
        found = rows.get("eikonal", eikonal)
        print(
            f"eikonal step, {found['points']} points: {found['ours_ms']:.1f} ms, plain PyTorch "
            f"{found['torch_ms']:.1f} ms: {found['ratio']:.1f} times as long"
        )
    if "shapes" in options.parts:
        options.scenes.mkdir(parents=True, exist_ok=True)
        print(shapes(rows, options.arms, options.seconds, options.scenes))


if __name__ == "__main__":
    main()
