"""Fitting a radiance field to posed photographs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from neural_fields.data.dataset import Dataset
from neural_fields.errors import InputError, TrainingError
from neural_fields.fields import RadianceConfig, RadianceField
from neural_fields.ops import (
    MarchScene,
    RadianceGradients,
    RadianceSamples,
    radiance_sample,
    radiance_train,
)
from neural_fields.rendering.occupancy import OccupancyGrid
from neural_fields.training.adam import AdamState
from neural_fields.training.average import Average
from neural_fields.training.visibility import visible_cells


@dataclass(frozen=True)
class NerfOptions:
    """How a radiance field is trained.

    Attributes:
        batch_samples: samples per step that the number of rays is steered to.
        learning_rate: at the start.
        final_rate: learning rate at the end, as a share of the start's; exponential between.
        huber: knee of the Huber loss (Mueller et al. 2022 use 0.1).
        l2: weight decay of the networks, added to the gradient.
        grid_every: steps between occupancy updates.
        grid_decay: decay of an evaluated cell's old estimate.
        grid_points: most cells that one update evaluates.
        coarse_step: factor on the sampling step at the start; it falls to 1 at half the budget.
    """

    batch_samples: int = 1 << 16
    learning_rate: float = 4e-2
    final_rate: float = 0.03
    huber: float = 0.1
    l2: float = 1e-6
    grid_every: int = 16
    grid_decay: float = 0.9
    grid_points: int = 1 << 18
    coarse_step: float = 8.0


@dataclass(frozen=True)
class StepReport:
    """What one step did: mean loss and squared error, rays, marched samples."""

    loss: float
    mse: float
    n_rays: int
    n_samples: int


class NerfTrainer:
    """Raw weights, optimiser state, averaged weights and occupancy of one run.

    The field holds the raw weights; `averages` the weights that evaluate. Every random choice is
    a function of (seed, step), so a run can stop and go on anywhere.
    """

    def __init__(
        self,
        config: RadianceConfig,
        data: Dataset,
        options: NerfOptions | None = None,
        seed: int = 0,
    ) -> None:
        self.data = data
        self.options = options or NerfOptions()
        self.seed = seed
        self.field = RadianceField(config, seed)
        spec = self.field.fused_spec()
        if spec is None:
            raise InputError(
                "fit nerf: needs widths and features in multiples of 16, got a configuration "
                "without a fused form."
            )
        self.grid = OccupancyGrid(self.field, visible_cells(self.field, data), seed)
        if self.grid.n_candidates == 0:
            raise InputError(
                "fit nerf: needs images that show something of the scene box, but all of it is "
                "transparent or out of sight; check the alpha channel and the poses."
            )
        self._spec = spec
        self.parameters = {
            "encoding.table": self.field.encoding.table,
            "trunk.params": self.field.trunk.params,
            "color_head.mlp.params": self.field.color_head.mlp.params,
        }
        self.adam = {
            name: _adam_state(name, parameter, self.options.l2)
            for name, parameter in self.parameters.items()
        }
        self.averages = {name: Average(value) for name, value in self.parameters.items()}
        self.step_number = 0
        self.n_rays = 4096
        self.n_samples = 0  # over the whole run
        self._used = None if data.masks is None else data.masks.view(-1).nonzero()[:, 0].int()
        self._batch = _Batch(self.options.batch_samples * 3 // 2, self.field.encoding.n_output)

    def step(self, progress: float) -> StepReport:
        """One update of all parameters; `progress` in [0, 1] sets the learning rate.

        Nothing is updated where the loss is not finite.
        """
        if self.step_number % self.options.grid_every == 0 and self.step_number > 0:
            self._update_grid()
        rays = self._draw_rays()
        loss, mse, n_used, n_samples = self._gradients(rays, self._scene(progress))
        self.step_number += 1
        if not math.isfinite(loss):
            return StepReport(loss, mse, n_used, n_samples)
        rate = self.options.learning_rate * self.options.final_rate**progress
        for state in self.adam.values():
            state.step(rate, self.step_number)
        for average in self.averages.values():
            average.update(self.step_number)
        self.n_samples += n_samples
        self._steer(n_used, n_samples)
        return StepReport(loss, mse, n_used, n_samples)

    def _update_grid(self) -> None:
        share = math.ceil(self.grid.n_candidates / self.options.grid_points)
        index = self.step_number // self.options.grid_every
        self.grid.update(index, share, self.options.grid_decay**share)

    def _scene(self, progress: float) -> MarchScene:
        """Longer steps at first: more rays for the same samples while detail is still missing."""
        scene = self.field.march_scene()
        # In sixteenths of an octave, so that few distinct scenes are made.
        octaves = math.log2(self.options.coarse_step) * max(0.0, 1 - 2 * progress)
        factor = 2.0 ** (round(octaves * 16) / 16)
        return replace(
            scene, step=scene.step * factor, max_step=max(scene.max_step, scene.step * factor)
        )

    def _draw_rays(self) -> _Rays:
        generator = torch.Generator().manual_seed(_stream(self.seed, self.step_number))
        n, cameras = self.n_rays, self.data.cameras
        per_image = cameras.height * cameras.width
        n_pixels = len(self.data) * per_image if self._used is None else self._used.numel()
        index = torch.randint(n_pixels, (n,), generator=generator)
        if self._used is not None:
            index = self._used[index].long()
        ids, pixel = index // per_image, index % per_image
        rows, columns = pixel // cameras.width, pixel % cameras.width
        noise = torch.rand(n, 4, generator=generator)  # jitter and background
        origins, directions = cameras.rays(ids, torch.stack([columns, rows], 1).float() + 0.5)
        color, alpha = self.data.pixels(ids, torch.stack([rows, columns], 1))
        background = noise[:, 1:].contiguous()
        target = color + (1 - alpha)[:, None] * background
        return _Rays(origins, directions, noise[:, 0].contiguous(), target, background)

    @torch.no_grad()
    def _gradients(self, rays: _Rays, scene: MarchScene) -> tuple[float, float, int, int]:
        """Leave all gradients in the optimiser states; loss, mse, rays and samples used."""
        batch, field, n = self._batch, self.field, rays.origins.shape[0]
        offsets = torch.empty(n + 1, dtype=torch.int64)
        samples = RadianceSamples(offsets, batch.t_starts, batch.t_ends, batch.positions)
        n_used = radiance_sample(
            scene, field.occupancy, rays.origins, rays.directions, rays.jitter, samples
        )
        loss, color = torch.empty(n), torch.empty(n, 3)
        table, trunk, head = self.adam.values()
        assert table.touched is not None
        radiance_train(
            self._spec,
            field.fused_params(),
            samples,
            rays.origins,
            rays.directions,
            rays.target,
            rays.background,
            batch.features,
            RadianceGradients(
                table.grad.view_as(field.encoding.table), table.touched, trunk.grad, head.grad
            ),
            loss,
            color,
            unit=field.unit,
            stop=field.config.sampling.stop,
            huber=self.options.huber,
            n_loss_rays=max(n_used, 1),
        )
        used = slice(0, max(n_used, 1))
        error = float((color[used] - rays.target[used]).square().mean())
        return float(loss[used].mean()), error, n_used, int(offsets[n_used])

    def _steer(self, n_rays: int, n_samples: int) -> None:
        """Choose the next number of rays so that their samples come near the batch size."""
        wanted = n_rays * min(2.0, self.options.batch_samples / max(n_samples, 1))
        self.n_rays = max(256, min(1 << 17, int(wanted) // 64 * 64))

    def check_finite(self) -> None:
        """Raise TrainingError naming the first parameter that holds NaN or infinity."""
        for name, parameter in self.parameters.items():
            if not math.isfinite(float(parameter.detach().sum())):
                raise TrainingError(
                    f"step {self.step_number}: {name} is not finite; try a lower learning rate."
                )

    def averaged_field(self) -> RadianceField:
        """A copy of the field with the averaged weights and the grid of now."""
        field = RadianceField(self.field.config)
        with torch.no_grad():
            state = field.state_dict()
            for name, average in self.averages.items():
                state[name].copy_(average.value)
            field.occupancy.copy_(self.field.occupancy)
        return field

    def checkpoint_tensors(self) -> dict[str, Tensor]:
        """What a checkpoint needs besides the averaged field."""
        tensors = {"occupancy.values": self.grid.values}
        for name, state in self.adam.items():
            tensors |= {f"checkpoint.{key}.{name}": t for key, t in state.tensors().items()}
        return tensors

    def checkpoint_state(self) -> dict[str, int]:
        """The numbers that go with `checkpoint_tensors`."""
        return {"step": self.step_number, "n_rays": self.n_rays, "n_samples": self.n_samples}

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor], state: dict[str, int]) -> None:
        """Go on from a checkpoint of the same configuration."""
        for name, adam in self.adam.items():
            adam.load({key: tensors[f"checkpoint.{key}.{name}"] for key in adam.tensors()})
            self.averages[name].value.copy_(tensors[f"field.{name}"])
        self.grid.values.copy_(tensors["occupancy.values"])
        self.field.occupancy.copy_(tensors["occupancy.words"])
        self.step_number, self.n_rays = state["step"], state["n_rays"]
        self.n_samples = state["n_samples"]


@dataclass(frozen=True)
class _Rays:
    """A batch: origins, unit directions [n, 3], jitter [n], target and background [n, 3]."""

    origins: Tensor
    directions: Tensor
    jitter: Tensor
    target: Tensor
    background: Tensor


class _Batch:
    """Buffers for the packed samples of a step."""

    def __init__(self, capacity: int, n_features: int) -> None:
        self.t_starts = torch.empty(capacity)
        self.t_ends = torch.empty(capacity)
        self.positions = torch.empty(capacity, 3)
        self.features = torch.empty(capacity, n_features)


def _stream(seed: int, step: int) -> int:
    """A generator seed per (seed, step); distinct for all steps of a run."""
    return (seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03 + 1) & 0x7FFFFFFFFFFFFFFF


def _adam_state(name: str, parameter: Tensor, l2: float) -> AdamState:
    """Table entries that no sample touched stay as they are; only networks decay."""
    is_table = name == "encoding.table"
    return AdamState(parameter, sparse=is_table, l2=0.0 if is_table else l2)
