import zlib

import numpy as np
import pytest
from PIL import Image
from scene_files import picture, write_image

from neural_fields.data.images import (
    ImageHeader,
    downscale_image,
    downscale_mask,
    read_image,
    read_mask,
)
from neural_fields.errors import InputError


def block_average(image, k):
    """One block at a time, in float64 on premultiplied colour."""
    height, width, channels = image.shape[0] // k, image.shape[1] // k, image.shape[2]
    result = np.zeros((height, width, channels), np.uint8)
    for i in range(height):
        for j in range(width):
            block = image[i * k : i * k + k, j * k : j * k + k].reshape(-1, channels) * 1.0
            alpha = block[:, 3:] if channels == 4 else np.ones((k * k, 1))
            mean = alpha.mean()
            if mean > 0:
                result[i, j, :3] = np.rint((block[:, :3] * alpha).mean(0) / mean)
            if channels == 4:
                result[i, j, 3] = np.rint(mean)
    return result


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("factor", [1, 2, 3, 5])
def test_downscale_is_the_premultiplied_block_mean(channels, factor):
    image = np.random.default_rng(0).integers(0, 256, (17, 13, channels), dtype=np.uint8)
    image[:6, :6, 3:] = 0
    result = downscale_image(image, factor)
    if factor == 1:
        assert (result == image).all()
        return
    difference = result.astype(int) - block_average(image, factor)
    assert result.shape == (17 // factor, 13 // factor, channels)
    assert np.abs(difference).max() <= 1  # ties may round either way
    assert (difference != 0).mean() < 0.01


def test_downscale_does_not_bleed_hidden_colour():
    image = np.zeros((2, 2, 4), np.uint8)
    image[0, 0] = (200, 100, 50, 255)
    image[1, 1] = (255, 255, 255, 0)  # invisible white
    assert downscale_image(image, 2)[0, 0].tolist() == [200, 100, 50, 64]


def test_downscale_mask_keeps_whole_blocks():
    mask = np.ones((5, 4), bool)
    mask[0, 3] = False
    assert downscale_mask(mask, 2).tolist() == [[True, False], [True, True]]


@pytest.mark.parametrize(
    ("mode", "has_alpha"),
    [("L", False), ("LA", True), ("P", False), ("1", False), ("RGB", False), ("RGBA", True)],
)
def test_modes(tmp_path, mode, has_alpha):
    path = tmp_path / "a.png"
    Image.fromarray(picture(0, 4 if has_alpha else 3)).convert(mode).save(path)
    header = ImageHeader(path)
    assert header.size == (12, 16)
    assert header.has_alpha == has_alpha
    assert read_image(path, 4).shape == (16, 12, 4)
    assert read_image(path, 3).dtype == np.uint8


def test_16_bit_is_refused(tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((4, 4), 40000, np.uint16)).save(path)
    with pytest.raises(InputError, match=r"deep\.png.*8 bits"):
        ImageHeader(path)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_corrupt_and_truncated(tmp_path, suffix):
    path = tmp_path / f"cut.{suffix}"
    write_image(path, picture(0, 3, 64, 64))
    whole = path.read_bytes()
    for end in (0, 10, len(whole) // 2):
        path.write_bytes(whole[:end])
        with pytest.raises(InputError, match=rf"cut\.{suffix}"):
            read_image(path, 3)
    path.write_bytes(b"this is no image")
    with pytest.raises(InputError, match=rf"cut\.{suffix}"):
        ImageHeader(path)


@pytest.mark.parametrize("side", [10000, 60000])
def test_decompression_bomb_is_refused_by_its_header(tmp_path, side):
    path = tmp_path / "bomb.png"
    write_image(path, picture(0))
    data = bytearray(path.read_bytes())
    data[16:24] = side.to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"bomb\.png.*at most"):
        ImageHeader(path)


def test_mask_is_nonzero(tmp_path):
    grey = np.zeros((16, 12), np.uint8)
    grey[2, 3], grey[4, 5] = 1, 255
    colour = np.zeros((16, 12, 4), np.uint8)
    colour[..., 3] = 255
    colour[2, 3, 2], colour[4, 5, 0] = 9, 9
    palette = Image.fromarray(grey).convert("P")
    for name, image in (
        ("grey", Image.fromarray(grey)),
        ("colour", Image.fromarray(colour)),
        ("palette", palette),
    ):
        image.save(tmp_path / f"{name}.png")
        mask = read_mask(tmp_path / f"{name}.png", (12, 16))
        assert np.argwhere(mask).tolist() == [[2, 3], [4, 5]], name
    with pytest.raises(InputError, match=r"grey\.png.*16x12.*12x16"):
        read_mask(tmp_path / "grey.png", (16, 12))
