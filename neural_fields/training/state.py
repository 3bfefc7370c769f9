"""What every trainer keeps of a field: gradients, moments and averaged weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from neural_fields import _core
from neural_fields.architectures import Trunk
from neural_fields.decoders import Mlp
from neural_fields.encodings import HashEncoding
from neural_fields.errors import TrainingError
from neural_fields.ops import SparseGradient, device_of, is_replaced
from neural_fields.training.adam import AdamState
from neural_fields.training.average import Average
from neural_fields.training.muon import MuonState

START_POINTS = 1 << 14  # that a trunk which starts from data is shown


class TrainState:
    """The parameters of a field and their optimiser; the field holds the raw weights.

    Attributes:
        parameters: by name.
        adam: their gradient buffers and moments.
        averages: the weights that evaluate.
    """

    def __init__(
        self,
        field: nn.Module,
        *,
        shares: dict[str, float],
        l2: float,
        matrix_share: float = 0.0,
        sparse: bool = True,
    ) -> None:
        """Set up all parameters.

        Args:
            field: the module.
            shares: of parameters that are grids or stand apart, by name: their learning rate as a
                share of the others'. They have no weight decay, which would pull scales of 1 to 0,
                and are moved by Adam.
            l2: weight decay of the others.
            matrix_share: learning rate of the matrices of networks, which Muon moves, as a share
                of the others'; 0: Adam moves them.
            sparse: whether tables of hash grids get their gradients beside autograd, which is
                faster and differentiates once.
        """
        _core.keep_freed_memory()
        self._field = field
        self.parameters: dict[str, nn.Parameter] = dict(field.named_parameters())
        self.adam: dict[str, AdamState] = {}
        self._share: dict[str, float] = {}
        for name, parameter in self.parameters.items():
            apart = name in shares
            encoding = field.get_submodule(name.rpartition(".")[0])
            beside = sparse and not is_replaced("hash_grid")  # what replaces it knows autograd only
            is_table = beside and isinstance(encoding, HashEncoding)
            if matrix_share > 0 and isinstance(encoding, Mlp) and not apart:
                state: AdamState = MuonState(encoding, l2, matrix_share)
            else:
                state = AdamState(parameter, sparse=is_table, l2=0.0 if apart else l2)
            if isinstance(encoding, HashEncoding) and state.touched is not None:
                encoding.sparse_gradient = SparseGradient(state.grad, state.touched)
            self.adam[name] = state
            self._share[name] = shares.get(name, 1.0)
        self.averages = {name: Average(value) for name, value in self.parameters.items()}
        self._idle: frozenset[str] = frozenset()

    def step(self, rate: float, number: int) -> None:
        """One update with the gradients in the optimiser's buffers; `number` counts from 1.

        Parameters that the last `backward` did not reach stay: their decay alone, however small,
        is a direction to Adam, which would walk them to 0.
        """
        for name, state in self.adam.items():
            if name not in self._idle:
                state.step(rate * self._share[name], number)
        for average in self.averages.values():
            average.update(number)

    def backward(self, loss: Tensor, others: Sequence[Tensor] = ()) -> tuple[Tensor | None, ...]:
        """Put the gradients of a loss into the optimiser's buffers; returns those of `others`."""
        gradients: tuple[Tensor | None, ...] = torch.autograd.grad(
            loss, [*self.parameters.values(), *others], allow_unused=True
        )
        n = len(self.parameters)
        idle = set[str]()
        for (name, state), gradient in zip(self.adam.items(), gradients[:n], strict=True):
            if gradient is not None:
                state.grad.copy_(gradient.reshape(-1))
            elif not state.sparse:  # a sparse one is there already
                idle.add(name)
        self._idle = frozenset(idle)
        return gradients[n:]

    def start(
        self,
        trunk: Trunk,
        seed: int,
        step: int,
        draw: Callable[[torch.Generator], tuple[Tensor, Tensor | None]],
    ) -> None:
        """Before a step, let a trunk that wants it start over from data.

        `draw` gives positions in the cube, and what the trunk should give there or None.
        """
        if step != trunk.start_step:
            return
        generator = torch.Generator().manual_seed(stream_seed(seed, -2 - step))
        positions, targets = draw(generator)
        chosen = torch.randperm(len(positions), generator=generator)[:START_POINTS]
        targets = None if targets is None else targets.cpu()[chosen]
        started = _started(trunk, positions.cpu()[chosen], targets, generator)
        self.forget(f"trunk.{name}" for name in started)

    def forget(self, names: Iterable[str]) -> None:
        """Parameters that were set anew have no past: no moments, and an average of their own."""
        for name in names:
            state, average = self.adam[name], self.averages[name]
            state.first.zero_()
            state.second.zero_()
            average.value.copy_(average.parameter)

    def check_finite(self, step: int) -> None:
        """Raise TrainingError naming the first parameter that holds NaN or infinity."""
        for name, parameter in self.parameters.items():
            if not math.isfinite(float(parameter.detach().sum())):
                raise TrainingError(
                    f"step {step}: {name} is not finite; try a lower learning rate."
                )

    @torch.no_grad()
    def average_into(self, field: nn.Module) -> None:
        """Give another field of the same configuration the averaged weights, and all buffers."""
        parameters, buffers = dict(field.named_parameters()), dict(field.named_buffers())
        for name, average in self.averages.items():
            parameters[name].copy_(average.value)
        for name, value in self._field.named_buffers():
            buffers[name].copy_(value)

    def checkpoint_tensors(self) -> dict[str, Tensor]:
        """What a checkpoint needs besides the averaged field."""
        return {
            f"checkpoint.{key}.{name}": tensor
            for name, state in self.adam.items()
            for key, tensor in state.tensors().items()
        }

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `checkpoint_tensors`, with the averaged weights under `field.`."""
        for name, adam in self.adam.items():
            adam.load({key: tensors[f"checkpoint.{key}.{name}"] for key in adam.tensors()})
            self.averages[name].value.copy_(tensors[f"field.{name}"])


def _started(
    trunk: Trunk, positions: Tensor, targets: Tensor | None, generator: torch.Generator
) -> tuple[str, ...]:
    """`Trunk.start` on the CPU, whose random numbers it draws; the names of what it has set."""
    if device_of(trunk).type == "cpu":
        return tuple(trunk.start(positions, targets, generator))
    twin = copy.deepcopy(trunk).cpu()
    names = tuple(twin.start(positions, targets, generator))
    with torch.no_grad():
        there = twin.state_dict()
        for name, mine in trunk.state_dict().items():
            mine.copy_(there[name])
    return names


def grid_shares(trunk: Trunk, share: float) -> dict[str, float]:
    """The same share for all grids of a field's trunk."""
    return {f"trunk.{name}": share for name in trunk.grids}


def stream_seed(seed: int, step: int) -> int:
    """A generator seed per (seed, step); distinct for all steps of a run.

    Example:
        >>> stream_seed(0, 1) != stream_seed(0, 2)
        True
    """
    return (seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03 + 1) & 0x7FFFFFFFFFFFFFFF
