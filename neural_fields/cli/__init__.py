"""The command `nf`."""
