"""What `nf bench` runs: our kernels, plain PyTorch, peers and limits, side by side in one run."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from neural_fields import _core
from neural_fields.benchmarks.case import QUICK, Case, Sizes
from neural_fields.benchmarks.timing import Timing, compare, ratio
from neural_fields.errors import InputError

# Rows by the first word of their name, and the module that declares them.
_MODULES = {
    "step": "bench_radiance",
    "render": "bench_radiance",
    "march": "ops.bench_march",
    "hash_grid": "ops.bench_hash_grid",
    "mlp": "ops.bench_mlp",
    "spherical_harmonics": "ops.bench_spherical_harmonics",
    "frequency": "ops.bench_frequency",
    "composite": "ops.bench_composite",
    "adam": "ops.bench_adam",
    "occupancy": "ops.bench_occupancy",
    "tensor_planes": "ops.bench_tensor_planes",
    "voxels": "ops.bench_voxels",
    "modulate": "ops.bench_modulate",
    "rbf": "ops.bench_rbf",
    "distill": "ops.bench_distill",
}
_OPTIONAL = ("torch_compile", "drjit")  # what a machine may be unable to run


@dataclass(frozen=True)
class Row:
    """One line of the table. Rates are medians over the rounds, in `unit`.

    Attributes:
        name: `<op>.<forward|backward|second>.<f32|bf16>`, `march`, `step` or `render`; a variant's
            difference follows after `:`.
        ours: the native rate.
        torch_eager: that of the best plain PyTorch.
        torch_compile: the same under `torch.compile`.
        limit: the machine's own, measured in this run.
        ratio_eager: how many times faster ours is than `torch_eager`, median over paired rounds.
        ratio_compile: than `torch_compile`.
        share_of_limit: ours / limit.
        unit: what is counted, in millions per second.
        threads: of the core and of PyTorch.
        isa: the core's path.
        bar: the claim that the row belongs to and the figures it states.
        spread: per arm the quartiles of its rate.
        drjit: Dr.Jit's rate.
    """

    name: str
    ours: float
    torch_eager: float | None
    torch_compile: float | None
    limit: float | None
    ratio_eager: float | None
    ratio_compile: float | None
    share_of_limit: float | None
    unit: str
    threads: int
    isa: str
    bar: dict[str, float | str] | None
    spread: dict[str, tuple[float, float]]
    drjit: float | None


def run(
    names: Sequence[str] = (),
    *,
    quick: bool = False,
    peers: bool = True,
    progress: Callable[[str], None] | None = None,
) -> list[Row]:
    """Measure.

    Args:
        names: operations (`hash_grid`), beginnings of rows (`mlp.forward`) or rows; none = all.
        quick: small sizes, two rounds, no `torch.compile` and no peers: to see that all runs.
        peers: other engines as well, where they are installed.
        progress: gets one line before each row.

    Returns:
        The rows in the order of the table.

    Raises:
        InputError: no row has such a name.
    """
    say = progress or (lambda line: None)
    sizes = QUICK if quick else Sizes()
    threads_before = torch.get_num_threads()
    torch.set_num_threads(_core.num_threads())
    try:
        rows = [_measure(case, quick, peers, say) for case in _cases(names, sizes)]
    finally:
        torch.set_num_threads(threads_before)
    for name in names:
        if not any(_matches(name, row.name) for row in rows):
            raise InputError(f"bench: no row is called {name!r}; its operation has others.")
    return rows


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned text."""
    header = [
        "row",
        "ours",
        "eager",
        "x",
        "compile",
        "x",
        "Dr.Jit",
        "limit",
        "share",
        "bar",
        "unit",
    ]
    lines = [header]
    for row in rows:
        numbers = [_number(row.ours), _number(row.torch_eager), _number(row.ratio_eager)]
        numbers += [_number(row.torch_compile), _number(row.ratio_compile), _number(row.drjit)]
        numbers += [_number(row.limit), _number(row.share_of_limit)]
        lines.append([row.name, *numbers, _bar(row), row.unit])
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    text = [_aligned(line, widths) for line in lines]
    if rows:
        text.append(f"{rows[0].threads} threads, {rows[0].isa}, torch {torch.__version__}")
    return "\n".join(text)


