"""Make a scene small: a hash grid becomes a network of 8-bit weights, without the photographs.

Teaches `nf.convert` with `modulate` and `bits`, and its report. Writes small.nf, under a megabyte,
and small.png: the teacher, its student, and five times their difference.
"""

import argparse
from pathlib import Path

from PIL import Image

import neural_fields as nf
from neural_fields import scenes

parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
parser.add_argument("--quick", action="store_true", help="toy size, for a test")
arguments = parser.parse_args()
steps, size = (30, 40) if arguments.quick else (1500, 200)

data = scenes.make("locomotive", Path("scene"), n_train=40, n_test=4, size=size, reuse=True)
nf.fit.nerf(data, "large.nf", steps=steps)

# Coordinate-aware modulation adds a grid of a few thousand numbers to the network.
found = nf.convert("large.nf", "small.nf", to="mlp", modulate="xyz", bits=8, steps=2 * steps)
picture = (found.report.picture * 255).round().byte().numpy()
Image.fromarray(picture).save("small.png")
large, small = Path("large.nf").stat().st_size, Path("small.nf").stat().st_size
print(f"{large:,} bytes became {small:,}, {large / small:.0f} times less")
print(f"{found.summary['psnr_student_vs_teacher']:.1f} dB to the teacher, and to unseen views:")
for name in ("large", "small"):
    print(f"  {name}: {nf.evaluate(f'{name}.nf', data)['psnr']:.2f} dB")
assert small < 1_000_000
