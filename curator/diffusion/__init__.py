"""Diffusivities with honest errors: from positions to random walks, coefficients and activation energies."""
