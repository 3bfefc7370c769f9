"""The operations in plain torch, written from the papers: the oracle of the tests.

Slow and wasteful of memory, for any floating type and device, differentiable to any order.
"""

from neural_fields.ops.reference.frequency import frequency
from neural_fields.ops.reference.hash_grid import hash_grid
from neural_fields.ops.reference.mlp import mlp
from neural_fields.ops.reference.spherical_harmonics import spherical_harmonics

__all__ = ["frequency", "hash_grid", "mlp", "spherical_harmonics"]
