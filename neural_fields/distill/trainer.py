"""Distilling a radiance field into another architecture (PVD, Fang et al. 2023; PVD-AL)."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from neural_fields.decoders import direction_coordinates
from neural_fields.distill.cameras import boxed, like, shell, with_poses
from neural_fields.distill.options import DistillOptions, Stage
from neural_fields.distill.pools import HARD, RAY_CAPACITY, CameraPool, RayPool
from neural_fields.distill.start import start_student
from neural_fields.fields import RadianceConfig, RadianceField, Samples
from neural_fields.fields.quantize import quantized
from neural_fields.fields.radiance import Level, Levels
from neural_fields.ops import (
    MarchScene,
    SampleLevels,
    composite,
    device_of,
    generator,
    level_losses,
    vector,
    visible_samples,
)
from neural_fields.ops.composite import Composited
from neural_fields.rendering.cameras import Cameras
from neural_fields.rendering.footprint import cone_variances
from neural_fields.training.ledger import Ledger, Sums
from neural_fields.training.nerf import coarser
from neural_fields.training.radiance_step import (
    PackedBatch,
    kept_samples,
    of_rays,
    owners,
    shares,
)
from neural_fields.training.state import START_POINTS, TrainState, grid_shares, stream_seed

Rows = TypeVar("Rows", Samples, Levels)
_CAMERAS, _HARD = 0x43414D, 0x48415244  # streams of random numbers of their own


@dataclass(frozen=True)
class DistillStep:
    """What one step did.

    Attributes:
        loss: weighted sum of what is compared.
        mse: of the student's pixels against the teacher's, or of colours before pixels are made,
            or of features before colours are.
            On a GPU steps are reported together, once they are known; then 0 rays where none is.
        n_rays: rays that were marched.
        n_samples: shared samples that were compared.
        stage: what was compared.
        losses: of features, log-density and colour; zeros on a GPU, where nobody waits for them.
    """

    loss: float
    mse: float
    n_rays: int
    n_samples: int
    stage: Stage
    losses: tuple[float, float, float]


class Shared(NamedTuple):
    """Samples that teacher and student are asked, packed by ray, and what the teacher says.

    offsets [r + 1] of r rays; t_starts, t_ends [n], and `cube`, all that a field is asked at n
    samples; levels and pixels are the teacher's.
    """

    offsets: Tensor
    t_starts: Tensor
    t_ends: Tensor
    cube: Samples
    levels: Levels
    pixels: Composited | None
    exists: Tensor | None  # bool [n], which samples do, on a GPU
    share: Tensor  # [r], of rays in a mean over those that have all of their samples
    used: Tensor  # int64 [2], rays that were marched and the samples that are worth comparing


class Distiller:
    """One run: a frozen teacher, a student that learns, the samples that both see.

    The teacher marches; the student keeps the teacher's occupancy grid. Every random choice is a
    function of (seed, step) and of the pools of PVD-AL, so a run can stop and go on.
    """

    def __init__(
        self,
        teacher: RadianceField,
        config: RadianceConfig,
        cameras: Cameras,
        options: DistillOptions,
        seed: int = 0,
        *,
        inherit: bool = True,
    ) -> None:
        """`inherit`: whether the student begins with the teacher's colour head if it fits."""
        self.teacher, self.options, self.seed = teacher, options, seed
        self.device = device_of(teacher)
        self.scene_cameras = cameras
        self.field = RadianceField(config, seed).to(self.device)
        self.field.occupancy.copy_(teacher.occupancy)
        cam = config.modulate
        if self.field.modulation is not None and cam and cam.coordinates.startswith("direction"):
            axes = -cameras.camera_to_world[:, :3, 2]
            self.field.modulation.set_mean(direction_coordinates(axes).to(self.device))
        self.inherits = inherit and self._inherit_head()
        share = options.grid_rate / options.learning_rate
        self.state = TrainState(
            self.field,
            shares={
                **grid_shares(self.field.trunk, share),
                "modulation.grid": options.modulation_share,
            },
            l2=options.l2,
            matrix_share=options.matrix_rate / options.learning_rate,
        )
        self.step_number = 0
        self.n_rays = options.n_rays
        self.n_samples = 0
        self._shares_features = teacher.config.head.n_features == config.head.n_features and (
            "features" in teacher.levels and "features" in self.field.levels
        )
        self._batch, self._room = self._buffers(options.batch_samples)
        self._epoch, self._cameras = -1, self._fresh_cameras(torch.Generator())
        self._errors = torch.zeros(2, len(self._cameras), device=self.device)
        self._hard_cameras = CameraPool(len(self._cameras))
        self._hard_rays = RayPool(RAY_CAPACITY if options.hard_rays else 0)
        self._ledger = Ledger(self.device)

    def _buffers(self, batch_samples: int) -> tuple[PackedBatch, int | None]:
        """Twice the batch for what is marched, and on a GPU how many samples are compared.

        Where nothing steers the number of rays, all that was marched is compared.
        """
        most = batch_samples or 1 << 18
        if self.device.type == "cpu":
            return PackedBatch(self.teacher, most * 4 // 3), None
        batch = PackedBatch(self.teacher, most * 16 // 9)
        return batch, most * 9 // 8 if batch_samples else batch.t_starts.numel()

    @torch.no_grad()
    def _inherit_head(self) -> bool:
        mine, other = self.field.color_head, self.teacher.color_head
        if mine is None or other is None or mine.config != other.config:
            return False
        mine.mlp.params.copy_(other.mlp.params)
        return True

    def step(self, progress: float) -> DistillStep:
        """One update of all parameters; nothing is updated where the loss is not finite.

        On a GPU that is seen a few steps later.
        """
        stage = self.options.stage(progress, features=self._shares_features)
        seed = stream_seed(self.seed, self.step_number)
        draw = generator(self.device, seed)
        self._renew_cameras(progress)
        rays, ids, slots = self._draw_rays(draw, progress)
        jitter = torch.rand(len(rays), generator=draw, device=self.device)
        background = torch.rand(len(rays), 3, generator=draw, device=self.device)
        if self.step_number == 0 and self.options.start == "closed":
            self._start(torch.Generator().manual_seed(seed))
        options = self.options
        steps = (options.coarse_step, options.fine_step, options.fine_from)
        scene = coarser(self.teacher.march_scene(), progress, *steps)
        shared = self._ask_teacher(rays, jitter, stage, scene)
        self.state.start(
            self.field.trunk, self.seed, self.step_number, lambda g: self._shown(shared, g)
        )
        with quantized(self.field, self.field.config.weight_bits):
            loss, mse, losses, errors = self._compare(shared, stage, progress, background)
            sound = self.device.type != "cpu" or bool(loss.isfinite())
            if sound and loss.requires_grad:
                self.state.backward(loss)
        self.step_number += 1
        if sound:
            rate = self.options.learning_rate * self.options.final_rate**progress
            self.state.step(rate, self.step_number)
            if errors is not None and (options.hard_cameras or options.hard_rays):
                self._note(errors[: int(shared.used[0])], shared.share, rays, ids, slots)
        report = self._learn(self._ledger.add(loss.detach(), mse, shared.used), stage)
        if self.device.type != "cpu":
            return report
        features, log_density, color = losses.tolist()
        return replace(report, losses=(features, log_density, color))

    def _learn(self, known: Sums | None, stage: Stage) -> DistillStep:
        """What follows from how steps went."""
        if known is None:
            return DistillStep(self._ledger.loss, 0.0, 0, 0, stage, (0.0, 0.0, 0.0))
        if math.isfinite(known.loss):
            self.n_samples += known.n_samples
            self._steer(known.n_rays // known.n_steps, known.n_samples // known.n_steps)
        nothing = 0.0, 0.0, 0.0
        return DistillStep(known.loss, known.mse, known.n_rays, known.n_samples, stage, nothing)

    def settle(self) -> float:
        """Wait for a GPU and take note of all steps; the loss of the last ones."""
        self._learn(self._ledger.settle(), "pixels")
        return self._ledger.loss

    def _start(self, draw: torch.Generator) -> None:
        """Set what has a closed form, on the CPU, in time that counts as trained."""
        options = self.options
        on_cpu = self.device.type == "cpu"
        student, teacher = (
            field if on_cpu else copy.deepcopy(field).cpu() for field in (self.field, self.teacher)
        )
        names = start_student(
            student,
            teacher,
            self.scene_cameras,
            (options.clip_low, options.clip_high),
            draw,
            shares_features=self._shares_features,
        )
        if not on_cpu:
            self.field.load_state_dict(student.state_dict())
        self.state.forget(f"trunk.{name}" for name in names)

    def _compare(
        self, shared: Shared, stage: Stage, progress: float, background: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """The loss [], a squared error [], the losses [3] and, with pixels, differences [r, 3]."""
        options = self.options
        mine = self.field.evaluate_cube(shared.cube, self._levels(stage))
        pixels = None if stage != "pixels" else self._composited(shared, mine)
        keep = shared.exists
        if options.hard_points and pixels is not None and shared.pixels is not None:
            keep = visible_samples(shared.offsets, shared.pixels.weights)
            keep = visible_samples(shared.offsets, pixels.weights.detach(), keep=keep)
            keep = keep if shared.exists is None else keep & shared.exists
        losses = level_losses(
            self._compared(mine, stage),
            self._compared(shared.levels, stage),
            keep,
            clip=(options.clip_low, options.clip_high),
            form=options.form,
        )
        of_points = (0.0, 0.0) if stage == "features" else (options.density, options.color)
        weights = vector([options.feature_weight(progress), *of_points], losses)
        loss, errors = (losses * weights).sum(), None
        at = 0 if stage == "features" else 2
        mse = losses.detach()[at]
        if options.form == "norm":
            width = 3 if at else max(1, self.field.config.head.n_features)
            mse = mse.square() / (width * shared.offsets[-1]).clamp(min=1)
        if pixels is not None and shared.pixels is not None:
            errors = over(pixels, background) - over(shared.pixels, background)
            square = errors.square().sum(1)
            mean = (square * shared.share).sum() / 3
            counted = (square * (shared.share > 0)).sum()
            loss = loss + options.pixels * (
                mean if options.form == "mean" else (counted + 1e-12).sqrt()
            )
            mse, errors = mean.detach(), errors.detach()
        return loss, mse, losses.detach(), errors

    def _levels(self, stage: Stage) -> tuple[Level, ...]:
        features: tuple[Level, ...] = ("features",) if self._shares_features else ()
        return features if stage == "features" else (*features, "log_density", "color")

    def _compared(self, levels: Levels, stage: Stage) -> SampleLevels:
        """What both sides have, as the operation takes it."""
        features = levels.features if self._shares_features else None
        if stage == "features":
            return SampleLevels(features, None, None)
        return SampleLevels(features, levels.log_density, levels.color)

    def _composited(self, shared: Shared, levels: Levels) -> Composited:
        assert levels.log_density is not None
        assert levels.color is not None
        log_density = levels.log_density.clamp(self.options.clip_low, self.options.clip_high)
        density = log_density.exp() / self.field.unit
        return composite(shared.offsets, shared.t_starts, shared.t_ends, density, levels.color)

    @torch.no_grad()
    def _ask_teacher(self, rays: Tensor, jitter: Tensor, stage: Stage, scene: MarchScene) -> Shared:
        """March, ask, and end the samples where the teacher has become opaque."""
        teacher = self.teacher
        origins, directions, widths = (
            rays[:, :3].contiguous(),
            rays[:, 3:6].contiguous(),
            rays[:, 6],
        )
        samples, used = self._batch.march(origins, directions, jitter, scene)
        n, offsets = self._batch.n_shown(used), samples.offsets
        t_starts, t_ends = samples.t_starts[:n], samples.t_ends[:n]
        ray = owners(offsets, n)
        variances = None
        if teacher.trunk.sees_variances or self.field.trunk.sees_variances:
            variances = cone_variances(t_starts, t_ends, directions[ray], widths[ray])
            variances = variances / (2 * teacher.unit) ** 2
        # Colours that are made of features wait until it is known which samples matter. A density
        # that depends on the view is a mean here: students have one for all views.
        waits = teacher.color_head is not None
        asked = Samples(samples.positions[:n], None if waits else directions[ray], variances)
        wanted: tuple[Level, ...] = ("features",) if waits else ("color",)
        levels = teacher.evaluate_cube(asked, (*wanted, "log_density"))
        assert levels.log_density is not None
        share, exists = shares(used, len(rays)), None
        if self.options.stop > 0 or self._room is not None:
            keep = of_rays(offsets, n)
            if self.options.stop > 0:
                keep &= self._before_opaque(offsets, ray, t_ends - t_starts, levels.log_density)
            chosen, offsets, exists, fits, total = kept_samples(keep, offsets, self._room)
            share = shares(used, len(rays), fits)
            used = torch.cat([used[:1], total])
            ray, t_starts, t_ends = ray[chosen], t_starts[chosen], t_ends[chosen]
            asked, levels = _taken(asked, chosen), _taken(levels, chosen)
        cube = asked._replace(directions=directions[ray])
        if waits and stage != "features":
            levels = levels._replace(color=self._teacher_color(cube, levels.features))
        shared = Shared(offsets, t_starts, t_ends, cube, levels, None, exists, share, used)
        pixels = self._composited(shared, levels) if stage == "pixels" else None
        return shared._replace(pixels=pixels)

    def _teacher_color(self, cube: Samples, features: Tensor | None) -> Tensor:
        """From the features that are there already, if colours are made of them alone."""
        head, cam = self.teacher.color_head, self.teacher.config.modulate
        by_view = cam is not None and (cam.of_head or self.teacher.view_dependent_density)
        if head is not None and features is not None and not by_view:
            return head.forward(features, cube.directions)
        color = self.teacher.evaluate_cube(cube, ("color",)).color
        assert color is not None
        return color

    def _before_opaque(
        self, offsets: Tensor, ray: Tensor, lengths: Tensor, log_density: Tensor
    ) -> Tensor:
        """Which samples [n] the teacher's rays reach with a transmittance of `stop` or more."""
        clipped = log_density.clamp(self.options.clip_low, self.options.clip_high)
        thickness = (clipped.exp() * lengths / self.teacher.unit).double()
        before = thickness.cumsum(0) - thickness
        first = torch.cat([before, before.new_zeros(1)])[offsets[:-1]]
        return before - first[ray] <= -math.log(self.options.stop)

    def _shown(self, shared: Shared, draw: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Places and what the student's trunk should give there, as far as the teacher knows."""
        chosen = torch.randint(int(shared.offsets[-1]), (START_POINTS,), generator=draw)
        chosen = chosen.to(self.device)
        cube = shared.cube.positions[chosen]
        if self.field.color_head is None or self.options.start == "paper":
            return cube, None
        with torch.no_grad():
            targets = self.field.evaluate_cube(Samples(cube), ("features",)).features
        assert targets is not None
        if self._shares_features:
            assert shared.levels.features is not None
            targets = shared.levels.features[chosen].clone()
        assert shared.levels.log_density is not None
        low, high = self.options.clip_low, self.options.clip_high
        targets[:, 0] = shared.levels.log_density[chosen].clamp(low, high)
        return cube, targets

    def _draw_rays(self, draw: torch.Generator, progress: float) -> tuple[Tensor, Tensor, Tensor]:
        """Rays [n, 7] (origin, direction, pixel width), their cameras, the slots of hard ones."""
        cameras, n = self._cameras, self.n_rays
        ids = torch.randint(len(cameras), (n,), generator=draw, device=self.device)
        pixels = torch.rand(n, 2, generator=draw, device=self.device)
        pixels = pixels * vector((cameras.width, cameras.height), pixels)
        origins, directions = cameras.rays(ids, pixels)
        rays = torch.cat([origins, directions, cameras.pixel_widths(ids)[:, None]], 1)
        if not self.options.hard_rays:
            return rays, ids, ids[:0]
        self._hard_rays.closed = progress >= self.options.points_until + self.options.pool_share
        host = torch.Generator().manual_seed(stream_seed(self.seed ^ _HARD, self.step_number))
        again, slots = self._hard_rays.draw(int(HARD * n), host)
        return torch.cat([rays, again.to(self.device)]), ids, slots

    def _renew_cameras(self, progress: float) -> None:
        n_epochs = self.options.n_epochs
        epoch = min(int(progress * n_epochs), n_epochs - 1)
        if epoch == self._epoch:
            return
        draw = self._of_epoch(epoch)
        fresh = self._fresh_cameras(draw)
        if self.options.hard_cameras and self._epoch >= 0:
            before = self._cameras.to("cpu")
            errors = self._mean_errors().cpu()
            fresh = self._hard_cameras.renewed(before, errors, fresh, draw)
        self._cameras, self._epoch = fresh.to(self.device), epoch
        self._errors = torch.zeros(2, len(fresh), device=self.device)

    def _of_epoch(self, epoch: int) -> torch.Generator:
        return torch.Generator().manual_seed(stream_seed(self.seed ^ _CAMERAS, epoch))

    def _fresh_cameras(self, draw: torch.Generator) -> Cameras:
        center, n = self.teacher.center, self.options.n_cameras
        if self.options.poses == "shell":
            return shell(self.scene_cameras, center, draw)
        make = boxed if self.options.poses == "front" else like
        return make(self.scene_cameras, center, n, draw)

    def _mean_errors(self) -> Tensor:
        total, count = self._errors
        return torch.where(count > 0, total / count.clamp(min=1), -1.0)

    def _note(
        self, errors: Tensor, share: Tensor, rays: Tensor, ids: Tensor, slots: Tensor
    ) -> None:
        """Remember how hard cameras and rays were; what lacks samples says nothing."""
        n = len(errors)  # rays that were marched, the first ones
        own, counts = min(n, len(ids)), (share[:n] > 0).float()
        errors = errors * counts[:, None]
        if self.options.hard_cameras:
            self._errors[0].index_add_(0, ids[:own], errors[:own].square().mean(1))
            self._errors[1].index_add_(0, ids[:own], counts[:own])
        if self.options.hard_rays:
            hard = errors.abs().sum(1).cpu()  # the pool is the host's
            self._hard_rays.put(rays[:n].cpu(), hard, slots[: n - own])

    def _steer(self, n_rays: int, n_samples: int) -> None:
        """Choose the next number of rays so that their samples come near the batch size."""
        if self.options.batch_samples:
            wanted = n_rays * min(2.0, self.options.batch_samples / max(n_samples, 1))
            self.n_rays = max(256, min(1 << 17, int(wanted) // 64 * 64))

    def check_finite(self) -> None:
        """Raise TrainingError naming the first parameter that holds NaN or infinity."""
        self.state.check_finite(self.step_number)

    def averaged_field(self) -> RadianceField:
        """A copy of the student with the averaged weights."""
        field = RadianceField(self.field.config, seed=None).to(self.device)
        self.state.average_into(field)
        return field

    def checkpoint_tensors(self) -> dict[str, Tensor]:
        """What a checkpoint needs besides the averaged field."""
        return {**self.state.checkpoint_tensors(), **self._active_tensors()}

    def _active_tensors(self) -> dict[str, Tensor]:
        """What PVD-AL has seen."""
        found: dict[str, Tensor] = {}
        if self.options.hard_rays:
            rays = self._hard_rays.tensors()
            found |= {f"checkpoint.hard_{name}": value for name, value in rays.items()}
        if self.options.hard_cameras:
            found["checkpoint.hard_cameras"] = self._hard_cameras.poses
            found["checkpoint.cameras"] = self._cameras.camera_to_world
            found["checkpoint.errors"] = self._errors
        return found

    def checkpoint_state(self) -> dict[str, int]:
        """The numbers that go with it."""
        return {
            "step": self.step_number,
            "n_rays": self.n_rays,
            "n_samples": self.n_samples,
            "epoch": self._epoch,
            "n_hard_rays": self._hard_rays.n_filled,
            "n_hard_cameras": self._hard_cameras.n_filled,
        }

    def restore(self, tensors: dict[str, Tensor], state: dict[str, int]) -> None:
        """Go on from a checkpoint of the same configuration."""
        self.state.restore(tensors)
        self.step_number, self.n_rays = state["step"], state["n_rays"]
        self.n_samples, self._epoch = state["n_samples"], state["epoch"]
        self._hard_rays.n_filled = state["n_hard_rays"]
        self._hard_cameras.n_filled = state["n_hard_cameras"]
        if self._epoch < 0:
            return
        self._cameras = self._fresh_cameras(self._of_epoch(self._epoch)).to(self.device)
        for name, value in self._active_tensors().items():
            value.copy_(tensors[name])
        # Rays are made from tables that are kept beside the poses.
        self._cameras = with_poses(self._cameras, self._cameras.camera_to_world)


def _taken(rows: Rows, index: Tensor) -> Rows:
    """The same of some samples [m]."""
    kept: Any = (None if x is None else x.index_select(0, index) for x in rows)
    return type(rows)(*kept)


def over(pixels: Composited, background: Tensor) -> Tensor:
    """Pixels [n, 3] over backgrounds [n, 3]."""
    return pixels.color + (1 - pixels.opacity)[:, None] * background
