"""Pictures in tiles against pictures at once."""

import math
from dataclasses import replace

import pytest
import torch
from made_videos import write_video
from viewed import SAMPLING, SMALL, cameras, scene

import neural_fields as nf
from neural_fields.codec.decoder import CodedVideo, as_bytes
from neural_fields.codec.encoder import compress
from neural_fields.fields import (
    DynamicConfig,
    DynamicField,
    FieldFile,
    ImageConfig,
    ImageField,
    SdfConfig,
    SdfField,
    SurfaceConfig,
    SurfaceField,
)
from neural_fields.rendering.image import render_image
from neural_fields.rendering.seen import MODES, to_bytes
from neural_fields.viewer.frame import State, render_frame
from neural_fields.viewer.library import Library
from neural_fields.viewer.shown import Look, Rays, camera_of, shown

NEVER = bool  # bool() is False


def file_of(field, **scene):
    return FieldFile(field.kind, field.config.to_dict(), {}, scene=scene)


def seen(field, camera, look=None, **more):
    state = State(shown(field, file_of(field, background=[1.0, 1.0, 1.0])), look or Look(), **more)
    return render_frame(camera, state, NEVER)


def surface():
    """The sphere that it begins as, dented a little, with colours."""
    field = SurfaceField(SurfaceConfig(architecture=SMALL, sampling=SAMPLING), seed=1)
    field.width.fill_(0.05)
    with torch.no_grad():
        for parameter in field.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return field


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["radiance", "sdf", "surface"])
def test_equals_the_picture_of_render(kind, mode):
    made = {
        "radiance": scene,
        "sdf": lambda: SdfField(SdfConfig(architecture=SMALL), seed=1),
        "surface": surface,
    }
    field = made[kind]()
    camera = cameras(size=97)[1]
    expected = to_bytes(nf.render(field, camera, mode=mode), mode)
    found = seen(field, camera, Look(mode))
    assert found.shape == (97, 97, 3)
    assert torch.equal(found, expected)
    assert found.float().std() > 1  # there is something to see


@pytest.mark.parametrize("time", [0.0, 0.6])
def test_what_moves_is_seen_at_its_time(time):
    field = DynamicField(DynamicConfig(architecture=SMALL, sampling=SAMPLING), seed=1)
    with torch.no_grad():
        for parameter in field.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    camera = cameras(size=40)[1]
    found = seen(field, camera, Look(time=time))
    assert torch.equal(found, to_bytes(nf.render(field.at(time), camera), "rgb"))
    assert not torch.equal(found, seen(field, camera, Look(time=time + 0.3)))
    assert shown(field, file_of(field)).moves
    assert not shown(scene(), file_of(scene())).moves


def test_split_and_side_by_side():
    camera, fields = cameras(size=60)[0], (scene(0), scene(1))
    whole = [seen(field, camera) for field in fields]
    other = shown(fields[1], file_of(fields[1], background=[1.0, 1.0, 1.0]))
    split = seen(fields[0], camera, beside=other, share=0.25)
    assert torch.equal(split[:, :15], whole[0][:, :15])
    assert torch.equal(split[:, 15:], whole[1][:, 15:])
    for share, index in ((0.0, 1), (1.0, 0)):
        assert torch.equal(seen(fields[0], camera, beside=other, share=share), whole[index])
    both = seen(fields[0], camera, beside=other, layout="side by side")
    assert torch.equal(both[:, :30], whole[0][:, 15:45])
    assert torch.equal(both[:, 30:], whole[1][:, 15:45])


def test_depths_of_both_parts_have_one_scale():
    camera, field = cameras(size=32)[0], scene()
    other = shown(field, file_of(field))
    alone = seen(field, camera, Look("depth"))
    assert torch.equal(seen(field, camera, Look("depth"), beside=other), alone)


