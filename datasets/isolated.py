"""Isolated atoms: single atoms whose energies say where those of all frames begin, and which are no frames to learn."""

import numpy as np
from ase import Atoms

from curator.datasets.frame import Frame

ISOLATED_A = 8.0
"""An atom by itself whose periodic images are at least this far away is an isolated atom."""
SAME_ENERGY_eV = 1e-2
"""Energies of one isolated atom in boxes of several sizes agree within this."""


def is_isolated(image: Atoms | Frame) -> bool:
    """Whether a configuration is an isolated atom: by its ``config_type``, or as nothing near repeats it."""
    if len(image) != 1:
        return False
    if isinstance(image, Atoms):
        if str(image.info.get("config_type", "")).replace("_", "").replace(" ", "").lower() == "isolatedatom":
            return True
        lengths, pbc = image.cell.lengths(), image.pbc
    else:
        lengths, pbc = np.linalg.norm(image.cell, axis=1), image.pbc
    return bool(lengths[pbc].min(initial=np.inf) >= ISOLATED_A)


def charge_problem(atoms: Atoms, charge: int | None = None) -> str | None:
    """Tell why an isolated atom does not say where energies begin: it is an ion; None if it is none.

    Parameters
    ----------
    atoms
        The atom.
    charge
        In e, where it does not tell its own.
    """
    charge = int(atoms.info.get("charge", charge or 0))
    if charge == 0:
        return None
    return f"an isolated {atoms.symbols[0]} with a charge of {charge:+d} is no neutral atom; leave it out"
