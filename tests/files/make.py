"""Makes the stored file of the present format version; run it when FORMAT_VERSION rises.

python tests/files/make.py tests/files/radiance_v6.nf
"""

import sys

import torch

from neural_fields.architectures.hash import Hash
from neural_fields.decoders import Head
from neural_fields.fields import RadianceConfig, RadianceField, Sampling
from neural_fields.fields.load import save


def field():
    config = RadianceConfig(
        box=((-1.0, -2.0, 0.0), (1.0, 0.0, 3.0)),
        architecture=Hash(log2_table_size=6, base_resolution=4, finest_resolution=16, hidden=(16,)),
        head=Head(hidden=(16,)),
        sampling=Sampling(step=0.1, max_step=0.1, resolution=8),
    )
    made = RadianceField(config, seed=5)
    with torch.no_grad():
        made.trunk.encoding.table.mul_(1e4)
        made.occupancy[1::2] = 0
    return made


if __name__ == "__main__":
    save(
        field(),
        sys.argv[1],
        scene={"box": [[-1, -2, 0], [1, 0, 3]], "background": [1.0, 1.0, 1.0]},
        protocol={"background": "white", "downscale": 1},
        provenance={"seed": 5},
        metrics={"psnr_train": 12.5},
    )
