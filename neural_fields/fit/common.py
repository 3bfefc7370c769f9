"""What all fits share."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from neural_fields import architectures
from neural_fields.decoders.frames import FrameNetwork
from neural_fields.errors import InputError, unknown_value
from neural_fields.training.budget import Budget
from neural_fields.training.tcnn import Chosen, FieldChoice, TcnnConfig, chosen_field

_SECONDS: dict[architectures.Kind, float] = {
    "radiance": 60.0,
    "image": 20.0,
    "sdf": 60.0,
    "video": 180.0,
}
BACKENDS = ("native", "tcnn")
_FRAMES_SECONDS = 600.0  # of a video field of whole frames


def default_seconds(
    kind: architectures.Kind, field: FieldChoice = "hash", preset: str = "default"
) -> float:
    """Trained seconds where neither seconds nor steps are given.

    Example:
        >>> default_seconds("image"), default_seconds("image", "siren")
        (20.0, 180.0)
    """
    if kind == "video" and field == FrameNetwork.name:
        return _FRAMES_SECONDS
    chosen = chosen_field(field)
    made = chosen.architecture if isinstance(chosen, TcnnConfig) else chosen
    owner = architectures.get(made) if isinstance(made, str) else made
    return owner.rates(kind, preset).seconds or _SECONDS[kind]


def field_with_note(field: FieldChoice, also: tuple[str, ...] = ()) -> Chosen:
    """See `chosen_field`; warns of what a configuration says that is not used."""
    chosen = chosen_field(field, also)
    if isinstance(chosen, TcnnConfig) and chosen is not field and chosen.note:
        warnings.warn(chosen.note, stacklevel=3)
    return chosen


def budget_of(
    kind: architectures.Kind,
    field: Chosen,
    preset: str,
    steps: int | None,
    seconds: float | None,
) -> Budget:
    """Steps or seconds, the usual ones where neither is given."""
    if seconds is None and steps is None:
        seconds = default_seconds(kind, field, preset)
    return Budget(steps=steps, seconds=seconds)


def check_backend(backend: str, device: torch.device) -> None:
    """Raise InputError unless it is `native`, or one that can be used on the device."""
    if backend not in BACKENDS:
        raise InputError(unknown_value("--backend", backend, BACKENDS))
    if backend != "native" and device.type != "cuda":
        raise InputError(f"--backend {backend}: needs a GPU, --device cuda, got {device.type}.")


@contextmanager
def computed_by(backend: str) -> Iterator[None]:
    """Inside, hash grids and networks are computed by `native` kernels or by tiny-cuda-nn's.

    Raises:
        InputError: tiny-cuda-nn's package cannot be imported.
    """
    if backend == "native":
        yield
        return
    from neural_fields.integrations.tcnn import use_tcnn

    with use_tcnn():
        yield


def check_numbers(seed: int, save_every: float) -> None:
    """Raises InputError where one is out of range."""
    if not 0 <= seed < 1 << 63:
        raise InputError(f"--seed: needs a whole number from 0 to 2^63 - 1, got {seed}.")
    if not save_every > 0:
        raise InputError(f"--save-every: needs a positive number of seconds, got {save_every}.")
