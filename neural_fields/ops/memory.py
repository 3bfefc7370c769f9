"""Memory for large tables."""

from __future__ import annotations

import contextlib
import math
import mmap
from collections.abc import Sequence

import torch
from torch import Tensor

HUGE_PAGE_BYTES = 2 << 20


def huge_pages_empty(shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor of unspecified content in 2 MB pages, where the system offers them.

    Random reads of a hash table of some 50 MB miss the processor's page cache (TLB) almost every
    time with 4 KB pages, and hardly ever with 2 MB pages. The request is a hint (`madvise`): where
    it is unknown or refused, and for tensors below 2 MB, the result is like `torch.empty`.

    Args:
        shape: lengths of all dimensions.
        dtype: element type.

    Returns:
        A contiguous tensor on torch's default device; on the CPU of Linux, and of 2 MB or more, its
        memory starts on a 2 MB boundary.

    Example:
        >>> table = huge_pages_empty((1 << 19, 2)).uniform_(-1e-4, 1e-4)
        >>> table.shape
        torch.Size([524288, 2])
    """
    count = math.prod(shape)
    n_bytes = count * dtype.itemsize
    small = n_bytes < HUGE_PAGE_BYTES or not hasattr(mmap, "MADV_HUGEPAGE")
    if small or torch.get_default_device().type != "cpu":
        return torch.empty(tuple(shape), dtype=dtype)
    # Private: shared anonymous memory follows another, usually stricter, rule for huge pages.
    pages = math.ceil(n_bytes / HUGE_PAGE_BYTES) + 1
    memory = mmap.mmap(-1, pages * HUGE_PAGE_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):
        memory.madvise(mmap.MADV_HUGEPAGE)
    start = torch.frombuffer(memory, dtype=torch.uint8, count=1).data_ptr()
    offset = -start % HUGE_PAGE_BYTES
    return torch.frombuffer(memory, dtype=dtype, count=count, offset=offset).view(tuple(shape))
