"""How long `import neural_fields` takes, as a ratio to `import torch` in the same run.

Run it with `python benchmarks/import_time.py [PAIRS]`. Fresh interpreters alternate between the
two, after one unmeasured pair that warms the file cache; each is timed from start to exit.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time


def import_seconds(module: str, folder: str) -> float:
    """Seconds that a fresh interpreter takes to start, import one module and exit."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], cwd=folder, check=True)
    return time.perf_counter() - start


def main(n_pairs: int = 5) -> None:
    """Print both medians with their range, and the median and range of the pairs' ratios."""
    with tempfile.TemporaryDirectory() as folder:  # elsewhere, so that the installed package counts
        pairs = [
            (import_seconds("torch", folder), import_seconds("neural_fields", folder))
            for _ in range(n_pairs + 1)
        ][1:]
    columns = {
        "torch_s": [torch for torch, _ in pairs],
        "neural_fields_s": [ours for _, ours in pairs],
        "ratio": [ours / torch for torch, ours in pairs],
    }
    for name, values in columns.items():
        median = statistics.median(values)
        print(f"{name:16s} {median:6.3f}  [{min(values):.3f}, {max(values):.3f}]  n={n_pairs}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
