"""Frequencies of signals and of untrained fields: FreSh (Kania et al. 2025)."""

from neural_fields.spectra.choice import Choice, choose
from neural_fields.spectra.search import Distance
from neural_fields.spectra.spectrum import centroid, largest_bin, spectrum, wasserstein

__all__ = ["Choice", "Distance", "centroid", "choose", "largest_bin", "spectrum", "wasserstein"]