def _matches(wanted: str, name: str) -> bool:
    return name == wanted or name.startswith((wanted + ".", wanted + ":"))


def _cases(names: Sequence[str], sizes: Sizes) -> Iterator[Case]:
    for name in names:
        if _operation(name) not in _MODULES:
            raise InputError(f"bench: needs one of {', '.join(_MODULES)}, got {name!r}.")
    operations = {_operation(name) for name in names} or set(_MODULES)
    modules = dict.fromkeys(_MODULES[op] for op in _MODULES if op in operations)
    for module in modules:
        for case in importlib.import_module(f"neural_fields.benchmarks.{module}").cases(sizes):
            if not names or any(_matches(name, case.name) for name in names):
                yield case


def _operation(name: str) -> str:
    return name.partition(":")[0].partition(".")[0]


def _measure(case: Case, quick: bool, peers: bool, say: Callable[[str], None]) -> Row:
    say(case.name)
    arms = {"ours": case.ours}
    if case.eager is not None:
        arms["torch_eager"] = case.eager
    if case.compiled is not None and not quick:
        arms["torch_compile"] = case.compiled
    if peers and not quick:
        arms.update(case.peers)
    for name in [name for name in arms if name in _OPTIONAL]:
        try:
            arms[name]()
        except Exception as error:  # whatever it is, the other columns are still worth having
            say(f"{case.name}: {name} does not run here: {type(error).__name__}: {error}")
            del arms[name]
    rounds, min_seconds = (2, 0.0) if quick else (11, 0.2)
    timings = compare(arms, rounds=rounds, min_seconds=min_seconds)
    limit = None if case.limit is None else case.limit() * 1e-6
    return _row(case, timings, limit)


def _row(case: Case, timings: Mapping[str, Timing], limit: float | None) -> Row:
    millions = case.items * 1e-6
    ours = timings["ours"]

    def rate(name: str) -> float | None:
        return millions / timings[name].median if name in timings else None

    def ratio_to(name: str) -> float | None:
        return ratio(timings[name], ours) if name in timings else None

    return Row(
        name=case.name,
        ours=millions / ours.median,
        torch_eager=rate("torch_eager"),
        torch_compile=rate("torch_compile"),
        limit=limit,
        ratio_eager=ratio_to("torch_eager"),
        ratio_compile=ratio_to("torch_compile"),
        share_of_limit=None if limit is None else millions / ours.median / limit,
        unit=case.unit,
        threads=_core.num_threads(),
        isa=_core.active_isa(),
        bar=None if case.bar is None else dict(case.bar),
        spread={
            name: (millions / timing.quartiles[1], millions / timing.quartiles[0])
            for name, timing in timings.items()
        },
        drjit=rate("drjit"),
    )


def _bar(row: Row) -> str:
    """Which figures of its claim the row reaches, such as `ratio_eager 20: short`."""
    if row.bar is None:
        return "-"
    parts = []
    for key, figure in row.bar.items():
        measured = getattr(row, key, None)
        if isinstance(figure, float) and measured is not None:
            parts.append(f"{key} {figure:g}: {'met' if measured >= figure else 'short'}")
    return ", ".join(parts) or "-"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    digits = max(0, 2 - math.floor(math.log10(max(abs(value), 1e-3))))
    return f"{value:.{digits}f}"


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    cells = [line[0].ljust(widths[0])]
    cells += [cell.rjust(width) for cell, width in zip(line[1:-2], widths[1:-2], strict=True)]
    cells += [cell.ljust(width) for cell, width in zip(line[-2:], widths[-2:], strict=True)]
    return "  ".join(cells).rstrip()
