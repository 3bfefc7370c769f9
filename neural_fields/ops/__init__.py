"""Native operations as stateless functions on torch tensors, with their derivatives.

`neural_fields.ops.reference` has the same functions in plain torch: slow, and differentiable to
any order.
"""

from neural_fields.ops.frequency import frequency
from neural_fields.ops.hash_grid import HashGridLevel, HashGridSpec, hash_grid
from neural_fields.ops.memory import huge_pages_empty
from neural_fields.ops.mlp import MlpSpec, mlp
from neural_fields.ops.spherical_harmonics import spherical_harmonics

__all__ = [
    "HashGridLevel",
    "HashGridSpec",
    "MlpSpec",
    "frequency",
    "hash_grid",
    "huge_pages_empty",
    "mlp",
    "spherical_harmonics",
]
