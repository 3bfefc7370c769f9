"""The radiance field on a GPU: a step on stored samples, a trainer's step, a view, and Lego."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neural_fields import scenes
from neural_fields.architectures.hash import Hash
from neural_fields.benchmarks.batch import UNIT, StoredBatch, stored_batch
from neural_fields.benchmarks.device_case import Arm, Case, Place
from neural_fields.benchmarks.device_peers import HALF, DeviceBaseline, has_tcnn
from neural_fields.benchmarks.torch_baseline import HUBER, Batch
from neural_fields.data.dataset import Dataset, load_dataset
from neural_fields.fields import RadianceConfig, RadianceField, Sampling
from neural_fields.integrations.tcnn import use_tcnn
from neural_fields.ops import MarchScene, RadianceSamples
from neural_fields.rendering.cameras import Cameras
from neural_fields.rendering.volume import render_view
from neural_fields.scenes.cameras import RADIUS, focal_length
from neural_fields.training.nerf import NerfTrainer
from neural_fields.training.presets import radiance_setup
from neural_fields.training.radiance_step import PackedBatch, Rays, _ByOps
from neural_fields.training.state import TrainState, grid_shares

_SCENE = "locomotive"
_MEASURED_STEPS = 64  # over which a trainer's samples are counted
_SMALL_CELLS = 32  # of a rehearsal's grid, per axis


def step(place: Place) -> Iterator[Case]:
    """Encode, both networks, compositing, Huber loss, backward, Adam; march is a row of its own.

    Both arms get the same packed samples. Light passes through all of them at first, and ours may
    end no ray early, so that both do the same work.
    """
    for n_samples, side in place.sizes.batches:
        stored = _on(stored_batch(n_samples, side), place.device)
        batch = stored.batch
        ours = _Native(place, stored, sparse=True)
        plain, theirs = ours.plain(place), _by_tcnn(place, stored)
        n = batch.n_samples
        yield Case(
            f"step:{n_samples}",
            n,
            "samples",
            ours=ours.step,
            eager={"torch_baseline": lambda plain=plain, batch=batch: plain.step(batch)},  # type: ignore[misc]
            tcnn=theirs,
            note="" if theirs is None else HALF,
        )


def _on(stored: StoredBatch, device: torch.device) -> StoredBatch:
    parts: dict[str, Any] = vars(stored.batch)
    there = {name: part.to(device) for name, part in parts.items() if isinstance(part, Tensor)}
    batch = replace(stored.batch, **{**parts, **there})
    return replace(stored, batch=batch, origins=stored.origins.to(device))


class _Stored(PackedBatch):
    """Samples that are there already, in place of a march."""

    def __init__(self, field: RadianceField, batch: Batch) -> None:
        super().__init__(field, batch.n_samples)
        self._samples = RadianceSamples(
            batch.offsets, batch.t_starts, batch.t_ends, batch.positions
        )
        self._used = torch.tensor([batch.n_rays, batch.n_samples]).to(batch.positions.device)

    def march(
        self,
        origins: Tensor,
        directions: Tensor,
        jitter: Tensor,
        scene: MarchScene,
        times: Tensor | None = None,
    ) -> tuple[RadianceSamples, Tensor]:
        """The same ones every time."""
        return self._samples, self._used

    def n_shown(self, used: Tensor) -> int:
        """All of them."""
        return self._samples.t_starts.numel()


class _Native:
    """The trainer's path by operations, over stored samples."""

    def __init__(self, place: Place, stored: StoredBatch, sparse: bool) -> None:
        config = RadianceConfig(
            box=((-UNIT,) * 3, (UNIT,) * 3),
            architecture=Hash(log2_table_size=place.sizes.log2_table_size),
            sampling=Sampling(stop=0.0),
        )
        self.field = RadianceField(config, seed=0).to(place.device)
        shares = grid_shares(self.field.trunk, 1.0)
        self.state = TrainState(self.field, shares=shares, l2=0.0, sparse=sparse)
        batch, n = stored.batch, stored.batch.n_rays
        self.gradients = _ByOps(self.field, self.state, _Stored(self.field, batch), HUBER)
        self.rays = Rays(
            stored.origins,
            batch.directions,
            torch.zeros(n, dtype=torch.int64, device=place.device),
            place.empty(n).zero_(),
            place.empty(n).fill_(0.5),
            batch.target,
            batch.background,
        )
        self.scene = self.field.march_scene()
        self.n_steps = 0

    def step(self) -> None:
        """Gradients and Adam."""
        self.gradients(self.rays, self.scene)
        self.n_steps += 1
        self.state.step(1e-2, self.n_steps)

    def plain(self, place: Place) -> DeviceBaseline:
        """The same field in plain PyTorch."""
        trunk, head = self.field.trunk, self.field.color_head
        assert head is not None
        encoding: Any = trunk.encoding
        network: Any = trunk.mlp
        params = (encoding.table, network.params, head.mlp.params)
        table, density, color = (tensor.detach() for tensor in params)
        return DeviceBaseline(encoding.spec, table, density, color, place.device)


