"""The operations in plain torch, written from the papers: the oracle of the tests.

Slow and wasteful of memory, for any floating type and device, differentiable to any order.
"""

from neural_fields.ops.reference.adam import adam_step
from neural_fields.ops.reference.composite import composite
from neural_fields.ops.reference.distill import hardest, level_losses, visible_samples
from neural_fields.ops.reference.frequency import frequency
from neural_fields.ops.reference.hash_grid import hash_grid
from neural_fields.ops.reference.march import march
from neural_fields.ops.reference.mlp import mlp
from neural_fields.ops.reference.modulate import modulate, modulation
from neural_fields.ops.reference.occupancy import occupancy_update, occupancy_words
from neural_fields.ops.reference.rate import rate
from neural_fields.ops.reference.rbf import rbf
from neural_fields.ops.reference.spherical_harmonics import spherical_harmonics
from neural_fields.ops.reference.tensor_planes import tensor_planes
from neural_fields.ops.reference.voxels import voxels

__all__ = [
    "adam_step",
    "composite",
    "frequency",
    "hardest",
    "hash_grid",
    "level_losses",
    "march",
    "mlp",
    "modulate",
    "modulation",
    "occupancy_update",
    "occupancy_words",
    "rate",
    "rbf",
    "spherical_harmonics",
    "tensor_planes",
    "visible_samples",
    "voxels",
]
