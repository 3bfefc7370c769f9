"""Whose threads work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Keep torch's own operations on one thread inside; native ones have theirs as ever.

    Torch's other threads wait for their next operation in a busy loop, on cores that the native
    ones need in between: a training step takes up to 1.6 times as long with them on two cores.

    Example:
        >>> with one_torch_thread():
        ...     torch.get_num_threads()
        1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
