"""`nf fit nerf`, `nf fit surface`, `nf fit dynamic`, `nf fit sdf` and `nf fit image`."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from neural_fields.cli.output import Bar, emit_json, named_value, say
from neural_fields.cli.watching import Watch
from neural_fields.errors import InputError, unknown_value

if TYPE_CHECKING:
    from neural_fields.architectures import Kind
    from neural_fields.fit import Progress, Run

_KEYS: dict[str, tuple[type, ...]] = {
    "field": (str,),
    "preset": (str,),
    "modulate": (str,),
    "precision": (str,),
    "bits": (int,),
    "fresh": (bool,),
    "seconds": (int, float),
    "steps": (int,),
    "seed": (int,),
    "downscale": (int,),
    "training": (dict,),
}
_SDF_KEYS = {key: kinds for key, kinds in _KEYS.items() if key != "downscale"}
_NERF_KEYS: dict[str, tuple[type, ...]] = {**_KEYS, "background": (str, list)}
_VIDEO_KEYS: dict[str, tuple[type, ...]] = {
    **_KEYS,
    "motion": (bool,),
}
_DYNAMIC_KEYS = {key: kinds for key, kinds in _NERF_KEYS.items() if key != "fresh"}
_SURFACE_KEYS = {**_DYNAMIC_KEYS, "density": (str,), "masks": (str,)}
_BACKGROUNDS = ("white", "black", "random", "auto", "R,G,B")


def fit_nerf(
    data: tyro.conf.Positional[Path],
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    field: str | None = None,
    preset: str | None = None,
    modulate: str | None = None,
    precision: str | None = None,
    bits: int | None = None,
    fresh: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    background: str | None = None,
    seconds: float | None = None,
    steps: int | None = None,
    device: str = "auto",
    backend: str = "native",
    seed: int | None = None,
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    config: Path | None = None,
    downscale: int | None = None,
    save_every: float = 60.0,
    viewer: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    viewer_port: int = 7007,
    json: str | None = None,
) -> int:
    """Fit a radiance field to posed photographs.

    With neither --seconds nor --steps it trains for 60 seconds. Options: defaults, then the
    preset, then --config, then flags.

    Args:
        data: folder with transforms_train.json (Blender) or transforms.json (nerfstudio,
            instant-ngp).
        output: the .nf file to write; OUT.ckpt.nf beside it is what --resume goes on from.
        field: architecture (hash); docs/architectures.md compares them. Or FILE.json: encoding and
            network as tiny-cuda-nn's configurations have them.
        preset: default (a minute on two cores), or a size of the architecture's own, such as ngp
            and ngp16 of hash.
        modulate: none, xyz, direction, direction-trunk or camera: coordinate-aware modulation of
            the hidden layers by position, of the colour network's by viewing direction, of the
            trunk's by it, whose density then depends on the view, or of the colour network's by
            photograph, where they differ in light or exposure.
        precision: of the networks: float32, or bf16, which trains faster on processors that
            multiply it and rounds (see docs/ops/mlp.md for what that costs).
        bits: of a kept weight: 32, or 8, which trains with rounded weights and keeps a byte of
            each, for small files.
        fresh: let FreSh choose the architecture's frequencies before training (nf fresh shows how);
            its time counts as trained.
        background: white, black, random or R,G,B that pictures are scored over; images with alpha
            are white unless told otherwise. Images without alpha are taken as showing that colour
            behind all things, where one is named.
        seconds: trained seconds, without loading.
        steps: number of steps; such a run repeats bit for bit.
        device: cpu, cuda, cuda:1 and so on, or auto: a GPU where one can be used (nf doctor says).
        backend: what computes hash grids and networks on a GPU: native, or tcnn where
            tiny-cuda-nn's package is installed.
        seed: of every random choice (0).
        resume: go on from the checkpoint to the same total.
        config: TOML file with field, preset, modulate, precision, bits, background, fresh, seconds,
            steps, seed and downscale, and a table [training].
        downscale: box-average the photographs by this factor (1).
        save_every: trained seconds between checkpoints.
        viewer: show the run in a browser: watch, pause, save.
        viewer_port: where; the next free one where it is taken, 0 for any.
        json: write the summary as JSON to this file, or - for stdout.
    """
    from neural_fields import fit

    place: dict[str, Any] = {"device": device, "backend": backend}
    flags = {
        "field": field,
        "preset": preset,
        "modulate": modulate,
        "precision": precision,
        "bits": bits,
        "fresh": fresh or None,
        "background": background,
        "seconds": seconds,
        "steps": steps,
        "seed": seed,
        "downscale": downscale,
    }
    chosen = _merged(config, flags, _NERF_KEYS)
    _check_background(chosen.get("background"))
    view = _View("radiance", chosen, json)
    with Watch(viewer, viewer_port, output, view.start_nerf, view.progress, json) as watch:
        calls = {**watch.calls, "on_choice": view.choice, **chosen}
        run = fit.nerf(data, output, resume=resume, save_every=save_every, **place, **calls)
        return view.finish(run, data, watch)


def fit_surface(
    data: tyro.conf.Positional[Path],
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    field: str | None = None,
    preset: str | None = None,
    modulate: str | None = None,
    precision: str | None = None,
    bits: int | None = None,
    density: str | None = None,
    masks: str | None = None,
    background: str | None = None,
    seconds: float | None = None,
    steps: int | None = None,
    device: str = "auto",
    seed: int | None = None,
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    config: Path | None = None,
    downscale: int | None = None,
    save_every: float = 60.0,
    viewer: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    viewer_port: int = 7007,
    json: str | None = None,
) -> int:
    """Fit a surface with colours, a signed distance field, to posed photographs.

    nf export makes a mesh of it; it renders, is scored, viewed and converted like a radiance field.
    With neither --seconds nor --steps it trains for 60 seconds. Options: defaults, then the preset,
    then --config, then flags.

    Args:
        data: folder as of nf fit nerf; alpha or masks of the object help where there are any.
        output: the .nf file to write; OUT.ckpt.nf beside it is what --resume goes on from.
        field: architecture (hash); docs/architectures.md compares them. Or FILE.json: encoding and
            network as tiny-cuda-nn's configurations have them.
        preset: default, or a size of the architecture's own.
        modulate: none, xyz, direction, direction-trunk or camera: coordinate-aware modulation of
            hidden layers.
        precision: of the networks: float32, or bf16, which rounds.
        bits: of a kept weight: 32, or 8, which trains with rounded weights and keeps a byte of
            each, for small files.
        density: what is made of distances: volsdf, or neus (docs/surfaces.md compares them).
        masks: what mask files say: which pixels to use, or where the object is.
        background: white, black, random or R,G,B that pictures are scored over; images with alpha
            are white unless told otherwise. Images without alpha are taken as showing that colour
            behind all things, where one is named.
        seconds: trained seconds, without loading.
        steps: number of steps; such a run repeats bit for bit.
        device: cpu, cuda, cuda:1 and so on, or auto: a GPU where one can be used (nf doctor says).
        seed: of every random choice (0).
        resume: go on from the checkpoint to the same total.
        config: TOML file with field, preset, modulate, precision, bits, density, masks, background,
            seconds, steps, seed and downscale, and a table [training], such as slopes =
            "numerical".
        downscale: box-average the photographs by this factor (1).
        save_every: trained seconds between checkpoints.
        viewer: show the run in a browser: watch, pause, save.
        viewer_port: where; the next free one where it is taken, 0 for any.
        json: write the summary as JSON to this file, or - for stdout.
    """
    from neural_fields import fit

    flags = {
        "field": field,
        "preset": preset,
        "modulate": modulate,
        "precision": precision,
        "bits": bits,
        "density": density,
        "masks": masks,
        "background": background,
        "seconds": seconds,
        "steps": steps,
        "seed": seed,
        "downscale": downscale,
    }
    chosen = _merged(config, flags, _SURFACE_KEYS)
    _check_background(chosen.get("background"))
    view = _View("radiance", chosen, json)
    with Watch(viewer, viewer_port, output, view.start_nerf, view.progress, json) as watch:
        calls = {**watch.calls, **chosen}
        run = fit.surface(
            data, output, resume=resume, save_every=save_every, device=device, **calls
        )
        return view.finish(run, data, watch)


def fit_dynamic(
    data: tyro.conf.Positional[Path],
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    field: str | None = None,
    preset: str | None = None,
    modulate: str | None = None,
    precision: str | None = None,
    bits: int | None = None,
    background: str | None = None,
    seconds: float | None = None,
    steps: int | None = None,
    device: str = "auto",
    backend: str = "native",
    seed: int | None = None,
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    config: Path | None = None,
    downscale: int | None = None,
    save_every: float = 60.0,
    viewer: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    viewer_port: int = 7007,
    json: str | None = None,
) -> int:
    """Fit a radiance field that moves to posed photographs of different times.

    The field sees time beside positions, or rests behind a network that moves positions with time,
    by its architecture. With neither --seconds nor --steps it trains for 60 seconds. Options:
    defaults, then the preset, then --config, then flags.

    Args:
        data: folder as of nf fit nerf, whose frames have a time in [0, 1] (the layout of D-NeRF).
        output: the .nf file to write; OUT.ckpt.nf beside it is what --resume goes on from.
        field: architecture (hash); docs/architectures.md compares them. Or FILE.json: encoding and
            network as tiny-cuda-nn's configurations have them.
        preset: default, or a size of the architecture's own; nerf of mlp is T-NeRF.
        modulate: none, time (the default of architectures that do not see time themselves), xyz,
            direction, direction-trunk or camera: coordinate-aware modulation of hidden layers.
        precision: of the networks: float32, or bf16, which trains faster on processors that
            multiply it and rounds.
        bits: of a kept weight: 32, or 8, which trains with rounded weights and keeps a byte of
            each, for small files.
        background: white, black, random or R,G,B that pictures are scored over; images with alpha
            are white unless told otherwise. Images without alpha are taken as showing that colour
            behind all things, where one is named.
        seconds: trained seconds, without loading.
        steps: number of steps; such a run repeats bit for bit.
        device: cpu, cuda, cuda:1 and so on, or auto: a GPU where one can be used (nf doctor says).
        backend: what computes hash grids and networks on a GPU: native, or tcnn where
            tiny-cuda-nn's package is installed.
        seed: of every random choice (0).
        resume: go on from the checkpoint to the same total.
        config: TOML file with field, preset, modulate, precision, bits, background, seconds, steps,
            seed and downscale, and a table [training].
        downscale: box-average the photographs by this factor (1).
        save_every: trained seconds between checkpoints.
        viewer: show the run in a browser: watch, play, pause, save.
        viewer_port: where; the next free one where it is taken, 0 for any.
        json: write the summary as JSON to this file, or - for stdout.
    """
    from neural_fields import fit

    place: dict[str, Any] = {"device": device, "backend": backend}
    flags = {
        "field": field,
        "preset": preset,
        "modulate": modulate,
        "precision": precision,
        "bits": bits,
        "background": background,
        "seconds": seconds,
        "steps": steps,
        "seed": seed,
        "downscale": downscale,
    }
    chosen = _merged(config, flags, _DYNAMIC_KEYS)
    _check_background(chosen.get("background"))
    view = _View("radiance", chosen, json)
    with Watch(viewer, viewer_port, output, view.start_nerf, view.progress, json) as watch:
        calls = {**watch.calls, **chosen}
        run = fit.dynamic(data, output, resume=resume, save_every=save_every, **place, **calls)
        return view.finish(run, data, watch)


def fit_image(
    data: tyro.conf.Positional[Path],
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    field: str | None = None,
    preset: str | None = None,
    modulate: str | None = None,
    precision: str | None = None,
    bits: int | None = None,
    fresh: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    seconds: float | None = None,
    steps: int | None = None,
    device: str = "auto",
    backend: str = "native",
    seed: int | None = None,
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    config: Path | None = None,
    downscale: int | None = None,
    save_every: float = 60.0,
    viewer: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    viewer_port: int = 7007,
    json: str | None = None,
) -> int:
    """Fit an image field to a picture: PNG, JPEG, EXR, HDR, TIFF, 8 or 16 bits or floats.

    With neither --seconds nor --steps it trains for 20 seconds, deep networks for 180. Options:
    defaults, then the preset, then --config, then flags.

    Args:
        data: the picture.
        output: the .nf file to write; OUT.ckpt.nf beside it is what --resume goes on from.
        field: architecture (hash); docs/architectures.md compares them. Or FILE.json: encoding and
            network as tiny-cuda-nn's configurations have them.
        preset: default, or a size of the architecture's own.
        modulate: none or xy: coordinate-aware modulation of the hidden layers by position.
        precision: of the networks: float32, or bf16, which trains faster on processors that
            multiply it and rounds.
        bits: of a kept weight: 32, or 8, which trains with rounded weights and keeps a byte of
            each, for small files.
        fresh: let FreSh choose the architecture's frequencies before training (nf fresh shows how);
            its time counts as trained.
        seconds: trained seconds, without loading.
        steps: number of steps; such a run repeats bit for bit.
        device: cpu, cuda, cuda:1 and so on, or auto: a GPU where one can be used (nf doctor says).
        backend: what computes hash grids and networks on a GPU: native, or tcnn where
            tiny-cuda-nn's package is installed.
        seed: of every random choice (0).
        resume: go on from the checkpoint to the same total.
        config: TOML file with field, preset, modulate, precision, bits, fresh, seconds, steps, seed
            and downscale, and a table [training].
        downscale: box-average the picture by this factor (1).
        save_every: trained seconds between checkpoints.
        viewer: show the run in a browser: watch, pause, save.
        viewer_port: where; the next free one where it is taken, 0 for any.
        json: write the summary as JSON to this file, or - for stdout.
    """
    from neural_fields import fit

    place: dict[str, Any] = {"device": device, "backend": backend}
    flags = {
        "field": field,
        "preset": preset,
        "modulate": modulate,
        "precision": precision,
        "bits": bits,
        "fresh": fresh or None,
        "seconds": seconds,
        "steps": steps,
        "seed": seed,
        "downscale": downscale,
    }
    chosen = _merged(config, flags, _KEYS)
    view = _View("image", chosen, json)
    with Watch(viewer, viewer_port, output, view.start_image, view.progress, json) as watch:
        calls = {**watch.calls, "on_choice": view.choice, **chosen}
        run = fit.image(data, output, resume=resume, save_every=save_every, **place, **calls)
        return view.finish(run, data, watch)


def fit_video(
    data: tyro.conf.Positional[Path],
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    field: str | None = None,
    preset: str | None = None,
    modulate: str | None = None,
    precision: str | None = None,
    bits: int | None = None,
    fresh: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    no_motion: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    seconds: float | None = None,
    steps: int | None = None,
    device: str = "auto",
    seed: int | None = None,
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    config: Path | None = None,
    downscale: int | None = None,
    save_every: float = 60.0,
    json: str | None = None,
) -> int:
    """Fit a video field to a video: MP4, MKV, MOV, WebM and what else FFmpeg reads.

    With neither --seconds nor --steps it trains for 3 minutes. Options: defaults, then the preset,
    then --config, then flags.

    Args:
        data: the video; sound is left out.
        output: the .nf file to write; OUT.ckpt.nf beside it is what --resume goes on from.
        field: architecture (pyramid), or ffnerv, a convolutional network that makes whole frames;
            docs/video.md says what suits videos. Or FILE.json: encoding and network as
            tiny-cuda-nn's configurations have them.
        preset: default, or a size of the architecture's own, such as paper of ffnerv.
        modulate: none or time: coordinate-aware modulation of the hidden layers by time (time for
            pyramid and ffnerv, none for others).
        precision: of the networks: float32, or bf16, which trains faster on processors that
            multiply it and rounds.
        bits: of a kept weight: 32, or 8, which trains with rounded weights and keeps a byte of
            each, for small files.
        fresh: let FreSh choose the architecture's frequencies and how fast time runs before
            training (nf fresh shows how); the time counts.
        no_motion: do not let positions move with time, as estimated from the frames at first.
        seconds: trained seconds, without loading.
        steps: number of steps; such a run repeats bit for bit.
        device: cpu, cuda, cuda:1 and so on, or auto: a GPU where one can be used (nf doctor says).
        seed: of every random choice (0).
        resume: go on from the checkpoint to the same total.
        config: TOML file with field, preset, modulate, precision, bits, fresh, motion, seconds,
            steps, seed and downscale, and a table [training].
        downscale: box-average the frames by this factor (1).
        save_every: trained seconds between checkpoints.
        json: write the summary as JSON to this file, or - for stdout.
    """
    from neural_fields import fit

    flags = {
        "field": field,
        "preset": preset,
        "modulate": modulate,
        "precision": precision,
        "bits": bits,
        "fresh": fresh or None,
        "motion": False if no_motion else None,
        "seconds": seconds,
        "steps": steps,
        "seed": seed,
        "downscale": downscale,
    }
    chosen = _merged(config, flags, _VIDEO_KEYS)
    view = _View("video", chosen, json)
    with Watch(False, 0, output, view.start_video, view.progress, json) as watch:
        calls = {**watch.calls, "on_load": view.load_video, "on_choice": view.choice, **chosen}
        run = fit.video(data, output, resume=resume, save_every=save_every, device=device, **calls)
        return view.finish(run, data, watch)


def fit_sdf(
    data: tyro.conf.Positional[Path],
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    field: str | None = None,
    preset: str | None = None,
    modulate: str | None = None,
    precision: str | None = None,
    bits: int | None = None,
    fresh: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    seconds: float | None = None,
    steps: int | None = None,
    device: str = "auto",
    backend: str = "native",
    seed: int | None = None,
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    config: Path | None = None,
    save_every: float = 60.0,
    viewer: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    viewer_port: int = 7007,
    json: str | None = None,
) -> int:
    """Fit a signed distance field to a mesh or an oriented point cloud.

    With neither --seconds nor --steps it trains for 60 seconds. Options: defaults, then the
    preset, then --config, then flags.

    Args:
        data: OBJ, PLY, STL, GLB or OFF, at any place and size, watertight or not; or a PLY of
            points with normals, whose surface is found first.
        output: the .nf file to write; OUT.ckpt.nf beside it is what --resume goes on from.
        field: architecture (hash); docs/architectures.md compares them. Or FILE.json: encoding and
            network as tiny-cuda-nn's configurations have them.
        preset: default, or a size of the architecture's own.
        modulate: none or xyz: coordinate-aware modulation of the hidden layers by position.
        precision: of the networks: float32, or bf16, which trains faster on processors that
            multiply it and rounds.
        bits: of a kept weight: 32, or 8, which trains with rounded weights and keeps a byte of
            each, for small files.
        fresh: let FreSh choose the architecture's frequencies before training (nf fresh shows how);
            its time counts as trained.
        seconds: trained seconds, without loading and without computing distances.
        steps: number of steps; such a run repeats bit for bit.
        device: cpu, cuda, cuda:1 and so on, or auto: a GPU where one can be used (nf doctor says).
        backend: what computes hash grids and networks on a GPU: native, or tcnn where
            tiny-cuda-nn's package is installed.
        seed: of every random choice (0).
        resume: go on from the checkpoint to the same total.
        config: TOML file with field, preset, modulate, precision, bits, fresh, seconds, steps and
            seed, and a table [training].
        save_every: trained seconds between checkpoints.
        viewer: show the run in a browser: watch, pause, save.
        viewer_port: where; the next free one where it is taken, 0 for any.
        json: write the summary as JSON to this file, or - for stdout.
    """
    from neural_fields import fit

    place: dict[str, Any] = {"device": device, "backend": backend}
    flags = {
        "field": field,
        "preset": preset,
        "modulate": modulate,
        "precision": precision,
        "bits": bits,
        "fresh": fresh or None,
        "seconds": seconds,
        "steps": steps,
        "seed": seed,
    }
    chosen = _merged(config, flags, _SDF_KEYS)
    view = _View("sdf", chosen, json)
    with Watch(viewer, viewer_port, output, view.start_sdf, view.progress, json) as watch:
        calls = {**watch.calls, "on_choice": view.choice, "on_load": view.load_sdf, **chosen}
        run = fit.sdf(data, output, resume=resume, save_every=save_every, **place, **calls)
        return view.finish(run, data, watch)


def _merged(
    config: Path | None, flags: dict[str, Any], keys: dict[str, tuple[type, ...]]
) -> dict[str, Any]:
    """The file's values with the flags that were given on top, as `fit` takes them."""
    flags = {key: value for key, value in flags.items() if value is not None}
    values: dict[str, Any] = {}
    if config is not None:
        try:
            values = tomllib.loads(config.read_text())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InputError(f"--config {config}: needs a readable TOML file ({error}).") from error
        for key, value in values.items():
            if key not in keys:
                raise InputError(unknown_value(f"--config {config}", key, [*keys]))
            allowed = keys[key]
            if isinstance(value, bool) != (bool in allowed) or not isinstance(value, allowed):
                wanted = " or ".join(kind.__name__ for kind in allowed)
                raise InputError(f"--config {config}: {key} needs {wanted}, got {value!r}.")
    if "steps" in flags or "seconds" in flags:  # a flag replaces the file's budget, whichever
        values.pop("steps", None)
        values.pop("seconds", None)
    options = values.pop("training", {})
    chosen = {**values, **flags, "options": options}
    if "field" in chosen:
        from neural_fields.decoders.frames import FrameNetwork
        from neural_fields.training.tcnn import chosen_field

        also = (FrameNetwork.name,) if keys is _VIDEO_KEYS else ()
        chosen["field"] = chosen_field(chosen["field"], also)
    return chosen


