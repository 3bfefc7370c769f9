"""`nf fresh`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from neural_fields.cli.output import Bar, emit_json, named_value, say
from neural_fields.errors import InputError

if TYPE_CHECKING:
    from neural_fields.spectra import Choice

_QUICK = 45  # untrained fields that golden sections measure, about


def fresh(
    signal: tyro.conf.Positional[Path],
    field: str = "siren",
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    preset: str = "default",
    modulate: str = "none",
    parameter: str | None = None,
    search: Literal["quick", "all"] = "quick",
    bins: int | None = None,
    seeds: int = 10,
    candidates: tuple[float, ...] = (),
    both_quadrants: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    downscale: int = 1,
    json: str | None = None,
) -> None:
    """Say which frequencies a field should start with for a signal (FreSh).

    Untrained fields with each value of a parameter are compared with the signal: the value whose
    spectra are nearest is the one to fit with. Nothing is trained. nf fit ... --fresh does the same
    before it trains.

    Args:
        signal: a picture, a video, a mesh, or a folder of posed photographs.
        field: architecture, or FILE.json, as for nf fit.
        output: the plot of spectra and distances, .png, .svg or .pdf; by default
            fresh-SIGNAL-FIELD.png in this folder.
        preset: as for nf fit.
        modulate: as for nf fit.
        parameter: which one of the architecture's; by default first_omega of siren and wire, sigma
            of fourier, first_bias of finer, octaves of mlp, the finest level of hash and rbf; of a
            video also tempo, the share of the cube that its time runs over.
        search: quick goes by golden sections at as few samples as it needs; all looks at every
            candidate at all samples.
        bins: cycles per side that are looked at; by default 64 of siren and 128 of others, half of
            that for scenes, 20 for meshes.
        seeds: starts of the field per candidate.
        candidates: values to look at instead of the architecture's, ascending.
        both_quadrants: also count waves that run the other way, which the paper leaves out.
        downscale: box-average pictures or frames by this factor.
        json: write the result as JSON to this file, or - for stdout.
    """
    from neural_fields import api
    from neural_fields.data.kind import data_kind
    from neural_fields.spectra.plot import checked_plot, plot

    path = output or Path(f"fresh-{signal.stem or 'signal'}-{Path(field).stem}.png")
    checked_plot(path)
    if downscale < 1:
        raise InputError(f"--downscale: needs a positive whole number, got {downscale}.")
    total = _QUICK if search == "quick" else seeds * (len(candidates) or 20)
    bar = Bar(total, "fields")
    choice = api.fresh(
        signal,
        field,
        preset=preset,
        modulate=modulate,
        downscale=downscale,
        parameter=parameter,
        search=search,
        n_bins=bins,
        n_seeds=seeds,
        both_quadrants=both_quadrants,
        candidates=candidates or None,
        on_progress=lambda done: bar.update(min(done, total - 1)),
    )
    bar.update(total)
    bar.close()
    _say_choice(choice, json)
    plot(choice, path)
    say(f"wrote {path}", json)
    kind = data_kind(signal)
    if kind == "video" and choice.parameter != "tempo":
        say(f"how fast time runs:  nf fresh {signal} --field {field} --parameter tempo", json)
    say(f"fit with it:  nf fit {kind} {signal} --field {field} --fresh -o ...", json)
    emit_json(json, {**choice.to_dict(), "output": str(path)})


def _say_choice(choice: Choice, json: str | None) -> None:
    say(f"{choice.parameter:>26}  distance, bins  error  starts", json)
    for distance in choice.distances:
        marks = []
        if distance.value == choice.default:
            marks.append("default")
        if distance.value == choice.value:
            marks.append("chosen")
        say(
            f"{named_value(distance.value):>26}  {distance.mean:14.3f}  {distance.error:5.3f}  "
            f"{len(distance.by_seed):6d}  {', '.join(marks)}",
            json,
        )
    say(
        f"{choice.architecture.name}: {choice.parameter} {named_value(choice.value)}; "
        f"{choice.reason} ({choice.n_bins} cycles, {choice.side} samples a side, "
        f"{choice.seconds:.1f} s)",
        json,
    )
