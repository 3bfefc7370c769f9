"""`nf report`: what a field has learnt, on one page that needs no other file."""

from __future__ import annotations

import os
import platform
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from neural_fields.cli.output import Bar, emit_json, say
from neural_fields.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from neural_fields.data.dataset import Dataset
    from neural_fields.fields import FieldFile, RadianceField
    from neural_fields.rendering.volume import Rendered
    from neural_fields.viewer.report_page import ViewRow

ERROR_SCALE = 0.2  # mean absolute difference that the last colour of the error map stands for
_TURN_SIDE, _TURN_FPS = 320, 24.0


def report(
    field: tyro.conf.Positional[Path],
    data: Path,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    split: Literal["train", "val", "test"] = "test",
    views: int = 4,
    orbit: int = 72,
    json: str | None = None,
) -> None:
    """Write one HTML file with a field's scores, views, errors, training curve and turntable.

    The scores are those of nf eval. The file needs no network and no other file.

    Args:
        field: a .nf file.
        data: the data set it was fitted to.
        output: the .html file to write.
        split: which images.
        views: how many of them are shown; all are scored.
        orbit: frames of the turntable; 0 for none.
        json: write the scores as JSON to this file, or - for stdout.
    """
    words = ["nf", "report", str(field), "--data", str(data), "-o", str(output)]
    bar: Bar | None = None

    def progress(done: int, total: int) -> None:
        nonlocal bar
        bar = bar or Bar(total, "pictures")
        bar.update(done)

    scores = write_report(
        field,
        data,
        output,
        split=split,
        views=views,
        orbit=orbit,
        command=shlex.join(words),
        progress=progress,
    )
    if bar is not None:
        bar.close()
    say(
        f"{scores['psnr']:.2f} dB, ssim {scores['ssim']:.4f} over {scores['n_views']} views",
        json,
    )
    say(f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB); open it in a browser", json)
    emit_json(json, {**scores, "output": str(output)})


def write_report(
    field: Path,
    data: Path,
    output: Path,
    *,
    split: str = "test",
    views: int = 4,
    orbit: int = 72,
    command: str,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Score a field and write the page.

    Args:
        field: a .nf file.
        data: the data set it was fitted to.
        output: the .html file to write.
        split: which images.
        views: how many are shown.
        orbit: frames of the turntable; 0 for none.
        command: what the page says made it.
        progress: called with (pictures done, pictures in all).

    Returns:
        The scores, as `nf eval` gives them.

    Raises:
        InputError: file, data or output are at fault.
    """
    from neural_fields.api import load_for
    from neural_fields.fields import read_field_file
    from neural_fields.fields.file import write_atomically
    from neural_fields.fields.load import build_radiance
    from neural_fields.viewer import report_page as page

    _check(output, views, orbit)
    content = read_field_file(field)
    radiance = build_radiance(content, field)
    images = load_for(content.protocol, data, split, radiance)
    total = len(images) + orbit

    def advance(done: int) -> None:
        if progress is not None:
            progress(done, total)

    scores, rows = _scored(radiance, images, views, advance)
    video, missing = _turntable(content, radiance, orbit, lambda done: advance(len(images) + done))
    text = page.html(
        page.Report(
            title=field.stem,
            command=command,
            again=shlex.join(["nf", "eval", str(field), "--data", str(data), "--split", split]),
            content=content,
            n_params=radiance.n_params,
            n_bytes=field.stat().st_size,
            scores=scores,
            rows=rows,
            error_scale=ERROR_SCALE,
            video=video,
            no_video=missing,
            machine=_machine(),
        )
    )
    write_atomically(output, text.encode())
    return scores


def _check(output: Path, views: int, orbit: int) -> None:
    if output.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"-o {output}: needs a name that ends in .html.")
    if not output.parent.is_dir() or not os.access(output.parent, os.W_OK):
        raise InputError(f"-o {output}: its folder does not exist or is not writable.")
    if views < 1:
        raise InputError(f"--views: needs at least 1, got {views}.")
    if orbit < 0:
        raise InputError(f"--orbit: needs 0 or more frames, got {orbit}.")


def _scored(
    field: RadianceField, images: Dataset, n_rows: int, advance: Callable[[int], None]
) -> tuple[dict[str, Any], list[ViewRow]]:
    """The scores of all views, and evenly spread ones as pictures."""
    from neural_fields import api
    from neural_fields.training.evaluate import evaluate
    from neural_fields.viewer import report_figures as figures
    from neural_fields.viewer.report_page import ViewRow

    n_rows = min(n_rows, len(images))
    shown = {len(images) * row // n_rows for row in range(n_rows)}
    drawn: dict[int, dict[str, Any]] = {}

    def on_view(index: int, picture: Tensor, truth: Tensor, _rendered: Rendered) -> None:
        if index in shown:
            depth = api.render(field, images.cameras, index, mode="depth")
            normal = api.render(field, images.cameras, index, mode="normal")
            depth_picture, depth_range = figures.depth_picture(depth)
            drawn[index] = {
                "truth": figures.png_uri(truth),
                "ours": figures.png_uri(picture),
                "error": figures.png_uri(figures.error_picture(picture, truth, ERROR_SCALE)),
                "depth": figures.png_uri(depth_picture),
                "normal": figures.png_uri(normal),
                "depth_range": depth_range,
            }
        advance(index + 1)

    scores = evaluate(field, images, on_view)
    return scores, [ViewRow(**scores["views"][index], **drawn[index]) for index in sorted(drawn)]


def _turntable(
    content: FieldFile, field: RadianceField, n: int, advance: Callable[[int], None]
) -> tuple[str | None, str]:
    """A video as an address, or None and the reason why there is none."""
    from neural_fields import api
    from neural_fields.cli.cameras import plan
    from neural_fields.cli.frames import Writer
    from neural_fields.rendering.seen import to_bytes
    from neural_fields.viewer.report_figures import data_uri

    if n == 0:
        return None, "not asked for"
    try:
        path = plan(content, field, n, None, None, "test", None)
        size = _even_size(path.cameras.width, path.cameras.height)
        path = plan(content, field, n, None, None, "test", size)
        background = tuple(content.scene.get("background") or (0.0, 0.0, 0.0))
        with tempfile.TemporaryDirectory() as folder:
            video = Path(folder) / "turn.mp4"
            with Writer(video, _TURN_FPS) as writer:
                for index, name in enumerate(path.names):
                    picture = api.render(field, path.cameras, index, background=background)
                    writer.add(name, to_bytes(picture, "rgb").numpy())
                    advance(index + 1)
            return data_uri("video/mp4", video.read_bytes()), ""
    except InputError as error:
        return None, str(error)


def _even_size(width: int, height: int) -> tuple[int, int]:
    """At most `_TURN_SIDE` pixels, even on both sides, as browsers' videos need."""
    scale = min(1.0, _TURN_SIDE / max(width, height))
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def _machine() -> dict[str, str]:
    from neural_fields import _core

    return {
        "processor": _cpu_model(),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": str(_core.num_threads()),
        "instruction set": _core.active_isa(),
    }


def _cpu_model() -> str:
    """The processor's name; on Linux the one that the kernel states."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
