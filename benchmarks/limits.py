"""What this machine can do at most, measured now: the yardsticks of the benchmarks."""

from __future__ import annotations

import functools

from neural_fields import _core
from neural_fields.ops import huge_pages_empty

_PATHS = ("portable", "avx2", "avx512", "amx")


def _usable_paths() -> tuple[str, ...]:
    return _PATHS[: _PATHS.index(_core.best_isa()) + 1]


@functools.lru_cache(maxsize=8)
def flops(seconds: float, n_threads: int) -> float:
    """Float32 operations per second of fused multiply-adds (2 each), the best of all paths.

    Some processors run 256-bit registers at a higher clock than 512-bit ones.

    Args:
        seconds: how long to measure each path.
        n_threads: of the core; also what is remembered.
    """
    return max(_on_path(path, seconds, n_threads) for path in _usable_paths())


@functools.lru_cache(maxsize=64)
def random_lines(n_bytes: int, seconds: float, n_threads: int) -> float:
    """Independent random 64-byte lines per second from a table of that size.

    On the pages that the hash grid's tables use, all threads at once; the better of loads alone
    and loads that were prefetched.
    """
    _use_threads(n_threads)
    table = huge_pages_empty((max(n_bytes // 4, 16),)).zero_()
    return _core.limit_lines(table, seconds)


@functools.lru_cache(maxsize=64)
def stream_bytes(n_bytes: int, seconds: float, n_threads: int) -> float:
    """Bytes per second of long runs over two arrays of that size, which caches may hold.

    The better of reading, and reading and writing.
    """
    _use_threads(n_threads)
    source, destination = huge_pages_empty((n_bytes // 4,)), huge_pages_empty((n_bytes // 4,))
    return _core.limit_stream(source.zero_(), destination.zero_(), seconds)


def _use_threads(n_threads: int) -> None:
    if n_threads != _core.num_threads():
        raise ValueError(f"limits: the core runs {_core.num_threads()} threads, not {n_threads}.")


def _on_path(path: str, seconds: float, n_threads: int) -> float:
    _use_threads(n_threads)
    before = _core.active_isa()
    try:
        _core.set_isa(path)
        return _core.limit_fma(seconds)
    finally:
        _core.set_isa(before)
