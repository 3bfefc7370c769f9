"""`nf render`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from neural_fields.cli.output import Bar, emit_json, parse_size, say
from neural_fields.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from neural_fields.fields import AnyVideo, ImageField


def render(
    field: tyro.conf.Positional[Path],
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    orbit: int | None = None,
    cameras: Path | None = None,
    data: Path | None = None,
    split: Literal["train", "val", "test"] = "test",
    mode: Literal["rgb", "depth", "normal", "opacity"] = "rgb",
    size: str | None = None,
    crop: str | None = None,
    fps: float | None = None,
    time: float | None = None,
    device: str = "auto",
    json: str | None = None,
) -> None:
    """Render a field: views or a video of a scene or a shape, or a picture at any size and crop.

    A radiance field needs one of --orbit, --cameras and --data, an SDF one of the first two. An
    image field is written to one file: PNG, JPEG, WebP, TIFF, EXR or HDR by its name; so is one
    moment of a video field, with --time, and all its frames to a video or a folder without.

    Args:
        field: a .nf file.
        output: views: a name ending in .mp4 for a video, else a folder for PNG files; a picture:
            its file.
        orbit: this many views on a circle around the scene.
        cameras: JSON file in the layout of transforms.json.
        data: the cameras of a data set; pictures get the photographs' names.
        split: which of its images.
        mode: colour, depth (near is bright), normals or opacity.
        size: WxH; the cameras' or the picture's own size if not given.
        crop: LEFT,TOP,WIDTH,HEIGHT in pixels of the picture or video that was fitted.
        fps: frames per second of a video (the camera file's or the fitted video's, else 30).
        time: of a field that moves, in [0, 1]; if not given the cameras' own, or all of it.
        device: cpu, cuda, cuda:1 and so on, or auto: a GPU where one can be used.
        json: write a summary as JSON to this file, or - for stdout.
    """
    from neural_fields import api
    from neural_fields.cli.cameras import CameraPath, plan
    from neural_fields.cli.frames import Writer
    from neural_fields.fields import AnyVideo, ImageField, read_field_file
    from neural_fields.fields.load import build_field
    from neural_fields.rendering.seen import to_bytes
    from neural_fields.training.run import device_of_field

    content = read_field_file(field)
    built = build_field(content, field)
    built = built.to(device_of_field(device, built))
    if isinstance(built, ImageField):
        views = {"--orbit": orbit, "--cameras": cameras, "--data": data, "--fps": fps}
        _refuse(
            {**views, "--time": time, "--mode": None if mode == "rgb" else mode}, "an image field"
        )
        render_picture(built, output, parse_size(size), crop, json)
        return
    if isinstance(built, AnyVideo):
        views = {"--orbit": orbit, "--cameras": cameras, "--data": data}
        _refuse({**views, "--mode": None if mode == "rgb" else mode}, "a video field")
        rate = content.scene.get("fps", 30.0) if fps is None else fps
        render_video(built, output, parse_size(size), crop, time, checked_fps(rate), json)
        return
    _refuse({"--crop": crop}, f"a field of kind {built.kind}")
    if sum(source is not None for source in (orbit, cameras, data)) != 1:
        raise InputError("render: needs exactly one of --orbit, --cameras and --data.")
    checked_fps(fps)
    pixels = parse_size(size)
    path: CameraPath = plan(content, built, orbit, cameras, data, split, pixels, time)
    stored = content.scene.get("background") if built.kind != "sdf" else [1.0, 1.0, 1.0]
    background = _background(stored, field)
    writer = Writer(output, fps or path.fps or 30.0)
    bar = Bar(len(path.names), "views")
    with writer:
        for index, name in enumerate(path.names):
            picture = api.render(built, path.cameras, index, mode=mode, background=background)
            writer.add(name, to_bytes(picture, mode).numpy())
            bar.update(index + 1)
    bar.close()
    say(f"wrote {output} ({len(path.names)} views)", json)
    summary: dict[str, Any] = {"output": str(output), "views": len(path.names), "mode": mode}
    emit_json(json, summary)


def checked_fps(fps: Any) -> Any:
    """Frames per second, or None; raises InputError."""
    if fps is not None and not (isinstance(fps, int | float) and 0 < fps <= 1000):
        raise InputError(f"--fps: needs a number above 0 and up to 1000, got {fps}.")
    return fps


def _refuse(options: dict[str, object], kind: str) -> None:
    for option, value in options.items():
        if value is not None:
            raise InputError(f"{option}: does not apply to {kind}; leave it out.")


def render_picture(
    field: ImageField,
    output: Path,
    size: tuple[int, int] | None,
    crop: str | None,
    json: str | None,
) -> None:
    """Write an image field, or a part of it, as one picture."""
    from neural_fields.rendering.image import render_image

    _check_picture(output)
    part = None if crop is None else _parse_crop(crop)
    width, height = size or (None, None)
    picture = render_image(field, width, height, part)
    _write_picture(output, picture, field.config.bits, field.config.color_space, json)


def render_video(
    field: AnyVideo,
    output: Path,
    size: tuple[int, int] | None,
    crop: str | None,
    time: float | None,
    fps: float,
    json: str | None,
) -> None:
    """Write all frames of a video field, or one moment of it as a picture."""
    from neural_fields.cli.frames import Writer
    from neural_fields.rendering.seen import to_bytes
    from neural_fields.rendering.video import render_frame

    part = None if crop is None else _parse_crop(crop)
    width, height = size or (None, None)
    if time is not None:
        _check_picture(output)
        _write_picture(output, render_frame(field, time, width, height, part), 8, "srgb", json)
        return
    n = field.config.n_frames
    digits = len(str(n - 1))
    bar = Bar(n, "frames")
    with Writer(output, fps) as writer:
        for index in range(n):
            picture = render_frame(field, field.time_of(index), width, height, part)
            writer.add(f"{index:0{digits}d}", to_bytes(picture, "rgb").numpy())
            bar.update(index + 1)
    bar.close()
    say(f"wrote {output} ({n} frames)", json)
    emit_json(json, {"output": str(output), "views": n, "mode": "rgb"})


def _check_picture(output: Path) -> None:
    from neural_fields.data.picture import WRITTEN

    if output.suffix.lower() not in WRITTEN:
        known = ", ".join(WRITTEN)
        raise InputError(f"-o {output}: a picture needs a name ending in one of {known}.")
    if not output.parent.is_dir():
        raise InputError(f"-o {output}: its folder does not exist; create it first.")


def _write_picture(
    output: Path, picture: Tensor, bits: int, color_space: str, json: str | None
) -> None:
    from neural_fields.data.picture import save_picture

    save_picture(output, picture, bits, color_space)
    height, width = picture.shape[:2]
    say(f"wrote {output} ({width}x{height} pixels)", json)
    emit_json(json, {"output": str(output), "width": width, "height": height})


def _parse_crop(text: str) -> tuple[float, float, float, float]:
    try:
        left, top, width, height = (float(part) for part in text.split(","))
    except ValueError:
        left = top = width = height = math.nan
    if not (math.isfinite(left + top) and 0 < width < 1e6 and 0 < height < 1e6):
        raise InputError(f"--crop: needs LEFT,TOP,WIDTH,HEIGHT in pixels, got {text!r}.")
    return left, top, width, height


def _background(stored: object, field: Path) -> tuple[float, float, float]:
    """Black where pictures were fitted over random colours."""
    if stored is None:
        return 0.0, 0.0, 0.0
    numbers = stored if isinstance(stored, list) else []
    if len(numbers) != 3 or not all(isinstance(x, int | float) and 0 <= x <= 1 for x in numbers):
        raise InputError(f"{field}: its background needs three numbers in [0, 1], got {stored!r}.")
    return float(numbers[0]), float(numbers[1]), float(numbers[2])
