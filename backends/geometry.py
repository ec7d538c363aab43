"""Configurations that are not worth a calculation, told before one is paid for."""

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.geometry import complete_cell
from matscipy.neighbours import neighbour_list

CLOSEST: float = 0.5
"""Atoms closer than this fraction of the sum of their covalent radii are not worth a calculation."""
LARGEST_RADII_A: float = 2.0 * covalent_radii.max()


def geometry_problem(atoms: Atoms, cutoff_A: float | None = None) -> str | None:
    """Tell what makes a configuration not worth a calculation; None if nothing does.

    Parameters
    ----------
    atoms
        Configuration to judge.
    cutoff_A
        Distance in Å within which every atom must have a neighbour; None where an atom may be alone.
    """
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        return "positions or cell are not finite numbers"
    if atoms.pbc.any() and atoms.cell.rank < int(atoms.pbc.sum()):
        return "a periodic direction has no cell vector"
    reach_A = CLOSEST * LARGEST_RADII_A if cutoff_A is None else cutoff_A
    i, j, distance = neighbour_list(
        "ijd", positions=atoms.positions, cell=complete_cell(atoms.cell), pbc=atoms.pbc, cutoff=reach_A
    )
    if cutoff_A is not None:
        lonely = np.flatnonzero(np.bincount(i, minlength=len(atoms)) == 0)
        if len(lonely):
            return f"atom {lonely[0]} ({atoms.symbols[lonely[0]]}) has no neighbour within {cutoff_A:g} Å"
    if not len(i):
        return None
    allowed = CLOSEST * (covalent_radii[atoms.numbers[i]] + covalent_radii[atoms.numbers[j]])
    worst = int(np.argmin(distance / allowed))
    if distance[worst] < allowed[worst]:
        a, b = int(i[worst]), int(j[worst])
        return (
            f"atoms {a} ({atoms.symbols[a]}) and {b} ({atoms.symbols[b]}) are {distance[worst]:.2f} Å apart, "
            f"less than {allowed[worst]:.2f} Å"
        )
    return None
