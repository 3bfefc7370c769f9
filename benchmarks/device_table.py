"""The rows of `benchmarks/device.py`, and how they are printed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from neural_fields.benchmarks.device_case import Case
from neural_fields.benchmarks.device_limits import Ceilings
from neural_fields.benchmarks.device_setup import Suite
from neural_fields.benchmarks.timing import Timing, ratio

WANTED_SHARE = 0.6
_HEADER = (
    "row", "ms", "M/s", "eager", "x", "tcnn", "x", "GB/s", "of", "share", "state", "bytes",
)  # fmt: skip
_RIGHT = (1, 2, 3, 4, 5, 6, 7, 9)  # columns of numbers


@dataclass(frozen=True)
class Row:
    """One line of the table; None where there is nothing to say.

    Attributes:
        name: of the case.
        items: of one call.
        unit: what is counted.
        ms: of our call, the median; None where it failed.
        quartiles: of `ms`.
        eager: what the fastest arm of plain PyTorch is made of.
        eager_ms: of that arm.
        ratio_eager: how many times longer it takes, median over paired rounds.
        tcnn_ms: of tiny-cuda-nn.
        ratio_tcnn: how many times longer it takes.
        n_bytes: that the call has to move.
        formula: how they are counted.
        flops: of its matrix products.
        bound: `memory` or `float32`, whichever would take longer at its ceiling.
        share: the time at that ceiling over ours.
        state: `met` from a share of 0.6 on, else `short by` the difference.
        note: what is unlike between the arms, and which arms failed.
    """

    name: str
    items: int
    unit: str
    ms: float | None
    quartiles: tuple[float, float] | None = None
    eager: str | None = None
    eager_ms: float | None = None
    ratio_eager: float | None = None
    tcnn_ms: float | None = None
    ratio_tcnn: float | None = None
    n_bytes: float | None = None
    formula: str | None = None
    flops: float | None = None
    bound: str | None = None
    share: float | None = None
    state: str | None = None
    note: str = ""


@dataclass
class Report:
    """What a run found out; also the JSON file."""

    machine: dict[str, Any]
    suite: Suite | None = None
    ceilings: Ceilings | None = None
    rows: list[Row] = field(default_factory=list)
    lego: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @property
    def is_good(self) -> bool:
        """Whether nothing of ours failed."""
        suite_failed = self.suite is not None and self.suite.failed > 0
        return not suite_failed and all(row.ms is not None for row in self.rows)


def row_of(
    case: Case, timings: Mapping[str, Timing], ceilings: Ceilings, problems: Sequence[str]
) -> Row:
    """What was measured of a case; arms of plain PyTorch are named `eager ...`."""
    ours = timings["ours"]
    eager = [name for name in timings if name.startswith("eager ")]
    best = min(eager, key=lambda name: timings[name].median, default=None)
    tcnn = timings.get("tcnn")
    notes = [*([case.note] if case.note else []), *problems]
    first, third = ours.quartiles
    return Row(
        name=case.name,
        items=case.items,
        unit=case.unit,
        ms=1e3 * ours.median,
        quartiles=(1e3 * first, 1e3 * third),
        eager=best.removeprefix("eager ") if best else None,
        eager_ms=1e3 * timings[best].median if best else None,
        ratio_eager=ratio(timings[best], ours) if best else None,
        tcnn_ms=1e3 * tcnn.median if tcnn else None,
        ratio_tcnn=ratio(tcnn, ours) if tcnn else None,
        note="; ".join(notes),
        **_limit(case, ours.median, ceilings),
    )


def _limit(case: Case, seconds: float, ceilings: Ceilings) -> dict[str, Any]:
    """How near the call comes to what the machine can do."""
    if case.work is None:
        return {}
    floors = {
        "memory": case.work.n_bytes / ceilings.memory_bytes,
        "float32": case.work.flops / ceilings.float32_flops,
    }
    bound = max(floors, key=lambda name: floors[name])
    share = floors[bound] / seconds
    short = WANTED_SHARE - share
    return {
        "n_bytes": case.work.n_bytes,
        "formula": case.work.formula,
        "flops": case.work.flops,
        "bound": bound,
        "share": share,
        "state": "met" if short <= 0 else f"short by {short:.2f}",
    }


def text(report: Report) -> str:
    """Facts, what was left out, and the table."""
    return "\n".join([*_head(report), "", *_table(report.rows)])


def _head(report: Report) -> list[str]:
    facts = ", ".join(f"{name} {value}" for name, value in report.machine.items())
    lines = [facts]
    suite, found = report.suite, report.ceilings
    if suite is not None:
        ended = "" if suite.finished else ", not finished"
        lines.append(
            f"suite: {suite.passed} passed, {suite.failed} failed, {suite.skipped} skipped in "
            f"{suite.seconds:.0f} s{ended}"
        )
        lines += [f"  failed: {name}" for name in suite.failures]
    if found is not None:
        lines.append(
            f"ceilings: copy {found.copy_bytes / 1e9:.4g} GB/s, read and write "
            f"{found.elementwise_bytes / 1e9:.4g}; matrix products float32 "
            f"{found.float32_flops / 1e12:.3g} TFLOP/s, tf32 {found.tf32_flops / 1e12:.3g}, half "
            f"{found.half_flops / 1e12:.3g}"
        )
    lines += [
        f"lego: {row['seconds']:g} s {row['psnr_test']:.2f} dB, {row['steps']} steps"
        for row in report.lego
    ]
    if report.left_out:
        lines.append("left out: " + ", ".join(report.left_out))
    lines += [f"{row.name}: {row.note}" for row in report.rows if row.ms is None]
    lines.append(f"{report.seconds:.0f} s in all")
    return lines


def _table(rows: Sequence[Row]) -> list[str]:
    lines = [list(_HEADER), *map(_cells, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADER))]
    return [
        "  ".join(
            cell.rjust(width) if column in _RIGHT else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def _cells(row: Row) -> list[str]:
    if row.ms is None:
        return [row.name, "failed", *["-"] * (len(_HEADER) - 2)]
    rate = None if row.n_bytes is None else row.n_bytes / row.ms / 1e6
    numbers = [
        _number(value)
        for value in (
            row.ms,
            row.items / row.ms / 1e3,
            row.eager_ms,
            row.ratio_eager,
            row.tcnn_ms,
            row.ratio_tcnn,
            rate,
        )
    ]
    said = (row.bound or "-", _number(row.share), row.state or "-", row.formula or "-")
    return [row.name, *numbers, *said]


def _number(value: float | None) -> str:
    """Three digits."""
    if value is None:
        return "-"
    digits = max(0, 2 - math.floor(math.log10(max(abs(value), 1e-3))))
    return f"{value:.{digits}f}"
