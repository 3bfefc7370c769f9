"""Memory for large tables."""

import gc
import mmap

import pytest
import torch

from neural_fields import ops
from neural_fields.ops.memory import HUGE_PAGE_BYTES


@pytest.mark.parametrize("shape", [(0, 2), (3,), (1 << 18, 2), (700_001, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8])
def test_is_an_ordinary_tensor(shape, dtype):
    table = ops.huge_pages_empty(shape, dtype)
    assert table.shape == shape
    assert table.dtype == dtype
    assert table.is_contiguous()
    table.fill_(7)
    copy = table.clone()
    view = table.view(-1)
    del table
    gc.collect()
    assert torch.equal(view, copy.view(-1))


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="no huge pages on this system")
def test_large_tensors_start_on_a_huge_page():
    assert ops.huge_pages_empty((1 << 19, 2)).data_ptr() % HUGE_PAGE_BYTES == 0


def test_trains_like_any_parameter():
    table = torch.nn.Parameter(ops.huge_pages_empty((1 << 19, 2)).zero_())
    (table[:3] * 2).sum().backward()
    assert table.grad.sum() == 12
