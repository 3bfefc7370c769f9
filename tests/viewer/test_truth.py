"""Errors against photographs that the field itself made, so that they are known."""

from dataclasses import replace

import pytest
import torch
from viewed import SAMPLING, SMALL

import neural_fields as nf
from neural_fields.data.dataset import Dataset
from neural_fields.data.picture import Picture
from neural_fields.fields import FieldFile, ImageConfig, ImageField, RadianceConfig, RadianceField
from neural_fields.rendering.cameras import Cameras
from neural_fields.rendering.image import render_image
from neural_fields.viewer.frame import State, render_frame
from neural_fields.viewer.shown import Look, camera_of, shown
from neural_fields.viewer.truth import ERROR_SCALE

GREY = 140  # of what is not known, 0.55 of 255


def slab():
    """Dense in the whole box, so that surfaces are where the box ends."""
    field = RadianceField(RadianceConfig(architecture=SMALL, sampling=SAMPLING), seed=2)

    class Solid(torch.nn.Module):
        sees_variances = False

        def __init__(self, trunk):
            super().__init__()
            self.inner = trunk

        def forward(self, cube, *rest):
            features = self.inner(cube, *rest)
            return torch.cat([torch.full_like(features[:, :1], 6.0), features[:, 1:] * 3], 1)

        def fused(self):
            return None

    field.trunk = Solid(field.trunk)
    return field


def cameras(n=4, size=60):
    return Cameras.orbit((0, 0, 0), 4, 30, n, width=size, height=size)


def photographed(field, offset=0.0, alpha=None):
    views = cameras()
    images = torch.stack([nf.render(field, views, index) for index in range(len(views))])
    images = ((images + offset).clamp(0, 1) * 255).round().byte()
    return Dataset(
        cameras=views,
        images=images,
        masks=None,
        names=[str(index) for index in range(len(views))],
        split="train",
        aabb=torch.tensor(field.config.box),
        aabb_scale=1,
        box_rule="argument",
        protocol={"background": "white"},
        fingerprint="",
        skipped=[],
    )


def errors(field, data, camera):
    content = FieldFile(field.kind, field.config.to_dict(), {}, scene={"background": [1.0] * 3})
    return render_frame(camera, State(shown(field, content, data), Look("error")), bool)


def test_no_error_where_the_photograph_was_taken():
    field = slab()
    found = errors(field, photographed(field), cameras()[1]).float()
    assert (found > 250).float().mean() > 0.97  # edges of the box fall between pixels


def test_the_size_of_an_error():
    field, offset = slab(), -0.5 * ERROR_SCALE
    found = errors(field, photographed(field, offset), cameras()[1])[28:32, 28:32]
    expected = (torch.tensor([254 + 204, 153 + 66, 41 + 10]) / 2).round()  # half of the ramp
    assert (found.float() - expected).abs().max() < 12


def test_what_the_photograph_does_not_show_is_grey():
    field, data = slab(), photographed(slab())
    between = Cameras.orbit((0, 0, 0), 4, 30, 8, width=60, height=60)[1]  # 45 degrees off
    found = errors(field, data, between)
    unknown = (found == GREY).all(2)
    assert 0.05 < unknown.float().mean() < 0.6  # one side of the box faces away from it
    seen = ~unknown & (nf.render(field, between, mode="opacity") > 0.99)
    assert seen.float().mean() > 0.05
    assert (found[seen].float().mean(1) > 200).float().mean() > 0.7  # colours depend on the view


def test_outside_of_the_frame_is_grey():
    field, data = slab(), photographed(slab())
    wide = replace(cameras()[1], focal=cameras().focal[:1] / 3)
    found = errors(field, data, wide)
    assert (found[:10] == GREY).all()
    assert (found[30, 30] > 200).all()


def test_only_what_has_photographs_has_errors():
    field = slab()
    content = FieldFile(field.kind, {}, {})
    assert "error" not in shown(field, content).modes
    assert "error" in shown(field, content, photographed(field)).modes


@pytest.mark.parametrize("channels", [1, 3])
def test_errors_of_a_picture(channels):
    field = ImageField(ImageConfig(64, 48, channels, architecture=SMALL), seed=1)
    values = render_image(field)
    values[:24] += 0.5 * ERROR_SCALE
    picture = Picture((values.clamp(0, 1) * 255).round().byte(), "x", "srgb", 8, {}, "")
    sheet = shown(field, FieldFile("image", {}, {}), picture)
    found = render_frame(camera_of(sheet.start, 160, 120), State(sheet, Look("error")), bool)
    upper, lower = found[40:55, 60:100].float(), found[65:80, 60:100].float()
    assert lower.mean() > 245
    half = torch.tensor([(254 + 204) / 2, (153 + 66) / 2, (41 + 10) / 2])
    assert (upper - half).abs().max() < 15
