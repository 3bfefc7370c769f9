"""Tests, operations and training on an NVIDIA GPU, beside PyTorch and the GPU's own limits.

    python benchmarks/device.py --json device.json
    python -m neural_fields.benchmarks.device hash_grid step --no-build --no-suite
    python benchmarks/device.py --lego DIR

It builds the CUDA module for the GPU where there is none that runs, runs the suite of every
operation there, measures what the GPU can do at most, then every operation, the training step and a
view, and prints one table. It ends within --minutes and says what was left out. Exit status: 0;
1 where a test or an operation failed; 2 where no GPU can be used, with a sentence that says why.

--device cpu is a rehearsal: the same program with tiny sizes, whose figures mean nothing. Only that
has been run so far.

Columns: milliseconds of one call, millions per second, plain PyTorch's and tiny-cuda-nn's
milliseconds with how many times ours they are, bytes that a call has to move per second, and how
near that is to the GPU: `share` of the measured memory bandwidth or of float32 matrix products,
whichever decides. Lookups count each sector that a point touches, though caches hold some tables,
so that shares above 1 are possible. The JSON file has the rest.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from neural_fields.benchmarks import (
    device_encodings,
    device_field,
    device_lattices,
    device_networks,
    device_rays,
)
from neural_fields.benchmarks.device_case import REHEARSAL, Arm, Case, Cases, Place, Sizes
from neural_fields.benchmarks.device_limits import Ceilings, ceilings
from neural_fields.benchmarks.device_setup import machine, ready_device, run_suite
from neural_fields.benchmarks.device_table import Report, Row, row_of, text
from neural_fields.benchmarks.device_timing import Budget, Clock, compare
from neural_fields.errors import InputError, unknown_value
from neural_fields.ops import chosen_device

OPERATIONS: dict[str, Cases] = {
    "hash_grid": device_encodings.hash_grid,
    "mlp": device_networks.mlp,
    "frequency": device_encodings.frequency,
    "spherical_harmonics": device_encodings.spherical_harmonics,
    "tensor_planes": device_lattices.tensor_planes,
    "voxels": device_lattices.voxels,
    "modulate": device_networks.modulate,
    "rbf": device_networks.rbf,
    "march": device_rays.march,
    "composite": device_rays.composite,
    "occupancy": device_rays.occupancy,
    "adam": device_rays.adam,
    "distill": device_rays.distill,
}
FIELD: dict[str, Cases] = {"step": device_field.step, "train": device_field.train}
# Seconds that are left for what comes after:
_LEGO_EXTRA_S = 45.0  # reading and scoring photographs
_MEASURING_S = 150.0  # all measurements, which build and suite leave
_FIELD_S = 45.0  # step and trainer, which operations leave
_CASE_S = 3.0  # one row
_LEAST_BUILD_S = 30.0


def run(options: argparse.Namespace) -> Report:
    """Do all that was asked for, as far as the time reaches.

    Raises:
        InputError: there is no such operation, or no GPU can be used.
    """
    for name in options.names:
        if name not in OPERATIONS | FIELD:
            raise InputError(unknown_value("NAME", name, [*OPERATIONS, *FIELD]))
    if options.lego is not None and not options.lego.exists():
        raise InputError(
            f"--lego: needs the folder of a data set, but {options.lego} is not there."
        )
    if options.json is not None and not options.json.absolute().parent.is_dir():
        raise InputError(f"--json: needs a folder that exists, got {options.json}.")
    budget = Budget(options.minutes)
    place = _place(options, budget)
    report = Report(machine(place.device))
    run_ = _Run(report, budget, place, options.json)
    if place.is_gpu and options.suite:
        run_.suite()
    run_.measure(options.names)
    if options.lego is not None:
        run_.lego(options.lego)
    run_.save()
    return report


def _place(options: argparse.Namespace, budget: Budget) -> Place:
    if options.device == "cuda":
        device = ready_device(max(_LEAST_BUILD_S, budget.left - _MEASURING_S), options.build)
        return Place(device, Sizes())
    return Place(chosen_device(options.device), REHEARSAL)


class _Run:
    """The parts of a run; each adds to the report, which is written after each."""

    def __init__(self, report: Report, budget: Budget, place: Place, path: Path | None) -> None:
        self.report, self.budget, self.place, self.path = report, budget, place, path
        self.clock = Clock(place.device)

    def save(self) -> None:
        """Write what there is by now."""
        self.report.seconds = self.budget.spent
        if self.path is not None:
            self.path.write_text(json.dumps(self.report.to_json(), indent=1) + "\n")

    def suite(self) -> None:
        """The tests of all operations."""
        seconds = self.budget.left - _MEASURING_S
        if seconds <= 0:
            self.report.left_out.append("suite")
            return
        _say(f"suite, at most {seconds:.0f} s")
        try:
            self.report.suite = run_suite(seconds)
        except InputError as error:
            self.report.left_out.append(f"suite ({error})")
        self.save()

    def measure(self, names: Sequence[str]) -> None:
        """The limits first, then operations, then the field."""
        torch.manual_seed(0)
        _say("ceilings")
        found = self.report.ceilings = ceilings(self.place, self.clock)
        for reserve, group in ((_FIELD_S, OPERATIONS), (0.0, FIELD)):
            for name, cases in group.items():
                if not names or name in names:
                    self.cases(name, cases, found, reserve)
                    self.save()

    def cases(self, name: str, cases: Cases, found: Ceilings, reserve: float) -> None:
        """All rows of one operation; what fails is a row, too."""
        if self.budget.left < reserve + _CASE_S:
            self.report.left_out.append(name)
            return
        try:
            for case in cases(self.place):
                if self.budget.left < reserve + _CASE_S:
                    self.report.left_out.append(f"{name} from {case.name} on")
                    return
                _say(case.name)
                self.report.rows.append(measured(case, self.place, self.clock, found))
        except Exception as error:  # whatever it is, other operations are still worth having
            self.report.rows.append(_failed(name, 0, "", error))

    def lego(self, folder: Path) -> None:
        """Fits of rising length, as many as there is time for."""
        if self.budget.left < _LEGO_EXTRA_S:
            self.report.left_out.append("lego")
            return
        _say("lego")
        try:
            fitted = device_field.lego(folder, self.place.device)
            for seconds in self.place.sizes.lego_seconds:
                if self.budget.left < seconds + _LEGO_EXTRA_S:
                    self.report.left_out.append(f"lego {seconds:g} s")
                    continue
                _say(f"lego {seconds:g} s")
                self.report.lego.append(fitted(seconds))
                self.save()
        except Exception as error:  # the table is still worth having
            self.report.left_out.append(f"lego ({_first_line(error)})")


def measured(case: Case, place: Place, clock: Clock, found: Ceilings) -> Row:
    """Time all arms of a case that run here."""
    arms: dict[str, Arm] = {f"eager {name}": arm for name, arm in case.eager.items()}
    if case.tcnn is not None:
        arms["tcnn"] = case.tcnn
    problems = []
    try:
        case.ours()
        clock.wait()
    except Exception as error:
        return _failed(case.name, case.items, case.unit, error)
    for name in list(arms):
        try:
            arms[name]()
            clock.wait()
        except Exception as error:  # memory is too small, or a version lacks something
            problems.append(f"{name} does not run here: {_first_line(error)}")
            del arms[name]
    arms = {"ours": case.ours, **arms}
    seconds = case.turns * place.sizes.turn_seconds
    timings = compare(clock, arms, min_seconds=seconds, rounds=place.sizes.rounds)
    return row_of(case, timings, found, problems)


def _failed(name: str, items: int, unit: str, error: Exception) -> Row:
    return Row(name, items, unit, ms=None, note=_first_line(error))


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="operations, step, train; or all")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--minutes", type=float, default=9.0, help="for everything (9)")
    parser.add_argument("--json", type=Path, help="file for all that was found out")
    parser.add_argument("--lego", type=Path, help="NeRF-Synthetic's Lego, to be fitted")
    parser.add_argument("--no-build", dest="build", action="store_false")
    parser.add_argument("--no-suite", dest="suite", action="store_false")
    options = parser.parse_args(arguments)
    if not options.minutes > 0:
        parser.error(f"--minutes: needs a positive number, got {options.minutes:g}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    options = _options(arguments)
    try:
        report = run(options)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    if options.device != "cuda":
        print("rehearsal with tiny sizes: figures mean nothing")
    print(text(report))
    return 0 if report.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
