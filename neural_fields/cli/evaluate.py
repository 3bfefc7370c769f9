"""`nf eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tyro

from neural_fields.cli.output import emit_json, say


def evaluate(
    field: tyro.conf.Positional[Path],
    data: Path,
    split: Literal["train", "val", "test"] = "test",
    json: str | None = None,
) -> None:
    """Score a field against photographs: PSNR and SSIM per view and on average.

    The protocol (background, alpha, scale, split rule) is the one stored in the field.

    Args:
        field: a .nf file.
        data: the data set it was fitted to.
        split: which images.
        json: write the scores as JSON to this file, or - for stdout.
    """
    from neural_fields import api

    result = api.evaluate(field, data, split)
    for view in result["views"]:
        say(f"{view['name']:>24}  {view['psnr']:6.2f} dB  ssim {view['ssim']:.4f}", json)
    say(
        f"{'mean of ' + str(result['n_views']):>24}  {result['psnr']:6.2f} dB  "
        f"ssim {result['ssim']:.4f}   ({result['seconds']:.1f} s)",
        json,
    )
    say("protocol: " + ", ".join(f"{k} {v}" for k, v in result["protocol"].items()), json)
    emit_json(json, result)
