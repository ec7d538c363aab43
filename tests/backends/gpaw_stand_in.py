"""A package with GPAW's names that calculates nothing: a test puts this file into a folder ``gpaw``."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from ase import Atoms

__version__ = "0.0-stand-in"
SETUPS = {"Li.PBE": b"no setup of Li", "F.PBE": b"no setup of F", "F.v2.PBE": b"another that is none"}
ENERGY_EV, STRESS_EV_PER_A3 = -1.25, [0.01, 0.02, 0.03, 0.04, 0.05, 0.06]
FORCE_EV_PER_A2 = 0.1
"""Forces are positions, times this."""
world = SimpleNamespace(rank=0, size=1)


class KohnShamConvergenceError(Exception):
    """What GPAW raises."""


class GPAW:
    """Converges if it may take as many steps as ``STAND_IN_STEPS`` says, and does what ``STAND_IN`` says."""

    def __init__(self, *, txt: str, maxiter: int, **_: Any) -> None:
        self.txt, self.maxiter = Path(txt), maxiter
        self.txt.write_text("GPAW begins\n")

    def get_potential_energy(self, atoms: Atoms, force_consistent: bool = False) -> float:
        exec(os.environ.get("STAND_IN", ""))
        if self.maxiter < int(os.environ.get("STAND_IN_STEPS", "10")):
            raise KohnShamConvergenceError("Did not converge!\nSee text output for help.")
        self.txt.write_text(os.environ.get("STAND_IN_SAYS", "Converged in 10 steps\n"))
        return ENERGY_EV if force_consistent else ENERGY_EV + 1.0

    def get_forces(self, atoms: Atoms) -> Any:
        return FORCE_EV_PER_A2 * atoms.positions

    def get_stress(self, atoms: Atoms) -> Any:
        return np.array(STRESS_EV_PER_A3)


def search_for_file(name: str) -> tuple[str, bytes]:
    """Content of a setup, as gpaw.setup_data has it."""
    if name not in SETUPS:
        raise FileNotFoundError(name)
    return name, SETUPS[name]
