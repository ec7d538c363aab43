"""Kinetic Monte Carlo of a cation interstitial in rock salt: the known answer for every diffusivity."""

import numpy as np

A = 4.09
N_CELLS = 2
HOP_LENGTH_A = float(np.sqrt(3) / 2 * A)
NUMBERS = np.array([3] * (4 * N_CELLS**3 + 1) + [9] * (4 * N_CELLS**3))
CELL = np.eye(3) * A * N_CELLS


def collinear(
    rng: np.random.Generator,
    rate_per_ps: float,
    time_ps: float,
    interval_ps: float,
    vibration_A: float = 0.1,
    back_jumps: float = 0.0,
) -> np.ndarray:
    """Unwrapped positions, shape ``(n_frames, 65, 3)``, of the collinear interstitialcy mechanism.

    The interstitial at the centre of an octant takes the place of one of the four cations at its corners, which moves
    on along the same direction to the centre of the next octant: each by sqrt(3)/4 a. Hops are uncorrelated, so the
    summed displacement diffuses with rate l²/6, l = sqrt(3)/2 a. A share ``back_jumps`` of the hops is undone at once,
    within 0.1 ps, and does not count towards ``rate_per_ps``.
    """
    half = A / 2
    n = 2 * N_CELLS
    grid = np.array([(i, j, k) for i in range(n) for j in range(n) for k in range(n)])
    cations, anions = grid[grid.sum(axis=1) % 2 == 0], grid[grid.sum(axis=1) % 2 == 1]
    # Sites in units of a / 4, so that octant centres are integers too.
    sites = np.concatenate([2 * cations, [[1, 1, 1]], 2 * anions]).astype(int)
    owner = {tuple(site): idx for idx, site in enumerate(2 * cations)}
    interstitial, octant = len(cations), np.array([1, 1, 1])
    corners = np.array([(i, j, k) for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)])

    n_frames = round(time_ps / interval_ps) + 1
    jumps = np.zeros((n_frames, len(sites), 3))

    def hop(direction: np.ndarray, time: float) -> None:
        nonlocal interstitial, octant
        corner = tuple((octant + direction) % (2 * n))
        pushed = owner[corner]
        frame = int(np.ceil(time / interval_ps))
        if frame < n_frames:
            jumps[frame, interstitial] += direction * A / 4
            jumps[frame, pushed] += direction * A / 4
        owner[corner] = interstitial
        interstitial, octant = pushed, (octant + 2 * direction) % (2 * n)

    time = rng.exponential(1 / (rate_per_ps / (1 - back_jumps)))
    while time < time_ps:
        choices = [d for d in corners if tuple((octant + d) % (2 * n)) in owner]
        direction = choices[rng.integers(len(choices))]
        hop(direction, time)
        if rng.random() < back_jumps:
            hop(-direction, time + 0.1 * rng.random())
        time += rng.exponential(1 / (rate_per_ps / (1 - back_jumps)))
    positions = sites * half / 2 + np.cumsum(jumps, axis=0)
    return np.asarray(positions + rng.normal(scale=vibration_A, size=positions.shape))


def defect(
    rng: np.random.Generator, rate_per_ps: float, time_ps: float, interval_ps: float, vibration_A: float = 0.1
) -> np.ndarray:
    """Unwrapped positions, shape ``(n_frames, 2, 3)``, of the defect alone, as if it were one ion, and of one anion.

    The same walk as `collinear` without the lattice, hence fast: the number of hops between two frames is Poisson's,
    and each hop moves the defect by a / 2 one way or the other along each axis.
    """
    n_hops = rng.poisson(rate_per_ps * interval_ps, round(time_ps / interval_ps))
    steps = A / 2 * (2 * rng.binomial(n_hops[:, None], 0.5, (len(n_hops), 3)) - n_hops[:, None])
    positions = np.zeros((len(n_hops) + 1, 2, 3))
    positions[1:, 0] = np.cumsum(steps, axis=0)
    return np.asarray(positions + rng.normal(scale=vibration_A, size=positions.shape))
