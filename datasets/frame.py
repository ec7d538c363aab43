"""A frame: the atoms of one configuration, frozen, with an identity that survives every file format."""

import hashlib
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike, NDArray

QUANTUM_A: float = 1e-8
"""Positions and cell vectors are rounded to this many Å, so that a round trip through text keeps the hash."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """The atoms of one configuration.

    Attributes
    ----------
    numbers
        Atomic numbers, int32, shape ``(n_atoms,)``.
    positions
        Cartesian positions in Å, float64, shape ``(n_atoms, 3)``; never wrapped, quantised to 1e-8 Å.
    cell
        Lattice vectors as rows in Å, float64, shape ``(3, 3)``; quantised to 1e-8 Å.
    pbc
        Periodicity along each lattice vector, bool, shape ``(3,)``.
    charge
        Total charge in units of e.
    multiplicity
        Spin multiplicity 2S+1; 0 leaves it to the labeller.

    Raises
    ------
    ValueError
        If shapes disagree, a number is not finite, or there is no atom.
    """

    numbers: NDArray[np.int32]
    positions: NDArray[np.float64]
    cell: NDArray[np.float64]
    pbc: NDArray[np.bool_]
    charge: int = 0
    multiplicity: int = 0

    def __post_init__(self) -> None:
        numbers = np.array(self.numbers, dtype=np.int32)
        positions = _quantised(self.positions)
        cell = _quantised(self.cell)
        pbc = np.array(self.pbc, dtype=bool)
        if numbers.ndim != 1 or len(numbers) == 0:
            raise ValueError(f"a frame needs at least one atom; got numbers of shape {numbers.shape}")
        if positions.shape != (len(numbers), 3) or cell.shape != (3, 3) or pbc.shape != (3,):
            raise ValueError(
                f"{len(numbers)} atoms do not go with positions {positions.shape}, cell {cell.shape}, pbc {pbc.shape}"
            )
        if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
            raise ValueError("positions and cell must be finite numbers")
        for name, value in (("numbers", numbers), ("positions", positions), ("cell", cell), ("pbc", pbc)):
            value.setflags(write=False)
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.numbers)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frame) and self.hash == other.hash

    def __hash__(self) -> int:
        return int(self.hash[:15], 16)

    @property
    def hash(self) -> str:
        """SHA-256 of the content, as 64 hexadecimal digits.

        Taken over int32 numbers, int64 ``round(positions / 1e-8 Å)``, int64 ``round(cell / 1e-8 Å)``, uint8 pbc,
        int32 charge, int32 multiplicity, all little-endian, with neither wrapping nor sorting.
        """
        digest = hashlib.sha256()
        digest.update(self.numbers.astype("<i4").tobytes())
        digest.update(np.rint(self.positions / QUANTUM_A).astype("<i8").tobytes())
        digest.update(np.rint(self.cell / QUANTUM_A).astype("<i8").tobytes())
        digest.update(self.pbc.astype("u1").tobytes())
        digest.update(np.array([self.charge, self.multiplicity], dtype="<i4").tobytes())
        return digest.hexdigest()


def _quantised(values: ArrayLike) -> NDArray[np.float64]:
    # + 0.0 turns -0.0 into 0.0, so that equal frames are equal byte for byte.
    return np.rint(np.asarray(values, dtype=np.float64) / QUANTUM_A) * QUANTUM_A + 0.0


def frame_from_atoms(atoms: Atoms, charge: int | None = None, multiplicity: int | None = None) -> Frame:
    """Frame of an ASE ``Atoms``; charge and multiplicity default to ``atoms.info``, else 0."""
    info = atoms.info
    for name in ("charge", "multiplicity"):
        if int(info.get(name, 0)) != float(info.get(name, 0)):
            raise ValueError(f"{name} must be a whole number; found {info[name]}")
    return Frame(
        numbers=atoms.numbers,
        positions=atoms.positions,
        cell=atoms.cell.array,
        pbc=atoms.pbc,
        charge=int(info.get("charge", 0)) if charge is None else charge,
        multiplicity=int(info.get("multiplicity", 0)) if multiplicity is None else multiplicity,
    )


def atoms_from_frame(frame: Frame) -> Atoms:
    """ASE ``Atoms`` of a frame; charge and multiplicity, where not zero, go to ``atoms.info``."""
    atoms = Atoms(numbers=frame.numbers, positions=frame.positions, cell=frame.cell, pbc=frame.pbc)
    if frame.charge:
        atoms.info["charge"] = frame.charge
    if frame.multiplicity:
        atoms.info["multiplicity"] = frame.multiplicity
    return atoms
