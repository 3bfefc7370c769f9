"""`nf` with networks so small that a run takes seconds: imported by tests, or run as `nf`."""

import sys
from dataclasses import replace

import neural_fields.fit
from neural_fields.architectures.hash import Hash
from neural_fields.cli.main import main
from neural_fields.decoders import Head
from neural_fields.training import presets


def small_setup(data, field="hash", preset="default"):
    config, options = presets.radiance_setup(data, field, preset)
    sampling = config.sampling
    coarser = 128 / (4 * 16)
    return (
        replace(
            config,
            architecture=Hash(
                log2_table_size=12, base_resolution=8, finest_resolution=64, hidden=(32,)
            ),
            head=Head(hidden=(32,)),
            sampling=replace(
                sampling,
                resolution=32,
                step=sampling.step * 2 * coarser,
                max_step=sampling.max_step * 2 * coarser,
            ),
        ),
        replace(options, batch_samples=4096),
    )


def small_dynamic(data, field="hash", preset="default"):
    config, options = presets.dynamic_setup(data, field, preset)
    sizes, training = small_setup(data, field, preset)
    shared = {key: getattr(sizes, key) for key in ("architecture", "head", "sampling")}
    return replace(config, **shared), replace(options, batch_samples=training.batch_samples)


def small_surface(data, field="hash", preset="default"):
    config, options = presets.surface_setup(data, field, preset)
    sizes = Hash(n_levels=4, log2_table_size=14, finest_resolution=64)
    config = replace(config, architecture=sizes, sampling=replace(config.sampling, resolution=32))
    return config, replace(options, batch_samples=4096, places=256)


if __name__ == "__main__":
    neural_fields.fit.photographs.radiance_setup = small_setup
    neural_fields.fit.photographs.dynamic_setup = small_dynamic
    neural_fields.fit.photographs.surface_setup = small_surface
    main(sys.argv[1:])