def _by_tcnn(place: Place, stored: StoredBatch) -> Arm | None:
    """Our step with its hash grid and networks by tiny-cuda-nn."""
    theirs = _Native(place, stored, sparse=False)
    encoding: Any = theirs.field.trunk.encoding
    network: Any = theirs.field.trunk.mlp
    head = theirs.field.color_head
    assert head is not None
    if not has_tcnn(place, encoding.spec, network.spec, head.mlp.spec):
        return None

    def arm() -> None:
        with use_tcnn():
            theirs.step()

    return arm


def train(place: Place) -> Iterator[Case]:
    """`train`: a step as `nf fit nerf` takes it, with rays, march and cells; `render`: a view.

    The view is of the field that the trainer has by then. Neither has an arm of plain PyTorch.
    """
    sizes = place.sizes
    with tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(place, _dataset(Path(folder) / _SCENE, *sizes.scene))
    for number in range(sizes.train_steps):
        trainer.step(number / sizes.train_steps)
    trainer.settle()
    before = trainer.n_samples
    for _ in range(_MEASURED_STEPS if place.is_gpu else 1):
        trainer.step(1.0)
    trainer.settle()
    n_steps = _MEASURED_STEPS if place.is_gpu else 1
    yield Case(
        "train",
        (trainer.n_samples - before) // n_steps,
        "samples",
        ours=lambda: trainer.step(1.0),
        note=f"samples about; matrices by Muon as in the default preset; scene {_SCENE}",
        turns=10.0,
    )
    trainer.settle()
    side = sizes.picture
    cameras = Cameras.orbit(
        (0, 0, 0), RADIUS, 30, n=1, focal=focal_length(side), width=side, height=side
    ).to(place.device)
    field = trainer.averaged_field()
    yield Case(
        f"render:{side}x{side}",
        side * side,
        "pixels",
        ours=lambda: render_view(field, cameras),
        note=f"after {sizes.train_steps + n_steps} steps and more",
    )


def _dataset(folder: Path, n_views: int, side: int) -> Dataset:
    scenes.make(_SCENE, folder, n_train=n_views, n_test=1, size=side, depth=False)
    return load_dataset(folder)


def _trainer(place: Place, data: Dataset) -> NerfTrainer:
    config, options = radiance_setup(data)
    if place.sizes.train_samples:
        options = replace(options, batch_samples=place.sizes.train_samples)
        sampling = replace(config.sampling, resolution=_SMALL_CELLS)
        config = replace(config, sampling=sampling)
    return NerfTrainer(config, data, options, seed=0, device=place.device)


def lego(folder: Path, device: torch.device) -> Callable[[float], dict[str, Any]]:
    """What fits for so many seconds and scores the unseen views; photographs are read once."""
    import neural_fields as nf

    data, unseen = load_dataset(folder), load_dataset(folder, "test")

    def fitted(seconds: float) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "field.nf"
            run = nf.fit.nerf(data, path, seconds=seconds, device=str(device))
            score = nf.evaluate(path, unseen, device=str(device))
        return {
            "seconds": seconds,
            "psnr_test": score["psnr"],
            "ssim_test": score["ssim"],
            "n_views": score["n_views"],
            "steps": run.summary["steps"],
            "train_samples": run.summary["train_samples"],
        }

    return fitted
