"""Displacements estimated from frames."""

import torch

from neural_fields.training.motion import estimate_motion


def _texture(height, width):
    generator = torch.Generator().manual_seed(2)
    coarse = torch.rand(1, 3, height // 8, width // 8, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
    return (smooth[0].permute(1, 2, 0).clamp(0, 1) * 255).round().to(torch.uint8)


def test_a_shift_is_found():
    ground = _texture(112, 176)
    frames = torch.stack([ground[2 * k : 2 * k + 80, 3 * k : 3 * k + 128] for k in range(9)])
    motion = estimate_motion(frames, (8, 5), 9)
    assert motion.shape == (9, 5, 8, 2)
    assert float(motion[4].abs().max()) == 0  # the middle is what others are shown in
    inner = motion[:, 1:-1, 1:-1].mean((1, 2))
    wanted = torch.tensor([[3.0 * (k - 4), 2.0 * (k - 4)] for k in range(9)])
    assert float((inner - wanted).abs().max()) < 1


def test_moments_lie_evenly_between_the_first_and_the_last_frame():
    ground = _texture(112, 176)
    frames = torch.stack([ground[2 * k : 2 * k + 80, 3 * k : 3 * k + 128] for k in range(9)])
    every = estimate_motion(frames, (8, 5), 9)
    torch.testing.assert_close(estimate_motion(frames, (8, 5), 3), every[::4])


def test_what_nothing_explains_rests():
    before, behind = _texture(80, 128), 255 - _texture(128, 80).transpose(0, 1)
    frames = torch.stack([behind, behind, before, before, before])
    motion = estimate_motion(frames, (8, 5), 5)
    assert float(motion[2:].abs().max()) < 0.5
    black = torch.zeros(3, 80, 128, 3, dtype=torch.uint8)
    assert float(estimate_motion(black, (8, 5), 2).abs().max()) == 0