def _check_background(value: Any) -> None:
    """Name the nearest word; three numbers are checked where the data are read."""
    if isinstance(value, str) and "," not in value and value not in _BACKGROUNDS:
        raise InputError(unknown_value("--background", value, _BACKGROUNDS))


class _View:
    """What a person sees of a run."""

    def __init__(self, kind: Kind, chosen: dict[str, Any], json: str | None) -> None:
        from neural_fields.fit import default_seconds
        from neural_fields.training.tcnn import TcnnConfig

        self._json = json
        self._steps = chosen.get("steps")
        field = chosen.get("field", "pyramid" if kind == "video" else "hash")
        usual = default_seconds(kind, field, chosen.get("preset", "default"))
        self._seconds = None if self._steps is not None else chosen.get("seconds") or usual
        self._bar: Bar | None = None
        if chosen.get("fresh"):
            say("choosing frequencies", json)
        self._note = field.note if isinstance(field, TcnnConfig) else ""

    def start_nerf(self, trainer: Any, data: Any) -> None:
        height, width = data.images.shape[1:3]
        self._start(
            trainer, f"{len(data)} training images of {width}x{height}, box from {data.box_rule}"
        )
        if data.skipped:
            say(f"{len(data.skipped)} listed images do not exist and were skipped.", self._json)

    def start_image(self, trainer: Any, data: Any) -> None:
        height, width, channels = data.pixels.shape
        bits = f"{data.bits} bits" if data.bits < 32 else "floats"
        self._start(trainer, f"{width}x{height} pixels, {channels} channels of {bits}")

    def load_sdf(self, data: Any) -> None:
        size = " x ".join(f"{side:.4g}" for side in (data.box[1] - data.box[0]).tolist())
        source = "a surface found from points, " if data.origin == "points" else ""
        say(f"{source}{len(data.faces)} triangles in a box of {size}", self._json)
        say("computing distances", self._json)

    def start_sdf(self, trainer: Any, data: Any) -> None:
        self._start(trainer, f"inside by the {trainer.sign}")

    def load_video(self, data: Any) -> None:
        n, height, width = data.frames.shape[:3]
        say(f"{n} frames of {width}x{height}, {float(data.fps):.4g} per second", self._json)

    def start_video(self, trainer: Any, data: Any) -> None:
        margin = getattr(trainer.field.config, "margin", None)
        moves = "" if margin is None else f"motion over {margin[0]}x{margin[1]} pixels at most"
        self._start(trainer, moves)

    def choice(self, record: dict[str, Any]) -> None:
        """Say what FreSh chose."""
        say(
            f"{record['parameter']} {named_value(record['value'])} instead of "
            f"{named_value(record['default'])}: {record['reason']} ({record['seconds']:.1f} s)"
            if record["value"] != record["default"]
            else f"{record['parameter']} stays {named_value(record['value'])}: {record['reason']}"
            f" ({record['seconds']:.1f} s)",
            self._json,
        )

    def _start(self, trainer: Any, data: str) -> None:
        say(
            f"{data}; {trainer.field.architecture} field of "
            f"{trainer.field.n_params / 1e6:.2f}M parameters",
            self._json,
        )
        if self._note:
            say(self._note, self._json)
        if self._seconds is not None:
            say(f"training takes {self._seconds / 60:.1f} min", self._json)
            self._bar = Bar(self._seconds, "s")
        else:
            self._bar = Bar(float(self._steps or 0), "steps")

    def progress(self, at: Progress) -> None:
        assert self._bar is not None
        done = at.moment.seconds if self._seconds is not None else at.moment.step
        note = f"psnr {at.psnr:.2f} dB, {at.samples_per_s / 1e6:.2f} M samples/s"
        if at.moment.step == 10 and self._seconds is None and self._steps:
            minutes = at.moment.seconds / 10 * self._steps / 60
            say(f"training takes about {minutes:.1f} min", self._json)
        self._bar.update(done, note)

    def finish(self, run: Run, data: Path, watch: Watch) -> int:
        """Say what was written and how to look at it; stay while it is watched; the exit code."""
        if self._bar is not None:
            self._bar.close()
        summary = run.summary
        state = "stopped early" if run.interrupted else "done"
        say(
            f"{state}: {summary['steps']} steps in {summary['seconds']:.1f} s, "
            f"{summary['psnr_train']:.2f} dB on training samples",
            self._json,
        )
        say(f"wrote {run.output}", self._json)
        if run.interrupted:
            say("go on with the same command and --resume", self._json)
        else:
            look = {
                "dynamic": "render {} -o turn.mp4 --orbit 90",
                "radiance": "render {} -o turn.mp4 --orbit 90",
                "image": "render {} -o picture.png",
                "sdf": "render {} -o turn.mp4 --orbit 90",
                "surface": "export {} -o mesh.ply",
                "video": "render {} -o video.mp4",
                "frames": "render {} -o video.mp4",
            }[summary["kind"]]
            say(f"score it:    nf eval {run.output} --data {data}", self._json)
            say(f"look at it:  nf {look.format(run.output)}", self._json)
        emit_json(self._json, summary)
        watch.stay(run)
        return 130 if run.interrupted else 0
