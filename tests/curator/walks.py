"""Diffusivities of the walks of `kmc`, measured as tests mostly want them."""

from typing import Any

import kmc
import numpy as np

from curator.diffusion.measurement import Diffusivity, diffusivity_of_positions

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
