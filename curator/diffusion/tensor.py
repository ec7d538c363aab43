"""Diffusivity tensors: how a walk differs from one direction to another."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.fft import dst

from curator.diffusion.coefficient import MeasuredWalk
from curator.diffusion.walk import Floats
from curator.quantities import Z975

CLOSED = 0.1
"""Diffusion along a principal axis counts as absent if it is surely below this share of the fastest."""


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """Diffusivity tensor; a third of its trace is the diffusivity.

    Attributes
    ----------
    D_A2_per_ps, error_A2_per_ps
        Components in the axes of the positions and their standard errors in Å²/ps, each of shape ``(3, 3)``.
    principal_A2_per_ps, principal_error_A2_per_ps
        Principal values, largest first, and their standard errors in Å²/ps, each of shape ``(3,)``.
    axes
        Unit vectors of the principal axes as rows, shape ``(3, 3)``.
    """

    D_A2_per_ps: Floats
    error_A2_per_ps: Floats
    principal_A2_per_ps: Floats
    principal_error_A2_per_ps: Floats
    axes: Floats

    @property
    def n_dimensions(self) -> int:
        """Principal axes along which there is diffusion, within the error."""
        highest = self.principal_A2_per_ps + Z975 * self.principal_error_A2_per_ps
        return int((highest > CLOSED * self.principal_A2_per_ps[0]).sum())


def diffusivity_tensor(paths: Sequence[Floats], interval_ps: float, walk: MeasuredWalk, n_parts: int = 1) -> Tensor:
    """Diffusivity tensor of walks whose scalar diffusivity was measured.

    Each component of the sine spectrum's 3 by 3 matrix is a constant and a parabola, as the scalar spectrum is; they
    are fitted by least squares, with the weights that the scalar fit gives to its modes, and scaled by what makes the
    scalar unbiased in its logarithm, and whatever else it was corrected by. The variance is that of a
    Gaussian process, ``(S_ii S_jj + S_ij²)`` a mode, and that of counting: hops of length l along an axis displace by
    ``l_i⁴ <= l² l_i²``, so that ``D_ii`` has at most the variance ``D_ii tr D / n_hops``, of one hop at least.

    Parameters
    ----------
    paths
        Coordinates in Å, each of shape ``(n_frames, 3 n_walks)``, x, y and z of one walk after the other.
    interval_ps
        Time between frames in ps.
    walk
        Of the same paths.
    n_parts
        Parts of a sum, of each of which the tensor is wanted.
    """
    fit = walk.plateau.fit
    powers, curves = [], []
    for path in paths:
        increments = np.diff(path, axis=0)
        n = len(increments)
        mode = np.arange(1, min((n + 1) // fit.stride, n) + 1)
        if not len(mode):
            continue
        waves = dst(increments, type=1, axis=0, norm="ortho")[: len(mode)].reshape(len(mode), path.shape[1] // 3, 3)
        powers.append(np.einsum("kwi,kwj->kij", waves, waves) / waves.shape[1])
        curves.append(2 - 2 * np.cos(mode * np.pi / (n + 1)))
    power, curve = np.concatenate(powers), np.concatenate(curves)
    tau_ps = 2 * interval_ps
    design = np.stack([np.ones_like(curve), curve], axis=1)
    weight = 1 / (fit.D_A2_per_ps * tau_ps + fit.noise_A2 * curve) ** 2
    solve = np.linalg.solve(design.T @ (weight[:, None] * design), design.T * weight)
    n_walks = paths[0].shape[1] // 3

    def components(power: Floats) -> tuple[Floats, Floats]:
        level, noise = np.einsum("pk,kij->pij", solve, power)
        spectra = level + noise * curve[:, None, None]
        diagonal = np.diagonal(spectra, axis1=1, axis2=2)
        gaussian = diagonal[:, :, None] * diagonal[:, None, :] + spectra**2
        variance = np.einsum("k,kij->ij", solve[0] ** 2, gaussian) / n_walks / tau_ps**2
        D = level / tau_ps
        one_hop = np.trace(D) / walk.n_hops
        along = np.maximum(np.diagonal(D), one_hop)
        counting = one_hop * (along[:, None] + along[None, :]) / 4
        np.fill_diagonal(counting, one_hop * along)
        return D, np.sqrt(np.maximum(variance, 0.0) + counting)

    D, error = components(power)
    axes = np.linalg.eigh(D)[1].T[::-1]
    principal, principal_error = components(axes @ power @ axes.T)
    scale = 3 * walk.coefficient.D_A2_per_ps / float(np.trace(D)) / n_parts
    return Tensor(
        scale * D,
        scale * walk.widened * error,
        scale * np.diagonal(principal),
        scale * walk.widened * np.diagonal(principal_error),
        axes,
    )


def raised(tensor: Tensor, by_A2_per_ps: float) -> Tensor:
    """The tensor with every principal value raised by the same amount."""
    return replace(
        tensor,
        D_A2_per_ps=tensor.D_A2_per_ps + by_A2_per_ps * np.eye(3),
        principal_A2_per_ps=tensor.principal_A2_per_ps + by_A2_per_ps,
    )


def describe(tensor: Tensor) -> str:
    """That diffusion is in two dimensions or one, if it is; else nothing."""
    n = tensor.n_dimensions
    if n == 3:
        return ""
    highest = tensor.principal_A2_per_ps + Z975 * tensor.principal_error_A2_per_ps
    share = highest[n:].max() / tensor.principal_A2_per_ps[0]
    word, axis, where = ("one", tensor.axes[0], "across") if n == 1 else ("two", tensor.axes[2], "along")
    direction = " ".join(f"{x:.2f}" for x in np.round(axis * np.sign(axis[np.abs(axis).argmax()]), 2) + 0.0)
    return (
        f"{word}-dimensional: {where} [{direction}] D is at most {share:.1%} of the largest principal value; a third "
        f"of the tensor's trace is given as the diffusivity, that of the moving directions is {3 / n:g} times it"
    )
