"""Diffusivities of the walks of `kmc`, measured as tests mostly want them."""

from typing import Any

import kmc
import numpy as np

from curator.datasets.frame import Frame
from curator.diffusion.measurement import Diffusivity, diffusivity_of_positions
from curator.trajectory import MDSettings, Trajectory

D_PER_RATE = kmc.HOP_LENGTH_A**2 / 6


def measure(positions: np.ndarray | list[np.ndarray], **options: Any) -> Diffusivity:
    defaults = {
        "mobile": "Li",
        "hop_length_A": kmc.HOP_LENGTH_A,
        "temperature_K": 800.0,
        "tracer": False,
        "n_carriers": 1,
        "equilibration_ps": 0.0,
        "unwrapped": True,
    }
    return diffusivity_of_positions(positions, kmc.NUMBERS, kmc.CELL, 100.0, **(defaults | options))


def measure_ions(ions: np.ndarray | list[np.ndarray], **options: Any) -> Diffusivity:
    """Of lithium ions, shape ``(n_frames, n_ions, 3)``, beside a fluorine that stands still in a box of 40 Å."""
    defaults = {"mobile": "Li", "hop_length_A": kmc.HOP_LENGTH_A, "equilibration_ps": 0.0, "unwrapped": True}
    runs = ions if isinstance(ions, list) else [ions]
    n_ions = runs[0].shape[1]
    everything = [np.concatenate([run, np.zeros((len(run), 1, 3))], axis=1) for run in runs]
    return diffusivity_of_positions(everything, [3] * n_ions + [9], np.eye(3) * 40, 100.0, **(defaults | options))


def trajectory(
    positions: np.ndarray, numbers: np.ndarray = kmc.NUMBERS, cell: np.ndarray = kmc.CELL, temperature_K: float = 800.0
) -> Trajectory:
    """The positions as those of a run that ended well, at 1.5 GPa, with a frame each 0.1 ps."""
    n = len(positions)
    start = Frame(numbers, positions[0], cell, np.ones(3, dtype=bool))
    settings, zeros = MDSettings(temperature_K, (n - 1) * 0.1), np.zeros(n)
    times_ps = np.arange(n) * 0.1
    return Trajectory(
        start, settings, (0,), times_ps, positions, zeros, zeros, zeros, zeros + 1.5, "completed", "", (), n, 0
    )
