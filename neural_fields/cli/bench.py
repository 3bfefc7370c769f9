"""`nf bench`."""

from __future__ import annotations

import sys
from typing import Annotated

import tyro

from neural_fields.cli.output import emit_json, say


def bench(
    names: tyro.conf.Positional[tuple[str, ...]] = (),
    quick: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    json: str | None = None,
) -> None:
    """Measure this machine: our kernels beside plain PyTorch, peers and the machine's own limits.

    All rows take about ten minutes on two idle cores.

    Args:
        names: rows or operations, such as step, render, hash_grid; all of them if none is named.
        quick: small sizes and few repetitions, for a first look.
        json: write the rows as JSON to this file, or - for stdout.
    """
    from dataclasses import asdict

    from neural_fields.benchmarks import bench as benchmarks

    rows = benchmarks.run(names, quick=quick, progress=lambda line: print(line, file=sys.stderr))
    say(benchmarks.table(rows), json)
    emit_json(json, {"rows": [asdict(row) for row in rows]})
