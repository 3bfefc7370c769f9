"""Time on a GPU: events around calls, arms in turns, and a budget of minutes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch

from neural_fields.benchmarks.device_case import Arm
from neural_fields.benchmarks.timing import Timing

_ROUNDS, _SLOW_ROUNDS = 7, 3
_SLOW_S = 0.1  # per call
_MAX_CALLS = 1000


class Clock:
    """Times calls: by CUDA's events on a GPU, by the processor's clock elsewhere."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._on_gpu = device.type == "cuda"

    def wait(self) -> None:
        """Until the GPU has nothing left to do."""
        if self._on_gpu:
            torch.cuda.synchronize(self._device)

    def seconds(self, arm: Arm, calls: int) -> float:
        """Of one call, the mean over so many in a row."""
        if not self._on_gpu:
            start = time.perf_counter()
            for _ in range(calls):
                arm()
            return (time.perf_counter() - start) / calls
        event: Any = torch.cuda.Event
        first, last = event(enable_timing=True), event(enable_timing=True)
        first.record()
        for _ in range(calls):
            arm()
        last.record()
        last.synchronize()
        return float(first.elapsed_time(last)) / 1000 / calls


def compare(
    clock: Clock, arms: Mapping[str, Arm], *, min_seconds: float, rounds: int | None = None
) -> dict[str, Timing]:
    """Time all arms in turns.

    Args:
        clock: of the arms' device.
        arms: by name. Each is called twice beforehand, which loads and compiles what it needs.
        min_seconds: of one turn; short calls are repeated within it.
        rounds: how often each arm gets its turn; None: 7, or 3 where a call is slow.

    Returns:
        Per arm its seconds per call.
    """
    once = {}
    for name, arm in arms.items():
        arm()
        clock.wait()
        once[name] = max(clock.seconds(arm, 1), 1e-7)
    if rounds is None:
        rounds = _SLOW_ROUNDS if max(once.values()) > _SLOW_S else _ROUNDS
    calls = {
        name: max(1, min(_MAX_CALLS, round(min_seconds / seconds)))
        for name, seconds in once.items()
    }
    taken: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, arm in arms.items():
            taken[name].append(clock.seconds(arm, calls[name]))
    return {name: Timing(tuple(seconds)) for name, seconds in taken.items()}


class Budget:
    """How much time is left."""

    def __init__(self, minutes: float) -> None:
        self._start = time.monotonic()
        self._end = self._start + 60 * minutes

    @property
    def spent(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._start

    @property
    def left(self) -> float:
        """Seconds until the end."""
        return self._end - time.monotonic()
