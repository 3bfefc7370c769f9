"""Pictures of all depths, as independent writers make them, and files that are none."""

import numpy as np
import OpenImageIO
import pytest
import torch
from PIL import Image

from neural_fields import InputError
from neural_fields.data.picture import load_picture, save_picture
from neural_fields.fields.image import to_curve, to_linear


def numbers(height, width, channels, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def write(path, array, **attributes):
    """By OpenImageIO itself, straight alpha."""
    kind = {"uint8": "uint8", "uint16": "uint16", "float32": "float"}[str(array.dtype)]
    spec = OpenImageIO.ImageSpec(array.shape[1], array.shape[0], array.shape[2], kind)
    for name, value in {"oiio:UnassociatedAlpha": 1, **attributes}.items():
        spec.attribute(name.replace("__", ":"), value)
    stream = OpenImageIO.ImageOutput.create(str(path))
    assert stream.open(str(path), spec)
    assert stream.write_image(array)
    assert stream.close()
    return path


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_of_8_bits_as_pillow_writes_it(channels, tmp_path):
    array = numbers(12, 17, channels)
    Image.fromarray(array.squeeze()).save(tmp_path / "a.png")
    picture = load_picture(tmp_path / "a.png")
    assert (picture.bits, picture.color_space) == (8, "srgb")
    assert torch.equal(picture.pixels, torch.from_numpy(array))
    index = torch.tensor([0, 18, 12 * 17 - 1])
    expected = torch.from_numpy(array.reshape(-1, channels)[index.numpy()]) / 255
    if channels in (2, 4):
        expected[:, :-1] *= expected[:, -1:]
    torch.testing.assert_close(picture.at(index), expected)


def test_16_bits_keep_them(tmp_path):
    array = (numbers(12, 17, 4).astype(np.uint16) << 8) + numbers(12, 17, 4, 1)
    picture = load_picture(write(tmp_path / "a.png", array))
    assert picture.bits == 16
    assert np.array_equal(picture.pixels.numpy(), array)
    expected = array[0, 1].astype(np.float64) / 65535
    expected[:3] *= expected[3]
    assert picture.at(torch.tensor([1]))[0].tolist() == pytest.approx(expected.tolist(), abs=1e-7)


@pytest.mark.parametrize("suffix", ["exr", "hdr", "tif"])
def test_floats_are_linear_and_may_exceed_one(suffix, tmp_path):
    array = np.random.default_rng(0).random((12, 17, 3), np.float32) * 9
    picture = load_picture(write(tmp_path / f"a.{suffix}", array))
    assert (picture.bits, picture.color_space) == (32, "linear")
    step = 0.02 if suffix == "hdr" else 0  # shared exponents
    assert np.allclose(picture.pixels.numpy(), array, rtol=step, atol=step * 9)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_as_pillow_turns_them(orientation, tmp_path):
    from PIL import ImageOps

    image = Image.fromarray(np.kron(numbers(3, 4, 1)[..., 0], np.ones((8, 8), np.uint8)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.jpg", exif=exif, quality=100)
    with Image.open(tmp_path / "a.jpg") as stored:
        expected = np.array(ImageOps.exif_transpose(stored))
    pixels = load_picture(tmp_path / "a.jpg").pixels[..., 0].numpy()
    assert np.abs(pixels - expected.astype(int)).max() <= 1


def test_downscaling_averages_premultiplied(tmp_path):
    array = np.zeros((24, 24, 4), np.uint8)
    array[::2] = (200, 100, 0, 255)  # opaque rows between transparent ones
    picture = load_picture(write(tmp_path / "a.png", array), downscale=2)
    assert picture.pixels.shape == (12, 12, 4)
    assert picture.pixels[3, 4].tolist() == [200, 100, 0, 128]
    assert picture.protocol["downscale"] == 2


@pytest.mark.parametrize("suffix", ["png", "tif", "exr", "webp", "jpg", "hdr"])
def test_what_is_written_is_read_back(suffix, tmp_path):
    y, x = torch.meshgrid(torch.arange(16) / 16, torch.arange(24) / 24, indexing="ij")
    values = (torch.stack([x, y, (x + y) / 2], -1) * 255).round() / 255
    path = tmp_path / f"a.{suffix}"
    save_picture(path, values, 8, "srgb")
    again = load_picture(path)
    shown = again.values(again.pixels)
    shown = to_curve(shown) if again.color_space == "linear" else shown
    limit = {"png": 1e-6, "tif": 1e-6, "exr": 1e-5}.get(suffix, 0.06)
    assert (shown - values).abs().max() < limit
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_alpha_is_straight_in_files(tmp_path):
    values = torch.tensor([0.25, 0.5, 0.0, 0.5]).expand(12, 12, 4)
    save_picture(tmp_path / "a.png", values, 8, "srgb")
    assert np.array(Image.open(tmp_path / "a.png"))[5, 5].tolist() == [128, 255, 0, 128]


def test_the_curve_is_that_of_srgb_and_goes_on():
    x = torch.tensor([-1.0, -0.5, 0.0, 0.001, 0.0031308, 0.2, 1.0, 1000.0])
    torch.testing.assert_close(to_linear(to_curve(x)), x, rtol=1e-5, atol=1e-6)
    assert to_curve(torch.tensor([0.2158605])).item() == pytest.approx(0.5019608, abs=1e-6)


def bad_pictures(folder):
    good = folder / "good.png"
    Image.fromarray(numbers(40, 40, 3)).save(good)
    exr = write(folder / "good.exr", numbers(40, 40, 3).astype(np.float32))
    nan = numbers(40, 40, 3).astype(np.float32)
    nan[7, 3, 1] = np.nan
    Image.fromarray(numbers(40, 40, 3)).save(folder / "good.jpg")
    cases = {
        "empty.png": b"",
        "pdf.png": b"%PDF-1.4\n" + bytes(1000),
        "text.jpg": b"no picture at all",
        "cut.png": good.read_bytes()[:1500],
        "cut.jpg": (folder / "good.jpg").read_bytes()[:900],
        "cut.exr": exr.read_bytes()[:2000],
    }
    for name, content in cases.items():
        (folder / name).write_bytes(content)
    write(folder / "nan.exr", nan)
    Image.fromarray(numbers(40, 1, 3)).save(folder / "thin.png")
    return {
        **dict.fromkeys(cases, "needs a picture"),
        "nan.exr": "column 3, row 7",
        "thin.png": "11 pixels a side",
        "nowhere.png": "there is none",
    }


def test_files_that_are_no_pictures_are_refused(tmp_path, capfd):
    for name, message in bad_pictures(tmp_path).items():
        with pytest.raises(InputError, match=message) as caught:
            load_picture(tmp_path / name)
        assert name in str(caught.value)
    assert capfd.readouterr() == ("", "")  # decoders stay silent


def test_more_than_four_channels_and_huge_headers_are_refused(tmp_path):
    five = np.zeros((12, 12, 5), np.float32)
    with pytest.raises(InputError, match="1 to 4 channels, got 5"):
        load_picture(write(tmp_path / "a.exr", five))
    import struct
    import zlib

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    (tmp_path / "huge.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100)))
    )
    with pytest.raises(InputError, match="malicious header"):
        load_picture(tmp_path / "huge.png")
