"""Planes whose fourth axis is time."""

import torch

from neural_fields.encodings import PlanesEncoding


def test_planes_of_time_begin_as_nothing_that_changes():
    space = PlanesEncoding(3, (8, 16), 4)
    moving = PlanesEncoding(4, (8, 16), 4, moments=5)
    for encoding in (space, moving):
        encoding.reset(torch.Generator().manual_seed(3))
    sides = [(3 * side * side + 3 * side * 5) * 4 for side in (8, 16)]
    assert [table.numel() for table in moving] == sides
    at = torch.rand(30, 4)
    later = torch.cat([at[:, :3], torch.rand(30, 1)], 1)
    torch.testing.assert_close(moving.forward(at), moving.forward(later))
    assert float(moving.forward(at).detach().std()) > 0.01
    with torch.no_grad():
        for table in moving:
            table.mul_(torch.rand_like(table) + 0.5)
    changed = (moving.forward(at) - moving.forward(later)).abs().max()
    assert float(changed.detach()) > 0.01
