"""Native operations as stateless functions on torch tensors, with their derivatives.

`neural_fields.ops.reference` has the same functions in plain torch: slow, and differentiable to
any order; `use_reference` puts them in place of the native ones, `use_backend` others.
`torch.compile`, `torch.func.grad` and `torch.func.vjp` pass through the native ones; `vmap` and
forward mode raise.
"""

from neural_fields.ops._library import is_replaced, use_backend, use_reference
from neural_fields.ops.adam import Adam, adam_step
from neural_fields.ops.composite import Composited, composite
from neural_fields.ops.devices import chosen_device, device_of, device_text, generator, vector
from neural_fields.ops.distill import SampleLevels, hardest, level_losses, visible_samples
from neural_fields.ops.frame import FrameSpec, Place, Slice, frame, frame_lattice
from neural_fields.ops.frequency import frequency
from neural_fields.ops.fused import (
    RadianceGradients,
    RadianceParams,
    RadianceSpec,
    radiance_density,
    radiance_render,
    radiance_train,
)
from neural_fields.ops.hash_grid import (
    HashGridLevel,
    HashGridSpec,
    SparseGradient,
    hash_grid,
    hash_grid_sparse,
)
from neural_fields.ops.march import MarchScene, PackedSamples, RadianceSamples, march, march_into
from neural_fields.ops.memory import huge_pages_empty
from neural_fields.ops.mlp import MlpSpec, Precision, mlp
from neural_fields.ops.modulate import ModulationSpec, modulate, modulation
from neural_fields.ops.occupancy import (
    OccupancySpec,
    occupancy_centers,
    occupancy_points,
    occupancy_update,
    occupancy_words,
    occupied_cells,
)
from neural_fields.ops.rate import rate
from neural_fields.ops.rbf import rbf
from neural_fields.ops.slope import SlopeSpec, trunk_features, trunk_slope
from neural_fields.ops.spherical_harmonics import spherical_harmonics
from neural_fields.ops.tensor_planes import TensorPlanesSpec, tensor_planes
from neural_fields.ops.voxels import VoxelsSpec, voxels

__all__ = [
    "Adam",
    "Composited",
    "FrameSpec",
    "HashGridLevel",
    "HashGridSpec",
    "MarchScene",
    "MlpSpec",
    "ModulationSpec",
    "OccupancySpec",
    "PackedSamples",
    "Place",
    "Precision",
    "RadianceGradients",
    "RadianceParams",
    "RadianceSamples",
    "RadianceSpec",
    "SampleLevels",
    "Slice",
    "SlopeSpec",
    "SparseGradient",
    "TensorPlanesSpec",
    "VoxelsSpec",
    "adam_step",
    "chosen_device",
    "composite",
    "device_of",
    "device_text",
    "frame",
    "frame_lattice",
    "frequency",
    "generator",
    "hardest",
    "hash_grid",
    "hash_grid_sparse",
    "huge_pages_empty",
    "is_replaced",
    "level_losses",
    "march",
    "march_into",
    "mlp",
    "modulate",
    "modulation",
    "occupancy_centers",
    "occupancy_points",
    "occupancy_update",
    "occupancy_words",
    "occupied_cells",
    "radiance_density",
    "radiance_render",
    "radiance_train",
    "rate",
    "rbf",
    "spherical_harmonics",
    "tensor_planes",
    "trunk_features",
    "trunk_slope",
    "use_backend",
    "use_reference",
    "vector",
    "visible_samples",
    "voxels",
]
