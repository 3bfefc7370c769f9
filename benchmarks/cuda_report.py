"""Registers, stack and spills of the CUDA kernels, from what the assembler says of them.

make cuda CUDA_ARGS=-DNF_CUDA_REPORT=ON 2>&1 | tee build/cuda.log
python benchmarks/cuda_report.py build/cuda.log -o benchmarks/results/cuda-kernels.md
"""

from __future__ import annotations

import argparse
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

_ENTRY = re.compile(r"Compiling entry function '(\w+)' for '(sm_\w+)'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")


class Kernel(NamedTuple):
    """One kernel on one architecture; bytes are per thread."""

    name: str
    architecture: str
    registers: int
    stack_bytes: int
    spill_bytes: int


def kernels(log: str) -> list[Kernel]:
    """What a log of `ptxas -v` has, in its order.

    Example:
        >>> log = '''Compiling entry function '_Z1fv' for 'sm_90'
        ... 8 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads
        ... Used 32 registers, used 0 barriers'''
        >>> kernels(log)
        [Kernel(name='_Z1fv', architecture='sm_90', registers=32, stack_bytes=8, spill_bytes=8)]
    """
    found: list[Kernel] = []
    # Files are compiled side by side, each with a line of its own for each fact: they may mix, but
    # an entry's facts follow it before the next entry of the same file.
    for block in re.split(r"(?=Compiling entry function)", log):
        entry, stack, used = (pattern.search(block) for pattern in (_ENTRY, _STACK, _USED))
        if entry is None or used is None:
            continue
        frame, stores, loads = (int(x) for x in stack.groups()) if stack else (0, 0, 0)
        found.append(Kernel(entry[1], entry[2], int(used[1]), frame, stores + loads))
    return found


def readable(names: list[str]) -> dict[str, str]:
    """Short names of mangled ones: `hash_grid: forward_kernel<float, 3>`."""
    joined = "\n".join(names)
    text = subprocess.run(["c++filt"], input=joined, capture_output=True, text=True, check=True)
    result = {}
    for mangled, name in zip(names, text.stdout.splitlines(), strict=True):
        file = re.search(r"\d+_([a-z_]+)_cu_", mangled)
        plain = re.sub(r"^void |\(anonymous namespace\)::|nf::cuda::|\(.*$", "", name)
        plain = re.sub(r"_GLOBAL__N__\w+::|_INTERNAL_\w+::", "", plain)
        result[mangled] = f"{file[1]}: {plain}" if file else plain
    return result


def report(found: list[Kernel]) -> str:
    """The tables, as Markdown."""
    own = [kernel for kernel in found if "cub" not in kernel.name]
    names = readable(sorted({kernel.name for kernel in own}))
    architectures = sorted({kernel.architecture for kernel in own}, key=_order)
    by_name: dict[str, dict[str, Kernel]] = {}
    for kernel in own:
        by_name.setdefault(names[kernel.name], {})[kernel.architecture] = kernel
    head = f"| kernel | {' | '.join(architectures)} |\n|---|{'---|' * len(architectures)}\n"
    rows = "".join(
        f"| `{name}` | {' | '.join(_cell(per.get(a)) for a in architectures)} |\n"
        for name, per in sorted(by_name.items())
    )
    spilling = [kernel for kernel in own if kernel.spill_bytes]
    worst = max(spilling, key=lambda kernel: kernel.spill_bytes, default=None)
    said = "No kernel spills."
    if worst is not None:
        said = (
            f"{len(spilling)} of {len(own)} spill; most: `{names[worst.name]}` on "
            f"{worst.architecture}, {worst.spill_bytes} bytes."
        )
    return (
        "# Registers of the CUDA kernels\n\n"
        "Registers per thread as `ptxas -v` reports them; `+N` are bytes of stack per thread "
        "(arrays that are indexed at run time), `!N` bytes of spills. Compiled, not run. "
        f"{said} CUB's kernels are left out.\n\n{head}{rows}"
    )


def _order(architecture: str) -> tuple[int, str]:
    return int(re.sub(r"\D", "", architecture)), architecture


def _cell(kernel: Kernel | None) -> str:
    if kernel is None:
        return ""
    stack = f" +{kernel.stack_bytes}" if kernel.stack_bytes else ""
    spills = f" !{kernel.spill_bytes}" if kernel.spill_bytes else ""
    return f"{kernel.registers}{stack}{spills}"


def main() -> None:
    """Read a log, and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("log", type=Path, help="the output of make cuda")
    parser.add_argument("-o", "--output", type=Path, help="a Markdown file; else it is printed")
    options = parser.parse_args()
    text = report(kernels(options.log.read_text()))
    if options.output is None:
        print(text)
    else:
        options.output.write_text(text)


if __name__ == "__main__":
    main()
