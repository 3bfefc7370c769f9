"""Make a scene fast to look at: a deep network becomes voxels, which no network is asked about.

Teaches `nf.convert` to voxels, whose start is the teacher's values at the vertices, and the speed
of rendering that its report has.
"""

import argparse
from pathlib import Path

import neural_fields as nf
from neural_fields import scenes

parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
parser.add_argument("--quick", action="store_true", help="toy size, for a test")
arguments = parser.parse_args()
steps, size = (30, 40) if arguments.quick else (1500, 200)

data = scenes.make("locomotive", Path("scene"), n_train=40, n_test=4, size=size, reuse=True)
nf.fit.nerf(data, "slow.nf", field="mlp", steps=steps)
found = nf.convert("slow.nf", "fast.nf", to="voxels", steps=steps // 3)

speed = found.summary["pixels_per_s"]
print(f"pixels a second: {speed['teacher']:,.0f} became {speed['student']:,.0f}")
print(f"{found.summary['psnr_student_vs_teacher']:.1f} dB to the teacher, and to unseen views:")
for name in ("slow", "fast"):
    print(f"  {name}: {nf.evaluate(f'{name}.nf', data)['psnr']:.2f} dB")
