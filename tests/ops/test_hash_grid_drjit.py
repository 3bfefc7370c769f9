"""The hash grid against an implementation by other people, where Dr.Jit and LLVM are there."""

import tolerances
import torch

from neural_fields import ops


def find_drjit():
    try:
        import drjit
        import drjit.llvm
        import drjit.nn

        drjit.eval(drjit.llvm.Float(1.0) + 1.0)
    except (ImportError, RuntimeError):
        return None
    return drjit


drjit = find_drjit()

if drjit is not None:

    def test_equals_the_hash_grid_of_drjit():
        spec = ops.HashGridSpec()
        theirs = drjit.nn.HashGridEncoding(
            drjit.llvm.Float,
            spec.n_dims,
            n_levels=spec.n_levels,
            n_features_per_level=spec.n_features,
            hashmap_size=2**spec.log2_table_size,
            base_resolution=spec.base_resolution,
            per_level_scale=spec.growth,
            torchngp_compat=True,
        )
        generator = torch.Generator().manual_seed(0)
        table = torch.rand(spec.n_entries, spec.n_features, generator=generator)
        assert theirs.n_params == table.numel()
        theirs.set_params(drjit.llvm.Float(table.flatten().numpy()))
        x = torch.rand(1000, 3, generator=generator)
        columns = [drjit.llvm.Float(column.numpy()) for column in x.T.contiguous()]
        expected = torch.stack([torch.from_numpy(f.numpy()) for f in theirs(columns)], dim=1)
        # Positions of 2048 cells are rounded at 1e-4 of a cell.
        error = (ops.hash_grid(x, table, spec) - expected).abs().max()
        assert error < 10 * tolerances.HASH_GRID_FLOAT32
