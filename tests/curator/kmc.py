"""Kinetic Monte Carlo of hops in rock salt, of an interstitial among ions or of independent carriers: known answers."""

import numpy as np

A = 4.09
N_CELLS = 2
HOP_LENGTH_A = float(np.sqrt(3) / 2 * A)
NUMBERS = np.array([3] * (4 * N_CELLS**3 + 1) + [9] * (4 * N_CELLS**3))
CELL = np.eye(3) * A * N_CELLS
TRACER_CORRELATION = 0.354
"""Of `collinear`: the cations together times the tracer's D over the defect's, from 10⁶ hops."""


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


def hoppers(
    rng: np.random.Generator,
    n_carriers: int,
    rate_per_ps: float,
    time_ps: float,
    interval_ps: float,
    vibration_A: float = 0.1,
    correlation: float = 0.0,
    back_jumps: float = 0.0,
) -> np.ndarray:
    """Unwrapped positions, shape ``(n_frames, n_carriers, 3)``, of independent carriers that hop along <111>.

    Each hops by `HOP_LENGTH_A` at ``rate_per_ps``; ``correlation`` is the mean cosine between one hop and the next:
    with that probability it has the same direction, or the opposite one if it is negative. See `known_D`. A share
    ``back_jumps`` of all hops is undone again, within 0.2 ps on average, and does not count towards ``rate_per_ps``.
    """
    n_frames = round(time_ps / interval_ps) + 1
    jumps = np.zeros((n_frames, n_carriers, 3))

    def add(carrier: np.ndarray, time: np.ndarray, direction: np.ndarray) -> None:
        frame = np.ceil(time / interval_ps).astype(int)
        seen = frame < n_frames
        np.add.at(jumps, (frame[seen], carrier[seen]), direction[seen])

    n_hops = rng.poisson(rate_per_ps * time_ps, size=n_carriers)
    carrier = np.repeat(np.arange(n_carriers), n_hops)
    total = len(carrier)
    time = rng.uniform(0, time_ps, size=total)
    time = time[np.lexsort((time, carrier))]
    direction = rng.choice([-1.0, 1.0], size=(total, 3))
    if correlation:
        index = np.arange(total)
        anew = rng.random(total) > abs(correlation)
        anew[np.concatenate([[0], np.cumsum(n_hops)[:-1]])[n_hops > 0]] = True
        last = np.maximum.accumulate(np.where(anew, index, 0))
        direction = direction[last] * (np.sign(correlation) ** (index - last))[:, None]
    add(carrier, time, direction)
    if back_jumps:
        n_back = rng.poisson(rate_per_ps * time_ps * back_jumps / (1 - back_jumps), size=n_carriers)
        carrier = np.repeat(np.arange(n_carriers), n_back)
        time = rng.uniform(0, time_ps, size=len(carrier))
        direction = rng.choice([-1.0, 1.0], size=(len(carrier), 3))
        add(carrier, time, direction)
        add(carrier, time + rng.exponential(0.2, size=len(carrier)), -direction)
    positions = np.cumsum(jumps, axis=0) * HOP_LENGTH_A / np.sqrt(3)
    return np.asarray(positions + rng.normal(scale=vibration_A, size=positions.shape))


def concerted(
    rng: np.random.Generator,
    n_ions: int,
    n_together: int,
    rate_per_ps: float,
    time_ps: float,
    interval_ps: float,
    vibration_A: float = 0.1,
) -> np.ndarray:
    """Unwrapped positions, shape ``(n_frames, n_ions, 3)``, of ions of which some hop at once, in the same direction.

    There are ``rate_per_ps`` such events, each of ``n_together`` ions drawn anew and by `HOP_LENGTH_A` along <111>: the
    sum diffuses with n_together² times the rate of events, all ions together with n_together times that, l²/6 each.
    """
    jumps = np.zeros((round(time_ps / interval_ps) + 1, n_ions, 3))
    for frame in rng.integers(1, len(jumps), rng.poisson(rate_per_ps * time_ps)):
        moved = rng.choice(n_ions, n_together, replace=False)
        jumps[frame, moved] += rng.choice([-1.0, 1.0], 3) * HOP_LENGTH_A / np.sqrt(3)
    positions = np.cumsum(jumps, axis=0)
    return np.asarray(positions + rng.normal(scale=vibration_A, size=positions.shape))


def known_D(rate_per_ps: float, correlation: float = 0.0) -> float:
    """Diffusivity in Å²/ps of each of the `hoppers`."""
    return rate_per_ps * HOP_LENGTH_A**2 / 6 * (1 + correlation) / (1 - correlation)
