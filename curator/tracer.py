"""Self-diffusivity (tracer diffusivity) by kinisi, the maintained library for it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curator.walk import Floats


@dataclass(frozen=True, slots=True)
class Tracer:
    """Self-diffusivity of an ion and its standard error, in Å²/ps."""

    D_A2_per_ps: float
    error_A2_per_ps: float


def tracer_diffusivity(runs: Sequence[Floats], interval_ps: float, start: int, n_lags: int = 40) -> Tracer | None:
    """Self-diffusivity by kinisi's Bayesian regression of the mean squared displacement.

    McCluskey, Coles and Morgan, J. Chem. Theory Comput. 21, 79 (2025). Lags are spaced geometrically, since the cost
    grows with the square of their number.

    Parameters
    ----------
    runs
        Unwrapped positions of the mobile ions in the frame of the host, Å, each of shape ``(n_frames, n_ions, 3)``;
        cut to the shortest.
    interval_ps
        Time between frames in ps.
    start
        Frames after which the motion counts as diffusive.
    n_lags
        Lags from one frame to the whole length.

    Returns
    -------
    Tracer
        Or None if fewer than three lags are left, or nothing moves.
    """
    # kinisi takes a second to import, and only a measurement needs it.
    import scipp as sc
    from kinisi.diffusion import Diffusion
    from kinisi.displacement import calculate_msd
    from kinisi.parser import Parser

    n_frames = min(len(run) for run in runs)
    ions = np.concatenate([run[:n_frames] - run[0] for run in runs], axis=1)
    lags = np.unique(np.geomspace(1, n_frames - 1, n_lags).astype(int))
    if (lags >= start).sum() < 3 or not ions.any():
        return None
    # The positions are unwrapped: in a cell far larger than any displacement, kinisi leaves them alone.
    length = 1e3 * (1 + float(np.abs(ions).max()))
    indices = sc.arange("particle", ions.shape[1])
    parser = Parser(
        coords=sc.array(dims=["time", "particle", "dimension"], values=ions / length),
        latt=sc.array(
            dims=["time", "dimension1", "dimension2"],
            values=np.tile(length * np.eye(3), (n_frames, 1, 1)),
            unit=sc.units.angstrom,
        ),
        time_step=sc.scalar(interval_ps, unit="ps"),
        step_skip=sc.scalar(1),
        dt=sc.array(dims=["time interval"], values=lags * interval_ps, unit="ps"),
        specie_indices=indices,
        drift_indices=sc.array(dims=["particle"], values=np.empty(0, dtype=int)),
    )
    diffusion = Diffusion(dg=calculate_msd(parser, progress=False))
    # kinisi draws from NumPy's global generator.
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    try:
        diffusion.bayesian_regression(
            start_dt=sc.scalar((start - 0.5) * interval_ps, unit="ps"), n_samples=500, n_burn=300, progress=False
        )
    finally:
        np.random.set_state(before)  # noqa: NPY002
    samples = np.asarray(diffusion.gradient.values) / 6
    return Tracer(float(samples.mean()), float(samples.std()))
