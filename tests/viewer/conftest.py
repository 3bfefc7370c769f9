"""Small fields to look at, made once."""

import pytest
import torch

from neural_fields.architectures.hash import Hash
from neural_fields.fields import ImageConfig, ImageField, RadianceConfig, RadianceField
from neural_fields.fields.load import save
from neural_fields.rendering.cameras import Cameras

SMALL = Hash(n_levels=2, log2_table_size=10, base_resolution=4, finest_resolution=8)


def scene(seed=0):
    """A cloud with colours that depend on the place."""
    field = RadianceField(RadianceConfig(architecture=SMALL), seed=seed)
    with torch.no_grad():
        for parameter in field.parameters():
            parameter.mul_(3)
    return field


def cameras(size=40):
    return Cameras.orbit((0, 0, 0), 4, 20, 3, width=size, height=size)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """a.nf and b.nf, radiance fields; deep/picture.nf; broken.nf."""
    path = tmp_path_factory.mktemp("fields")
    picture = torch.full((8, 8, 3), 200, dtype=torch.uint8)
    for seed, name in enumerate(("a", "b")):
        save(
            scene(seed),
            path / f"{name}.nf",
            scene={"cameras": cameras().to_json(), "background": [1.0, 1.0, 1.0]},
            metrics={"psnr_train": 31.25},
            extra={"thumbnail": picture},
        )
    (path / "deep").mkdir()
    save(ImageField(ImageConfig(64, 48, architecture=SMALL)), path / "deep" / "picture.nf")
    (path / "broken.nf").write_bytes(b"no field")
    return path
