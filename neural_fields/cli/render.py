"""`nf render`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from neural_fields.cli.output import Bar, emit_json, parse_size, say
from neural_fields.errors import InputError


def render(
    field: tyro.conf.Positional[Path],
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    orbit: int | None = None,
    cameras: Path | None = None,
    data: Path | None = None,
    split: Literal["train", "val", "test"] = "test",
    mode: Literal["rgb", "depth", "normal", "opacity"] = "rgb",
    size: str | None = None,
    fps: float | None = None,
    json: str | None = None,
) -> None:
    """Render pictures or a video of a field, from one of --orbit, --cameras or --data.

    Args:
        field: a .nf file.
        output: a name ending in .mp4 for a video, else a folder for PNG files.
        orbit: this many views on a circle around the scene.
        cameras: JSON file in the layout of transforms.json.
        data: the cameras of a data set; pictures get the photographs' names.
        split: which of its images.
        mode: colour, depth (near is bright), normals or opacity.
        size: WxH; the cameras' own size if not given.
        fps: frames per second of a video (the camera file's, else 30).
        json: write a summary as JSON to this file, or - for stdout.
    """
    from neural_fields import api
    from neural_fields.cli.cameras import CameraPath, plan
    from neural_fields.cli.frames import Writer
    from neural_fields.fields import read_field_file
    from neural_fields.fields.load import build_field

    if sum(source is not None for source in (orbit, cameras, data)) != 1:
        raise InputError("render: needs exactly one of --orbit, --cameras and --data.")
    if fps is not None and not 0 < fps <= 1000:
        raise InputError(f"--fps: needs a number above 0 and up to 1000, got {fps}.")
    pixels = parse_size(size)
    content = read_field_file(field)
    radiance = build_field(content, field)
    path: CameraPath = plan(content, radiance, orbit, cameras, data, split, pixels)
    background = _background(content.scene.get("background"), field)
    writer = Writer(output, fps or path.fps or 30.0)
    bar = Bar(len(path.names), "views")
    with writer:
        for index, name in enumerate(path.names):
            picture = api.render(radiance, path.cameras, index, mode=mode, background=background)
            writer.add(name, to_bytes(picture, mode))
            bar.update(index + 1)
    bar.close()
    say(f"wrote {output} ({len(path.names)} views)", json)
    summary: dict[str, Any] = {"output": str(output), "views": len(path.names), "mode": mode}
    emit_json(json, summary)


def _background(stored: object, field: Path) -> tuple[float, float, float]:
    """Black where pictures were fitted over random colours."""
    if stored is None:
        return 0.0, 0.0, 0.0
    numbers = stored if isinstance(stored, list) else []
    if len(numbers) != 3 or not all(isinstance(x, int | float) and 0 <= x <= 1 for x in numbers):
        raise InputError(f"{field}: its background needs three numbers in [0, 1], got {stored!r}.")
    return float(numbers[0]), float(numbers[1]), float(numbers[2])


def to_bytes(picture: Any, mode: str) -> Any:
    """uint8 [h, w, 3] for any mode; depth is scaled per picture, near is bright."""
    import torch

    if mode == "depth":
        seen = picture > 0
        if bool(seen.any()):
            near, far = picture[seen].min(), picture[seen].max()
            scaled = 1 - 0.85 * (picture - near) / (far - near).clamp(min=1e-6)
            picture = torch.where(seen, scaled, 0.0)
    if picture.dim() == 2:
        picture = picture[..., None].expand(-1, -1, 3)
    return (picture.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
