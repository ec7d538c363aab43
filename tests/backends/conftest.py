"""Small configurations, and LAMMPS as a second opinion."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

torch.set_num_threads(1)

Lammps = Callable[[Atoms], tuple[float, np.ndarray, np.ndarray]]


@pytest.fixture
def cell() -> Atoms:
    """Strained and rattled cubic cell of LiF: 8 atoms, no symmetry."""
    atoms = bulk("LiF", "rocksalt", a=4.1, cubic=True)
    atoms.rattle(0.12, seed=3)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + np.random.default_rng(1).normal(0.0, 0.03, (3, 3))), True)
    return atoms


@pytest.fixture
def interstitial() -> Atoms:
    """Rattled LiF of 65 atoms, one of them a lithium interstitial."""
    atoms = bulk("LiF", "rocksalt", a=4.03, cubic=True) * (2, 2, 2) + Atoms("Li", [[4.03 / 4] * 3])
    atoms.rattle(0.1, seed=5)
    return atoms


@pytest.fixture(scope="session")
def lammps_lif(lammps_engine: Callable) -> Lammps:
    """Energy, forces and stress of LAMMPS for the Fumi-Tosi potential of LiF, in a lower triangular cell."""
    # Coefficients written out once more from the published tables.
    potential = Path(__file__).parents[1] / "lif-fumi-tosi.lammps"

    def calculate(atoms: Atoms) -> tuple[float, np.ndarray, np.ndarray]:
        (ax, zero_y, zero_z), (bx, by, zero), (cx, cy, cz) = atoms.cell.array
        assert zero_y == zero_z == zero == 0.0
        engine = lammps_engine()
        engine.commands_string(
            f"units metal\nbox tilt large\nregion box prism 0 {ax} 0 {by} 0 {cz} {bx} {cx} {cy}\ncreate_box 2 box"
        )
        kinds = [1 if number == 3 else 2 for number in atoms.numbers]
        engine.create_atoms(len(atoms), None, kinds, atoms.get_positions(wrap=True).ravel().tolist())
        engine.commands_string(
            f"mass 1 6.94\nmass 2 18.998\ninclude {potential}\nthermo_style custom pe pxx pyy pzz pyz pxz pxy\nrun 0"
        )
        energy = engine.get_thermo("pe")
        forces = np.array(engine.gather_atoms("f", 1, 3)).reshape(-1, 3)
        bar = 6.241509e-7  # in eV/Å³
        stress = -bar * np.array([engine.get_thermo(name) for name in ("pxx", "pyy", "pzz", "pyz", "pxz", "pxy")])
        engine.close()
        return energy, forces, stress

    return calculate


@pytest.fixture(scope="session")
def gpaw_python() -> str:
    """Name a Python that has GPAW: ``CURATOR_TEST_GPAW``, or this one."""
    from curator.backends.gpaw import about_gpaw

    python = os.environ.get("CURATOR_TEST_GPAW", sys.executable)
    try:
        about_gpaw(python, json.dumps({"setups": {}, "xc": "PBE"}))
    except ValueError as error:
        message = f"{error}; or set CURATOR_TEST_GPAW"
        if "gpaw" in os.environ.get("CURATOR_REQUIRE", "").split(","):
            pytest.fail(message)
        pytest.skip(message)
    return python
