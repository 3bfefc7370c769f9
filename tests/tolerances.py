"""How far two results may differ, and why. Errors are relative to the largest expected number.

Where a result jumps (cell borders, kinks), tests keep away from the jump instead of widening these.
"""

# The same formulas in float64 in another order of summation.
FLOAT64 = 1e-11

# Sines and cosines to 2e-7, then sums over octaves whose terms grow with 2^k.
FREQUENCY_FLOAT32 = 2e-6

# Polynomials of degree 3 with a dozen roundings.
SPHERICAL_HARMONICS_FLOAT32 = 2e-6

# x * scale is rounded at 2^-24 of up to 40 cells, and a feature's slope is one per cell; second
# derivatives of smoothstep amplify that by 12 per axis.
HASH_GRID_FLOAT32 = 1e-4

# As above for up to 30 cells, and products of up to six such sums.
LATTICE_FLOAT32 = 1e-4

# Statistics of up to 256 numbers, divided by their deviation, which small samples make small.
MODULATE_FLOAT32 = 1e-4

# Sums of up to 64 products per layer, of 4 layers, and exp and log to 2 ulp.
MLP_FLOAT32 = 2e-5

# The same products of the same rounded numbers; where a sum lies between two bfloat16 numbers, its
# order of summation decides, and one hidden number in a thousand differs by 2^-8 of itself.
MLP_BF16 = 4e-3

# Slopes of smooth activations come from rounded values (2^-9), the reference's do not.
MLP_BF16_SMOOTH_GRADIENT = 2e-2

# Distances of up to 32 squares, then exp, whose relative error is half the distance's absolute one.
RBF_FLOAT32 = 2e-5

# Products of a dozen exponentials, and differences of prefix sums of up to 12 units of length.
COMPOSITE_FLOAT32 = 2e-5

# Differences of numbers up to 10, and sums of their squares; gradients are quotients of the two.
DISTILL_FLOAT32 = 2e-6

# A dozen roundings of numbers up to 1.
ADAM_FLOAT32 = 2e-6

# Phases up to 1e4, after range reduction.
SINE_FLOAT32 = 2e-7

# As above, and the rounding of pi times up to one.
SINE_OF_TURNS_FLOAT32 = 5e-7

# Central differences with steps of 1e-6 in float64, relative and absolute; cancellation leaves
# some 1e-10.
FINITE_DIFFERENCES = 1e-4
FINITE_DIFFERENCES_OF_SMALL = 1e-8
