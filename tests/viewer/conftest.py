"""A folder of small fields, made once."""

import pytest
import torch
from viewed import SMALL, cameras, scene

from neural_fields.fields import ImageConfig, ImageField, SdfConfig, SdfField
from neural_fields.fields.load import save


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """a.nf and b.nf, radiance fields; deep/picture.nf; shape.nf; broken.nf."""
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
    save(SdfField(SdfConfig(architecture=SMALL), seed=1), path / "shape.nf")
    (path / "broken.nf").write_bytes(b"no field")
    return path
