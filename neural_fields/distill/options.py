"""How a field is distilled into another one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from neural_fields.errors import InputError, unknown_value

Stage = Literal["features", "points", "pixels"]
Method = Literal["pvd", "pvd-al"]


_WORDS = {
    "start": ("closed", "paper"),
    "form": ("mean", "norm"),
    "poses": ("like", "shell", "front"),
}


@dataclass(frozen=True)
class DistillOptions:
    """The options of PVD and PVD-AL.

    Attributes:
        batch_samples: samples per step that the number of rays is steered to; 0: always `n_rays`.
        n_rays: rays of the first step.
        start: `closed`, what the teacher says at a grid's vertices or in its factors, or `paper`.
        learning_rate: of networks, at the start.
        grid_rate: of grids, at the start.
        matrix_rate: of the matrices of networks, at the start, root mean square of an
            orthogonal step (`Muon`); 0: Adam moves them, at `learning_rate`.
        modulation_share: learning rate of a modulation's grid as a share of the networks'.
        final_rate: all at the end, as a share of the start's; exponential between.
        l2: weight decay of the networks.
        features_until: share of the budget in which features alone are compared, where both fields
            have them.
        points_until: share of the budget before pixels are compared.
        form: of the losses: the `norm` of all differences, or `mean` squares.
        clip_low: log-densities below count as it, on both sides.
        clip_high: log-densities above count as it.
        pixels: weight of the pixels' loss.
        features: of the features', at the start.
        density: of the log-densities'.
        color: of the points' colours'.
        feature_life: share of the budget in which the weight of the features halves.
        stop: transmittance of the teacher below which the shared samples end; 0: never.
        coarse_step: factor on the teacher's sampling step at the start.
        fine_step: the same from the share `fine_from` of the budget on; it falls in between.
        fine_from: see there.
        n_epochs: into which the budget is cut, each with cameras of its own.
        n_cameras: of an epoch.
        poses: `like` the scene's, or PVD's `shell` around the box or `front` of it.
        hard_cameras: whether cameras whose pictures differ most come again (PVD-AL).
        hard_rays: the same of rays.
        pool_share: share of the budget, from when pixels are compared, in which rays are gathered
            before any comes again; less where the pool is full before.
        hard_points: whether only samples that matter to either picture are compared.
    """

    batch_samples: int = 1 << 16
    n_rays: int = 4096
    start: Literal["closed", "paper"] = "closed"
    learning_rate: float = 1e-2
    grid_rate: float = 1e-2
    matrix_rate: float = 0.0
    modulation_share: float = 1.0
    final_rate: float = 0.03
    l2: float = 1e-6
    features_until: float = 2000 / 30000
    points_until: float = 0.3
    form: Literal["mean", "norm"] = "norm"
    clip_low: float = -2.0
    clip_high: float = 7.0
    pixels: float = 1.0
    features: float = 0.006
    density: float = 0.006
    color: float = 0.006
    feature_life: float = 0.3
    stop: float = 1e-2
    coarse_step: float = 8.0
    fine_step: float = 1.0
    fine_from: float = 0.8
    n_epochs: int = 96
    n_cameras: int = 312
    poses: Literal["like", "shell", "front"] = "like"
    hard_cameras: bool = False
    hard_rays: bool = False
    pool_share: float = 1503 / 30000
    hard_points: bool = False

    ANY_NUMBER = frozenset(
        {
            "matrix_rate",
            "batch_samples",
            "features_until",
            "points_until",
            "clip_low",
            "clip_high",
            "stop",
        }
        | {"pixels", "features", "density", "color"}
    )

    def __post_init__(self) -> None:
        for name, known in _WORDS.items():
            if getattr(self, name) not in known:
                raise InputError(unknown_value(f"options: {name}", getattr(self, name), known))
        if not self.clip_low < self.clip_high:
            raise InputError(
                f"options: clip_low needs to be below clip_high, got {self.clip_low} and "
                f"{self.clip_high}."
            )

    def stage(self, progress: float, *, features: bool) -> Stage:
        """What is compared at a progress in [0, 1]; without shared features points come first.

        Example:
            >>> [DistillOptions().stage(at, features=True) for at in (0.0, 0.1, 0.5)]
            ['features', 'points', 'pixels']
        """
        if features and progress < self.features_until:
            return "features"
        return "points" if progress < self.points_until else "pixels"

    def feature_weight(self, progress: float) -> float:
        """The weight of the features' loss at a progress.

        Example:
            >>> options = DistillOptions()
            >>> ratio = options.feature_weight(0.3) / options.feature_weight(0)
            >>> round(ratio, 6)
            0.5
        """
        return float(self.features * 0.5 ** (progress / self.feature_life))
