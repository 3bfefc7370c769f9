"""`nf eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import tyro

from neural_fields.cli.output import emit_json, say


def evaluate(
    field: tyro.conf.Positional[Path],
    data: Path,
    split: Literal["train", "val", "test"] = "test",
    device: str = "auto",
    json: str | None = None,
) -> None:
    """Score a field against what it was fitted to.

    Of photographs and pictures: PSNR and SSIM, by the protocol stored in the field (background,
    alpha, scale, split rule). Of a mesh: IoU at 2^21 points of its box; Chamfer distance, normal
    error and F-score of 10^6 points of either surface, lengths in diagonals of the box. Of a video:
    PSNR and MS-SSIM of 8-bit RGB, means over frames, and bits of the file per pixel.

    Args:
        field: a .nf file.
        data: the data set, picture, mesh or video that it was fitted to.
        split: which images of a data set.
        device: cpu, cuda, cuda:1 and so on, or auto: a GPU where one can be used.
        json: write the scores as JSON to this file, or - for stdout.
    """
    from neural_fields import api

    result = api.evaluate(field, data, split, device)
    if "iou" in result:
        _say_surface(result, json)
    elif "bpp" in result:
        _say_video(result, json)
    else:
        _say_views(result, json)
    say("protocol: " + ", ".join(f"{k} {v}" for k, v in result["protocol"].items()), json)
    emit_json(json, result)


def _say_views(result: dict[str, Any], json: str | None) -> None:
    for view in result["views"]:
        say(f"{view['name']:>24}  {view['psnr']:6.2f} dB  ssim {view['ssim']:.4f}", json)
    say(
        f"{'mean of ' + str(result['n_views']):>24}  {result['psnr']:6.2f} dB  "
        f"ssim {result['ssim']:.4f}   ({result['seconds']:.1f} s)",
        json,
    )


def _say_video(result: dict[str, Any], json: str | None) -> None:
    similar = result["ms_ssim"]
    worst = min(result["views"], key=lambda view: view["psnr"])
    said = "too small for it" if similar is None else f"{similar:.4f}"
    say(f"{'PSNR':>10}  {result['psnr']:.2f} dB, mean of {result['n_views']} frames", json)
    say(f"{'worst':>10}  {worst['psnr']:.2f} dB, {worst['name']}", json)
    say(f"{'MS-SSIM':>10}  {said}", json)
    say(f"{'rate':>10}  {result['bpp']:.4f} bits per pixel   ({result['seconds']:.1f} s)", json)


def _say_surface(result: dict[str, Any], json: str | None) -> None:
    say(f"{'IoU':>16}  {result['iou']:.5f}", json)
    say(f"{'Chamfer':>16}  {result['chamfer']:.3e} diagonals of the box", json)
    say(f"{'normal error':>16}  {result['normal_error_deg']:.2f} degrees", json)
    threshold = result["protocol"]["f_threshold"]
    say(
        f"{'F-score':>16}  {result['f_score']:.4f} within {threshold:g} diagonals"
        f"   ({result['seconds']:.1f} s)",
        json,
    )
