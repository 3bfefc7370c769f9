"""Makes the README's picture: one test view as truth, rendering, depth and normals.

make demo
.venv/bin/python docs/images/make.py demo/locomotive.nf --data demo/scene
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image

from neural_fields import api
from neural_fields.fields import read_field_file
from neural_fields.fields.load import build_field
from neural_fields.viewer.report_figures import depth_picture


def main() -> None:
    """Write locomotive.jpg beside this script."""
    parser = argparse.ArgumentParser(description="make the README's picture")
    parser.add_argument("field", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--view", type=int, default=15)
    arguments = parser.parse_args()
    content = read_field_file(arguments.field)
    field = build_field(content, arguments.field)
    views = api.load_for(content.protocol, arguments.data, "test", field)
    color, alpha = views.image(arguments.view)
    tiles = [
        color + (1 - alpha)[..., None],
        api.render(field, views.cameras, arguments.view),
        depth_picture(api.render(field, views.cameras, arguments.view, mode="depth"))[0],
        api.render(field, views.cameras, arguments.view, mode="normal"),
    ]
    rows, columns = (alpha > 0).any(1).nonzero(), (alpha > 0).any(0).nonzero()
    top, bottom = max(int(rows.min()) - 8, 0), int(rows.max()) + 9
    left, right = max(int(columns.min()) - 8, 0), int(columns.max()) + 9
    strip = torch.cat([tile[top:bottom, left:right] for tile in tiles], dim=1)
    picture = Image.fromarray((strip.clamp(0, 1) * 255).round().byte().numpy())
    output = Path(__file__).parent / "locomotive.jpg"
    picture.save(output, quality=88, subsampling=0, optimize=True)
    print(
        f"wrote {output}: {picture.width}x{picture.height}, {output.stat().st_size / 1000:.0f} KB"
    )


if __name__ == "__main__":
    main()
