"""`nf compress` and `nf decompress`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from neural_fields.cli.output import Bar, emit_json, say
from neural_fields.errors import InputError


def compress(
    video: tyro.conf.Positional[Path],
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    bpp: float | None = None,
    psnr: float | None = None,
    seconds: float | None = None,
    steps: int | None = None,
    workers: int | None = None,
    downscale: int = 1,
    field: Literal["pyramid", "ffnerv"] = "pyramid",
    modulate: Literal["none", "time"] | None = None,
    quantiser: Literal["step", "tanh"] = "step",
    bits: int = 8,
    seed: int = 0,
    json: str | None = None,
) -> int:
    """Compress a video to a small file that is a field: MP4, MKV, MOV, WebM and what FFmpeg reads.

    With neither --seconds nor --steps it fits for 3 minutes; more is better. Ctrl-C writes a whole,
    coarser file. Frames become 8-bit RGB; sound is left out.

    Args:
        video: the video.
        output: the .nfv file to write.
        bpp: bits per pixel that the file is to have.
        psnr: dB that frames are to have, in place of --bpp.
        seconds: of fitting, without loading.
        steps: of fitting each group of pictures; such a run repeats bit for bit.
        workers: processes that fit groups at the same time; if not given one per processor.
        downscale: box-average the frames by this factor.
        field: what the file holds: pyramid, grids that decode fast and in parts, or ffnerv, a
            convolutional network that makes whole frames.
        modulate: modulation of the network's channels by time, or none (time for ffnerv, none for
            pyramid, whose grids change with time themselves).
        quantiser: how entries of grids, or weights, become whole numbers: a learnt step, or tanh
            as published.
        bits: of the largest such number, 4 to 8.
        seed: of every random choice.
        json: write the summary as JSON to this file, or - for stdout.
    """
    from neural_fields.codec.encoder import SECONDS, CompressProgress
    from neural_fields.codec.encoder import compress as run

    bar = Bar(100.0, "%")
    done: dict[int, float] = {}  # share of each group

    def load(data: Any) -> None:
        n, height, width = data.frames.shape[:3]
        say(f"{n} frames of {width}x{height}, {float(data.fps):.4g} per second", json)
        for note in data.notes:
            say(note, json)
        if steps is None:
            say(f"fitting takes {(seconds or SECONDS) / 60:.1f} min", json)

    def progress(at: CompressProgress) -> None:
        done[at.group.group] = at.group.share
        group = f"group {at.group.group + 1} of {at.n_groups}, " if at.n_groups > 1 else ""
        share = sum(done.values()) / at.n_groups
        bar.update(100 * share, f"{group}psnr {at.group.psnr:.2f} dB, {at.group.bpp:.4f} bpp")

    result = run(
        video,
        output,
        bpp=bpp,
        psnr=psnr,
        seconds=seconds,
        steps=steps,
        workers=workers,
        downscale=downscale,
        field=field,
        modulate=modulate,
        quantiser=quantiser,
        bits=bits,
        seed=seed,
        on_load=load,
        on_progress=progress,
    )
    bar.close()
    state = "stopped early" if result["interrupted"] else "done"
    say(
        f"{state}: {result['bytes']} bytes, {result['bpp']:.4f} bits per pixel, "
        f"{result['psnr']:.2f} dB, in {result['seconds']:.0f} s",
        json,
    )
    say(f"wrote {output}", json)
    say(f"look at it:  nf decompress {output} -o video.mkv", json)
    emit_json(json, result)
    return 130 if result["interrupted"] else 0


def decompress(
    file: tyro.conf.Positional[Path],
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    codec: str = "ffv1",
    first: int = 0,
    last: int | None = None,
    exact: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    json: str | None = None,
) -> None:
    """Write the video of a .nfv file.

    Args:
        file: a .nfv file.
        output: the video to write: .mkv, .mp4, .mov, .avi or .webm by its name, as far as the
            container takes the codec.
        codec: of the video, as FFmpeg names it: ffv1 keeps all pixels; libx264, libx265 and others
            are smaller.
        first: first frame that is written.
        last: last frame that is written; if not given the last there is.
        exact: compute on the portable path instead of this processor's fastest.
        json: write a summary as JSON to this file, or - for stdout.
    """
    from neural_fields.codec.decoder import CodedVideo, exactly
    from neural_fields.codec.writer import write_video

    with exactly() if exact else nullcontext(), CodedVideo(file) as video:
        end = len(video) - 1 if last is None else last
        if not 0 <= first <= end < len(video):
            raise InputError(
                f"--first, --last: need 0 to {len(video) - 1} in this order, got {first} and {end}."
            )
        bar = Bar(end - first + 1, "frames")
        write_video(video, output, codec, range(first, end + 1), lambda n: bar.update(n))
        bar.close()
    say(f"wrote {output} ({end - first + 1} frames)", json)
    emit_json(json, {"output": str(output), "frames": end - first + 1, "codec": codec})
