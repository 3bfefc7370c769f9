"""Fitting a radiance field to posed photographs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from neural_fields.data.dataset import Dataset
from neural_fields.decoders import direction_coordinates
from neural_fields.errors import InputError, TrainingError
from neural_fields.fields import DynamicConfig, DynamicField, RadianceConfig, RadianceField
from neural_fields.fields.quantize import quantized
from neural_fields.ops import MarchScene, generator
from neural_fields.rendering.occupancy import MovingOccupancy, OccupancyGrid
from neural_fields.training.ledger import Ledger, Sums
from neural_fields.training.radiance_step import Outcome, Rays, gradient_step
from neural_fields.training.state import START_POINTS, TrainState, grid_shares, stream_seed
from neural_fields.training.visibility import visible_cells

_NOTHING = 1e-6  # optical thickness of a step that nobody sees


@dataclass(frozen=True)
class NerfOptions:
    """How a radiance field is trained.

    Attributes:
        batch_samples: samples per step that the number of rays is steered to.
        learning_rate: of networks, at the start.
        grid_rate: of grids, at the start.
        matrix_rate: of the matrices of networks, at the start, root mean square of an
            orthogonal step (`Muon`); 0: Adam moves them, at `learning_rate`.
        motion_rate: of the network that moves positions, at the start.
        modulation_share: learning rate of a modulation's grid as a share of the networks'.
        final_rate: all at the end, as a share of the start's; exponential between.
        huber: knee of the Huber loss (Mueller et al. 2022 use 0.1).
        l2: weight decay of the networks, added to the gradient.
        grid_from: share of the budget before the first occupancy update.
        grid_every: steps between occupancy updates.
        grid_decay: decay of an evaluated cell's old estimate.
        grid_points: most cells that one update evaluates.
        coarse_step: factor on the sampling step at the start; it falls to 1 at half the budget.
    """

    batch_samples: int = 1 << 16
    learning_rate: float = 4e-2
    grid_rate: float = 4e-2
    matrix_rate: float = 0.0
    motion_rate: float = 1e-3
    modulation_share: float = 1.0
    final_rate: float = 0.03
    huber: float = 0.1
    l2: float = 1e-6
    grid_from: float = 0.0
    grid_every: int = 16
    grid_decay: float = 0.9
    grid_points: int = 1 << 18
    coarse_step: float = 8.0

    ANY_NUMBER = frozenset({"matrix_rate", "grid_from"})


@dataclass(frozen=True)
class StepReport:
    """What one step did: mean loss and squared error, rays, marched samples."""

    loss: float
    mse: float
    n_rays: int
    n_samples: int


def coarser(
    scene: MarchScene,
    progress: float,
    coarse_step: float,
    fine_step: float = 1.0,
    fine_from: float = 0.5,
) -> MarchScene:
    """Longer steps at first: more rays for the same samples while detail is still missing.

    The factor falls from `coarse_step` to `fine_step` at the share `fine_from` of the budget.
    """
    # In sixteenths of an octave, so that few distinct scenes are made.
    last = math.log2(fine_step)
    octaves = last + (math.log2(coarse_step) - last) * max(0.0, 1 - progress / fine_from)
    step = scene.step * 2.0 ** (round(octaves * 16) / 16)
    return replace(scene, step=step, max_step=max(scene.max_step, step))


class NerfTrainer:
    """Raw weights, optimiser state, averaged weights and occupancy of one run.

    The field holds the raw weights; `state.averages` the weights that evaluate. Every random
    choice is a function of (seed, step), so a run can stop and go on anywhere.
    """

    def __init__(
        self,
        config: RadianceConfig,
        data: Dataset,
        options: NerfOptions | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.options = options or NerfOptions()
        self.seed = seed
        self.field = self._field_of(config, seed)
        cam = config.modulate
        if self.field.modulation is not None and cam and cam.coordinates.startswith("direction"):
            axes = -data.cameras.camera_to_world[:, :3, 2]
            self.field.modulation.set_mean(direction_coordinates(axes))
        visible = self._looked_at(self.field, data)
        self.field.to(self.device)
        self.data = data.to(self.device)
        self.grid: OccupancyGrid | MovingOccupancy = self._grid_of(self.field, visible)
        if self.grid.n_candidates == 0:
            raise InputError(
                "fit: needs images that show something of the scene box, but all of it is "
                "transparent or out of sight; check the alpha channel and the poses."
            )
        self.step_number = 0
        self.n_rays = 4096
        self.n_samples = 0  # over the whole run
        masks = self.data.masks
        self._used = None if masks is None else masks.view(-1).nonzero()[:, 0].int()
        background = self.data.background
        self._background = None if background is None else background.to(self.device)
        self._ledger = Ledger(self.device)
        self._start()

    def _field_of(self, config: RadianceConfig, seed: int) -> RadianceField:
        if isinstance(config, DynamicConfig):
            return DynamicField(config, seed)
        return RadianceField(config, seed)

    def _looked_at(self, field: RadianceField, data: Dataset) -> Tensor:
        """Which cells may hold something: bool [cells]."""
        return visible_cells(field, data)

    def _grid_of(self, field: RadianceField, visible: Tensor) -> OccupancyGrid | MovingOccupancy:
        if isinstance(field, DynamicField):
            return MovingOccupancy(field, visible, self.seed)
        return OccupancyGrid(field, visible, self.seed)

    def _start(self) -> None:
        """Make the optimiser's state, and what fills its gradients."""
        self.state = self._state_of(self.field)
        self._gradients = gradient_step(
            self.field, self.state, self.options.batch_samples, self.options.huber
        )

    def _state_of(self, field: RadianceField, sparse: bool = True) -> TrainState:
        options = self.options
        grids = grid_shares(field.trunk, options.grid_rate / options.learning_rate)
        modulation = {"modulation.grid": options.modulation_share}
        return TrainState(
            field,
            shares={**grids, **modulation, **self._motion_shares()},
            l2=options.l2,
            matrix_share=options.matrix_rate / options.learning_rate,
            sparse=sparse,
        )

    def _motion_shares(self) -> dict[str, float]:
        share = self.options.motion_rate / self.options.learning_rate
        names = [name for name, _ in self.field.named_parameters()]
        return {name: share for name in names if name.startswith("motion.")}

    def step(self, progress: float) -> StepReport:
        """One update of all parameters; `progress` in [0, 1] sets the learning rate.

        Nothing is updated where the loss is not finite, but on a GPU, where that is seen a few
        steps later. There reports are of the steps that are known by now, 0 rays where it is none.
        """
        due = self.step_number % self.options.grid_every == 0 and self.step_number > 0
        if due and progress >= self.options.grid_from:
            self._update_grid()
        self.state.start(self.field.trunk, self.seed, self.step_number, self._places)
        with quantized(self.field, self.field.config.weight_bits):
            outcome = self._outcome(progress)
        self.step_number += 1
        known = self._ledger.add(*outcome)
        if known is None or self.device.type != "cpu" or math.isfinite(known.loss):
            rate = self.options.learning_rate * self.options.final_rate**progress
            self.state.step(rate, self.step_number)
        if known is None:
            return StepReport(self._ledger.loss, 0.0, 0, 0)
        return self._learn(known)

    def _learn(self, known: Sums) -> StepReport:
        """What follows from how steps went."""
        if math.isfinite(known.loss):
            self.n_samples += known.n_samples
            self._steer(known.n_rays // known.n_steps, known.n_samples // known.n_steps)
        return StepReport(known.loss, known.mse, known.n_rays, known.n_samples)

    def settle(self) -> float:
        """Wait for a GPU and take note of all steps; the loss of the last ones."""
        known = self._ledger.settle()
        if known is not None:
            self._learn(known)
        return self._ledger.loss

    def _outcome(self, progress: float) -> Outcome:
        """Leave the gradients of a batch in the optimiser's buffers."""
        scene = coarser(self.field.march_scene(), progress, self.options.coarse_step)
        return self._gradients(self._draw_rays(), scene)

    def _update_grid(self) -> None:
        share = math.ceil(self.grid.n_candidates / self.options.grid_points)
        index = self.step_number // self.options.grid_every
        self.grid.update(index, share, self.options.grid_decay**share)
        if isinstance(self.grid, MovingOccupancy) and float(self.grid.values.max()) < _NOTHING:
            raise TrainingError(
                f"step {self.step_number}: nothing of the scene is left; try a lower learning "
                "rate, --modulate none or another --seed."
            )

    def _places(self, generator: torch.Generator) -> tuple[Tensor, None]:
        """Where a trunk that starts from data should look; what it should give is not known."""
        return self.grid.sample(START_POINTS, generator), None

    def _draw_rays(self) -> Rays:
        draw = generator(self.device, stream_seed(self.seed, self.step_number))
        n, cameras = self.n_rays, self.data.cameras
        per_image = cameras.height * cameras.width
        index = self._pixels(n, draw)
        times = None
        if isinstance(self.field, DynamicField):
            assert cameras.times is not None
            times = cameras.times[index // per_image]
        ids, pixel = index // per_image, index % per_image
        rows, columns = pixel // cameras.width, pixel % cameras.width
        noise = torch.rand(n, 4, generator=draw, device=self.device)  # jitter and background
        origins, directions = cameras.rays(ids, torch.stack([columns, rows], 1).float() + 0.5)
        color, alpha = self.data.pixels(ids, torch.stack([rows, columns], 1))
        background = noise[:, 1:].contiguous()
        if self.data.protocol.get("backdrop"):
            assert self._background is not None
            background = self._background.repeat(n, 1)
        target = color + (1 - alpha)[:, None] * background
        widths = cameras.pixel_widths(ids)
        jitter = noise[:, 0].contiguous()
        return Rays(origins, directions, ids, widths, jitter, target, background, times)

    def _pixels(self, n: int, draw: torch.Generator) -> Tensor:
        """Random pixels [n] of all photographs, int64."""
        if self._used is None:
            height, width = self.data.images.shape[1:3]
            return self._numbers(len(self.data) * height * width, n, draw)
        return self._used[self._numbers(len(self._used), n, draw)].long()

    def _numbers(self, end: int, n: int, draw: torch.Generator) -> Tensor:
        """Random int64 [n] from 0 and below `end`."""
        return torch.randint(end, (n,), generator=draw, device=self.device)

    def _steer(self, n_rays: int, n_samples: int) -> None:
        """Choose the next number of rays so that their samples come near the batch size."""
        wanted = n_rays * min(2.0, self.options.batch_samples / max(n_samples, 1))
        self.n_rays = max(256, min(1 << 17, int(wanted) // 64 * 64))

    def check_finite(self) -> None:
        """Raise TrainingError naming the first parameter that holds NaN or infinity."""
        self.state.check_finite(self.step_number)

    def averaged_field(self) -> RadianceField:
        """A copy of the field with the averaged weights, and the grid of now."""
        field = type(self.field)(self.field.config, seed=None).to(self.device)
        self.state.average_into(field)
        return field

    def checkpoint_tensors(self) -> dict[str, Tensor]:
        """What a checkpoint needs besides the averaged field."""
        return {"occupancy.values": self.grid.values, **self.state.checkpoint_tensors()}

    def checkpoint_state(self) -> dict[str, int]:
        """The numbers that go with `checkpoint_tensors`."""
        return {"step": self.step_number, "n_rays": self.n_rays, "n_samples": self.n_samples}

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor], state: dict[str, int]) -> None:
        """Go on from a checkpoint of the same configuration."""
        self.state.restore(tensors)
        self.grid.values.copy_(tensors["occupancy.values"])
        self.field.occupancy.copy_(tensors["occupancy.words"])
        self.step_number, self.n_rays = state["step"], state["n_rays"]
        self.n_samples = state["n_samples"]