def test_a_crop_hides_the_rest():
    field, camera = scene(), cameras(size=48)[0]
    everything = seen(field, camera, Look("opacity"))
    half = seen(field, camera, Look("opacity", box=((-1.0, -1.0, -1.0), (1.0, 1.0, 0.0))))
    beside = seen(field, camera, Look("opacity", box=((5.0, 5.0, 5.0), (6.0, 6.0, 6.0))))
    assert beside.max() == 0
    assert half.float().mean() < 0.8 * everything.float().mean()
    assert half[40].any()
    assert not half[:12].any()


def test_given_up_between_tiles():
    asked = []

    def stopped():
        asked.append(len(asked))
        return len(asked) == 2

    field = scene()
    state = State(shown(field, file_of(field)))
    assert render_frame(cameras(size=300)[0], state, stopped) is None
    assert len(asked) == 2


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_picture_from_straight_above(channels):
    field = ImageField(ImageConfig(64, 48, channels, architecture=SMALL), seed=1)
    sheet = shown(field, file_of(field))
    distance = 2.0  # so that a pixel of the view is one of the picture: 64 of them are 2 long
    start = replace(sheet.start, position=(0.0, 0.0, distance), fov_rad=2 * math.atan(0.375))
    found = render_frame(camera_of(start, 64, 48), State(sheet), NEVER).float() / 255
    expected = render_image(field).clamp(0, 1)
    if channels in (2, 4):
        expected = expected[..., :-1] + (1 - expected[..., -1:])
    torch.testing.assert_close(found, expected.expand(-1, -1, 3), rtol=0, atol=0.01)


def test_a_picture_far_beyond_its_pixels_and_from_far_away():
    field = ImageField(ImageConfig(64, 48, architecture=SMALL), seed=1)
    sheet = shown(field, file_of(field))
    near = replace(sheet.start, position=(0.01, 0.0, 1e-3), look_at=(0.01, 0.0, 0.0))
    assert render_frame(camera_of(near, 40, 40), State(sheet), NEVER).float().std() < 3
    far = replace(sheet.start, position=(0.0, 0.0, 90.0))
    tiny = render_frame(camera_of(far, 41, 41), State(sheet), NEVER)
    middle = render_image(field, 1, 1)[0, 0].clamp(0, 1)
    assert (tiny[20, 20].float() / 255 - middle).abs().max() < 0.1
    assert (tiny[0, 0] == tiny[40, 40]).all()  # nothing there
    behind = replace(sheet.start, position=(0.0, 0.0, 1.0), look_at=(0.0, 0.0, 2.0))
    assert render_frame(camera_of(behind, 9, 9), State(sheet), NEVER).float().std() == 0


def test_a_video_is_seen_at_its_time(tmp_path):
    clip = write_video(tmp_path / "clip.mkv", n=6, codec="ffv1", pix_fmt="bgr0")
    compress(clip, tmp_path / "a.nfv", steps=30, options={"batch_pixels": 4096})
    library = Library([tmp_path])
    (entry,) = library.entries()
    assert (entry.name, entry.kind) == ("a.nfv", "nfv")
    sheet = library.open("a.nfv").shown
    assert sheet.moves
    positions = torch.cartesian_prod(torch.arange(64) + 0.5, torch.arange(96) + 0.5).flip(1)
    at = (positions - torch.tensor([48.0, 32.0])) * torch.tensor([1.0, -1.0]) / 48
    down = torch.tensor([0.0, 0.0, -1.0]).expand(len(at), 3)
    rays = Rays(torch.cat([at, torch.full((len(at), 1), 2.0)], 1), down, torch.zeros(len(at)))
    with CodedVideo(tmp_path / "a.nfv") as video:
        for index in (0, 4):
            picture = as_bytes(sheet.pixels(rays, Look(time=index / 5))).view(64, 96, 3)
            difference = picture.int() - video.frame(index).int()
            assert int(difference.abs().max()) <= 1
    (tmp_path / "b.nfv").write_bytes(b"nothing")
    broken = {each.name: each for each in library.entries()}["b.nfv"]
    assert "needs a .nfv file" in broken.problem
