"""`nf export`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from neural_fields.cli.output import Bar, emit_json, say

if TYPE_CHECKING:
    from neural_fields.exporters import MeshReport


def export(
    field: tyro.conf.Positional[Path],
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    kind: Literal["mesh"] = "mesh",
    resolution: int = 256,
    threshold: float | None = None,
    frame: Literal["input", "field"] = "input",
    min_volume: float | None = None,
    time: float | None = None,
    json: str | None = None,
) -> None:
    """Write the surface of a signed distance field or a radiance field as a closed mesh.

    Args:
        field: a .nf file.
        output: the mesh: PLY, OBJ, GLB, STL or OFF by its name.
        kind: what is written.
        resolution: cells along the longest side of the field's box.
        threshold: distance, or density per world length, of the surface; if not given 0, or half
            of what training rays meet where half of their light is gone.
        frame: input is that of the data; field is the field's own, where a loader moved the data.
        min_volume: parts of less than this share of the largest part's volume are left out; if not
            given 0 for distances and 0.001 for densities.
        time: of a field that moves, in [0, 1].
        json: write what was done as JSON to this file, or - for stdout.
    """
    from neural_fields import api

    bar: Bar | None = None

    def progress(done: int, total: int) -> None:
        nonlocal bar
        bar = bar or Bar(total, "blocks")
        bar.update(done)

    report = api.export(
        field,
        output,
        resolution=resolution,
        threshold=threshold,
        frame=frame,
        min_volume=min_volume,
        time=time,
        on_block=progress,
    )
    if bar is not None:
        bar.close()
    _say_report(report, json)
    emit_json(json, dataclasses.asdict(report))


def _say_report(report: MeshReport, json: str | None) -> None:
    closed = "watertight" if report.watertight else "not watertight"
    lines = {
        "level": f"{report.level:.6g}",
        "faces": f"{report.faces} ({report.vertices} vertices)",
        "parts": f"{report.components}, Euler number {report.euler}",
        "open edges": f"{report.open_edges} ({closed})",
        "off the surface": f"{report.distance_to_zero:.3g} on average, "
        f"{report.distance_to_zero_max:.3g} at most",
    }
    for key, text in lines.items():
        say(f"{key:>16}  {text}", json)
    for note in report.notes:
        say(f"{'note':>16}  {note}", json)
    size = Path(report.output).stat().st_size / 1e6
    say(
        f"wrote {report.output} ({size:.1f} MB, {report.seconds:.1f} s); open it in a program for "
        "meshes, such as Blender or MeshLab",
        json,
    )
