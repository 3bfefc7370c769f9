"""One loop, one short trainer per signal, budgets, checkpoints, metrics."""
