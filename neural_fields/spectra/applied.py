"""What `--fresh` does before a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from neural_fields import architectures
from neural_fields.data.dataset import Dataset
from neural_fields.data.mesh import Mesh
from neural_fields.data.picture import Picture
from neural_fields.data.video import Video
from neural_fields.errors import InputError
from neural_fields.fields import (
    ImageConfig,
    RadianceConfig,
    SdfConfig,
    VideoConfig,
    read_field_file,
)
from neural_fields.spectra.choice import Choice, choose
from neural_fields.spectra.moving import CourseSignal, FramesSignal, Tempo
from neural_fields.spectra.signals import signal_of
from neural_fields.training.budget import Budget
from neural_fields.training.checkpoint import checkpoint_path

Config = TypeVar("Config", bound=RadianceConfig | ImageConfig | SdfConfig | VideoConfig)
Records = dict[str, Any]
_KEYS = ("fresh", "fresh_time")
_FEWEST = 16  # frames whose courses have frequencies worth looking at


def frequencies(
    config: Config,
    data: Picture | Dataset | Mesh | Video,
    fresh: bool,
    begun: Path | None,
    budget: Budget,
    on_choice: Callable[[dict[str, Any]], None] | None,
    *,
    motion: Tensor | None = None,
    spent: float = 0.0,
) -> tuple[Config, Records, float]:
    """The configuration with what FreSh chose, what files say of it, and the seconds it took.

    A run that goes on, from the checkpoint of `begun`, has the frequencies that it began with.
    `motion` as of `FramesSignal`; `spent` are seconds that are gone already.

    Raises:
        InputError: choosing took all of the budget, or the run was begun without it.
    """
    if not fresh:
        return config, {}, 0.0
    if begun is not None:
        config, records = _as_begun(config, begun)
        seconds = 0.0
    else:
        config, choices = _chosen(config, data, motion)
        records = {key: choice.to_dict() for key, choice in choices.items()}
        seconds = sum(choice.seconds for choice in choices.values())
        if budget.seconds is not None and spent + seconds >= budget.seconds:
            raise InputError(
                f"--fresh: choosing took {seconds:.1f} s of --seconds {budget.seconds:g}, which "
                "leaves none for training; give more."
            )
    if on_choice is not None:
        for record in records.values():
            on_choice(record)
    return config, records, seconds


def _as_begun(config: Config, begun: Path) -> tuple[Config, Records]:
    content = read_field_file(checkpoint_path(begun))
    records = {key: content.provenance[key] for key in _KEYS if key in content.provenance}
    if not records:
        raise InputError(f"--fresh: {begun} was begun without it; leave it out to go on.")
    kept: dict[str, Any] = {"architecture": architectures.from_dict(content.config["architecture"])}
    if isinstance(config, VideoConfig):
        kept["tempo"] = content.config["tempo"]
    return replace(config, **kept), records


def _chosen(
    config: Config, data: Picture | Dataset | Mesh | Video, motion: Tensor | None
) -> tuple[Config, dict[str, Choice]]:
    """Of a video first what changes in space, then how fast time runs."""
    if not isinstance(data, Video):
        choice = choose(signal_of(data, config), config.architecture)  # type: ignore[arg-type]
        return replace(config, architecture=choice.architecture), {"fresh": choice}
    assert isinstance(config, VideoConfig)
    in_space = choose(FramesSignal(data, config, motion), config.architecture)
    config = replace(config, architecture=in_space.architecture)
    choices = {"fresh": in_space}
    if len(data) >= _FEWEST:
        in_time = choose(CourseSignal(data, config, motion), Tempo(config.tempo))
        config = replace(config, tempo=in_time.architecture.value)
        choices["fresh_time"] = in_time
    return config, choices
