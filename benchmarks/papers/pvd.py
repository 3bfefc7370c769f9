"""Progressive Volume Distillation (Fang et al. 2023): every teacher to every student.

python -m neural_fields.benchmarks.papers.pvd --data DIR -o pvd.json

DIR holds nerf_synthetic/lego, taken at a quarter of its stored size, 100 x 100. Teachers are
trained for 300 s, which is also what a student from scratch has at its best; students learn for
30 s, and beside them stands a fit of 30 s. PSNR is of the test views against the photographs.
Parts: `table`; `starts`, closed against the paper's; `curve`, hash to mlp over time; `active`,
PVD-AL's levels.
Rows that the JSON file has are not computed again; fields lie beside it.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from neural_fields import api, distill, fit
from neural_fields.benchmarks.papers.rows import Rows, markdown

FIELDS = ["hash", "mlp", "vm", "cp", "voxels", "rbf"]
TEACHER_SECONDS, SECONDS, DOWNSCALE = 300.0, 30.0, 4
ALLOWED = 1.5  # dB below min(teacher, student from scratch)
CURVE = (15.0, 30.0, 60.0, 120.0, 300.0, 600.0)
LEVELS: dict[str, dict[str, bool]] = {
    "pvd": {},
    "cameras": {"hard_cameras": True},
    "rays": {"hard_rays": True},
    "points": {"hard_points": True},
    "all": {"hard_cameras": True, "hard_rays": True, "hard_points": True},
}
# What the authors' code and its run names say, test views of lego at 800 x 800.
PUBLISHED = {"hash": 35.70, "vm": 34.72, "mlp": 33.64, "voxels": 27.90}


def whole(run: fit.Run) -> None:
    """Stop at an interrupted run instead of keeping it for a whole one."""
    if run.interrupted:
        if run.output is not None:
            Path(run.output).unlink()
        raise KeyboardInterrupt


class Bench:
    """Fields that are made once and rows of what they score."""

    def __init__(self, data: Path, output: Path) -> None:
        self._lego = data / "nerf_synthetic" / "lego"
        self._rows, self._folder = Rows(output), output.parent

    def scratch(self, name: str, seconds: float) -> float:
        """PSNR of a fit."""

        def make() -> dict[str, Any]:
            path = self._path(name, seconds)
            self._fitted(path, name, seconds)
            return {"psnr": api.evaluate(path, self._lego)["psnr"]}

        return float(self._rows.get(f"{name} scratch {seconds:g}", make)["psnr"])

    def teacher(self, name: str) -> Path:
        """The file of a teacher, fitted where it is not there."""
        path = self._path(name, TEACHER_SECONDS)
        self._fitted(path, name, TEACHER_SECONDS)
        return path

    def _fitted(self, path: Path, name: str, seconds: float) -> None:
        if not path.is_file():
            whole(fit.nerf(self._lego, path, field=name, seconds=seconds, downscale=DOWNSCALE))

    def student(self, teacher: str, to: str, seconds: float = SECONDS, **more: Any) -> float:
        """PSNR of a conversion."""
        label = " ".join(f"{key}={value}" for key, value in more.items())
        return float(self._rows.get(
            f"{teacher} to {to} {seconds:g} {label}".strip(),
            partial(self._converted, teacher, to, seconds, more),
        )["psnr"])  # fmt: skip

    def _converted(
        self, teacher: str, to: str, seconds: float, more: dict[str, Any]
    ) -> dict[str, Any]:
        path = self._folder / f"{teacher}-to-{to}.nf"
        known = {key: more[key] for key in ("inherit_head", "seed") if key in more}
        options = {key: value for key, value in more.items() if key not in known}
        found = distill.convert(
            self.teacher(teacher), path, to=to, seconds=seconds, options=options, **known
        )
        whole(found.run)
        psnr = api.evaluate(path, self._lego)["psnr"]
        summary = found.summary
        return {
            "psnr": psnr,
            **{key: summary[key] for key in ("psnr_student_vs_teacher", "steps", "params")},
        }

    def _path(self, name: str, seconds: float) -> Path:
        return self._folder / f"{name}-{seconds:g}.nf"


def table(bench: Bench, fields: list[str]) -> str:
    """Students of 30 s, what is missing to the teacher, and what a fit of 30 s has."""
    lines, missed = [], []
    for teacher in fields:
        best = bench.scratch(teacher, TEACHER_SECONDS)
        cells = []
        for to in fields:
            psnr = bench.student(teacher, to)
            bar = min(best, bench.scratch(to, TEACHER_SECONDS)) - ALLOWED
            cells.append(f"{psnr:.2f}{'' if psnr >= bar else ' *'}")
            if psnr < bar:
                missed.append(f"{teacher} to {to} by {bar - psnr:.2f}")
        lines.append([teacher, f"{best:.2f}", *cells])
    for seconds in (SECONDS, TEACHER_SECONDS):
        row = [f"{bench.scratch(to, seconds):.2f}" for to in fields]
        lines.append([f"from scratch, {seconds:g} s", "", *row])
    lines.append(["published, scratch", "", *(str(PUBLISHED.get(to, "")) for to in fields)])
    said = f"\n\nbelow the bar: {', '.join(missed) or 'none'}"
    return markdown(["teacher", "its PSNR", *(f"to {to}" for to in fields)], lines) + said


def starts(bench: Bench, _: list[str]) -> str:
    """Closed starts against the paper's."""
    lines = []
    for to in ("voxels", "vm", "cp"):
        psnr = [bench.student("hash", to), bench.student("hash", to, start="paper")]
        lines.append([to, *(f"{x:.2f}" for x in psnr)])
    return markdown(["hash to", "closed", "paper's"], lines)


def curve(bench: Bench, _: list[str]) -> str:
    """Hash to mlp and mlp from scratch, by seconds."""
    ways: dict[str, Callable[[float], float]] = {
        "scratch": lambda s: bench.scratch("mlp", s),
        "converted": lambda s: bench.student("hash", "mlp", s),
        "converted, new head": lambda s: bench.student("hash", "mlp", s, inherit_head=False),
    }
    lines = [[name, *(f"{way(s):.2f}" for s in CURVE)] for name, way in ways.items()]
    return markdown(["mlp", *(f"{s:g} s" for s in CURVE)], lines)


def active(bench: Bench, _: list[str]) -> str:
    """PVD-AL's levels, three seeds."""
    lines = []
    for to in ("vm", "mlp"):
        for name, options in LEVELS.items():
            psnr = [bench.student("hash", to, seed=seed, **options) for seed in range(3)]
            lines.append([f"{to}: {name}", *(f"{x:.2f}" for x in psnr), f"{sum(psnr) / 3:.2f}"])
    return markdown(["hash to", "seed 0", "1", "2", "mean"], lines)


PARTS = {"table": table, "starts": starts, "curve": curve, "active": active}


def main() -> None:
    """Make the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", default=os.environ.get("NF_DATA"), help="the folder of data sets")
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON file of the rows")
    parser.add_argument("--parts", nargs="*", default=[*PARTS], choices=[*PARTS])
    parser.add_argument("--fields", nargs="*", default=FIELDS, choices=FIELDS)
    options = parser.parse_args()
    if options.data is None:
        parser.error("needs --data or NF_DATA")
    bench = Bench(Path(options.data), options.output)
    for part in options.parts:
        print(f"\n{PARTS[part](bench, options.fields)}", flush=True)


if __name__ == "__main__":
    main()
