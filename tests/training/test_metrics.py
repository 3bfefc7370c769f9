"""PSNR and SSIM, whole and in bands."""

import math

import pytest
import torch
from pytorch_msssim import ssim as library_ssim

from neural_fields.training import metrics
from neural_fields.training.metrics import Scores, bands, psnr, ssim


@pytest.fixture
def pair():
    truth = torch.rand(61, 40, 3)
    return (truth + 0.1 * torch.randn_like(truth)).clamp(0, 1), truth


@pytest.mark.parametrize("rows", [1, 7, 10, 11, 30, 61])
def test_bands_score_as_the_whole(pair, rows):
    image, truth = pair
    scores = Scores()
    for begin in range(0, 61, rows):
        scores.add(image[begin : begin + rows], truth[begin : begin + rows])
    batches = [x.permute(2, 0, 1)[None] for x in pair]
    expected = float(library_ssim(*batches, data_range=1.0, win_size=11, win_sigma=1.5))
    assert scores.ssim == pytest.approx(expected, abs=1e-6)
    assert scores.psnr == pytest.approx(psnr(image, truth), abs=1e-4)
    assert scores.psnr == pytest.approx(-10 * math.log10((image - truth).square().mean()), abs=1e-3)


def test_large_pictures_are_cut_into_bands(pair, monkeypatch):
    whole = ssim(*pair)
    monkeypatch.setattr(metrics, "_BAND", 40 * 8)
    assert [s.stop - s.start for s in bands(61, 40)] == [8] * 7 + [5]
    assert ssim(*pair) == pytest.approx(whole, abs=1e-6)
    assert bands(3, 10**9) == [slice(0, 1), slice(1, 2), slice(2, 3)]
