"""CP2K: the output of ``RUN_TYPE ENERGY_FORCE``, one run or several appended to one file.

Of molecular dynamics the output holds no positions: convert its trajectory to extended XYZ instead. Cell vectors are
printed with three decimals only; lengths and angles, which have six, are used to sharpen them.
"""

import re
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.cell import Cell
from ase.stress import full_3x3_to_voigt_6_stress
from ase.units import create_units
from numpy.typing import NDArray

from curator.datasets.output import Output, Step
from curator.datasets.textfile import read_text
from curator.datasets.units import GPA

_UNITS = create_units("2006")
"""CODATA 2006, as CP2K prints them in its own output."""
_NUMBER = r"(-?\d+\.\d+(?:[EeDd][+-]?\d+)?)"
_FORCES = (
    r"ATOMIC FORCES in \[a\.u\.\].*?\n((?:\s*\d+\s+\d+\s+\S+(?:\s+\S+){3}\n)+)",  # up to 2024
    r"FORCES\|\s+Atom\s+x\s+y\s+z\s+\|f\|\n((?:\s*FORCES\|\s+\d+(?:\s+\S+){4}\s*\n)+)",  # from 2025 on
)


def read_cp2k(path: Path) -> Output:
    """Steps of an output of CP2K.

    A step counts as converged if its SCF loop says so and none says that it did not.

    Raises
    ------
    ValueError
        If a run is of a type that moves atoms.
    """
    text = read_text(path)
    runs = [part for part in re.split(r"(?=PROGRAM STARTED AT)", text) if "CP2K|" in part]
    if not runs:
        raise ValueError("no run of CP2K in it")
    for run in runs:
        kind = _found(run, r"GLOBAL\| Run type\s+(\S+)") or "unknown"
        if kind not in ("ENERGY_FORCE", "ENERGY"):
            raise ValueError(
                f"a run of type {kind} prints no positions; import its trajectory as extxyz, with energies and forces"
            )
    settings, details, versions = _about(runs[0])
    if any(_about(run)[0] != settings for run in runs):
        raise ValueError("its runs differ in functional or cutoff; give each level of theory a file of its own")
    return Output("cp2k", tuple(_step(run) for run in runs), settings, details, versions)


def _step(run: str) -> Step:
    rows = re.findall(r"^\s+\d+\s+\d+\s+([A-Z][a-z]?)\s+\d+" + rf"\s+{_NUMBER}" * 3, _coordinates(run), re.MULTILINE)
    periodic = _found(run, r"^ CELL\| Periodicity\s+(\w+)") or "NONE"
    atoms = Atoms(
        [row[0] for row in rows],
        np.array([row[1:] for row in rows], dtype=np.float64),
        cell=_cell(run),
        pbc=[axis in periodic and periodic != "NONE" for axis in "XYZ"],
    )
    # Which it calculates with: of a neutral singlet nothing need be said.
    charge, multiplicity = (int(_found(run, rf"DFT\| {name}\s+(-?\d+)") or 0) for name in ("Charge", "Multiplicity"))
    if charge:
        atoms.info["charge"] = charge
    if multiplicity > 1:
        atoms.info["multiplicity"] = multiplicity
    energy = _found(run, r"ENERGY\| Total FORCE_EVAL[^\n]*?(-?\d+\.\d+)\s*$")
    forces = next((found[1] for pattern in _FORCES if (found := re.search(pattern, run, re.DOTALL))), None)
    return Step(
        atoms,
        None if energy is None else float(energy) * _UNITS["Hartree"],
        None if forces is None else _columns(forces) * _UNITS["Hartree"] / _UNITS["Bohr"],
        _stress(run),
        converged="SCF run converged" in run and "SCF run NOT converged" not in run,
    )


def _coordinates(run: str) -> str:
    start = run.find("ATOMIC COORDINATES IN ANGSTROM")
    if start < 0:
        start = run.find("Atomic coordinates in angstrom")
    if start < 0:
        raise ValueError("a run prints no coordinates; run with PRINT_LEVEL MEDIUM, or print SUBSYS%ATOMIC_COORDINATES")
    return run[start : run.find("\n\n\n", start + 200)]


def _columns(table: str) -> NDArray[np.float64]:
    """Three components of each row; before them stand other columns, after them perhaps the norm."""
    rows = [row.replace("FORCES|", "").split() for row in table.strip().splitlines()]
    first = 3 if rows[0][2][0].isalpha() else 1
    return np.array([row[first : first + 3] for row in rows], dtype=np.float64)


def _stress(run: str) -> NDArray[np.float64] | None:
    rows = re.findall(r"STRESS\|\s+[xyz]" + rf"\s+{_NUMBER}" * 3, run)[:3]
    if len(rows) < 3 or "stress tensor [GPa]" not in run:
        return None
    # Pressure is positive in CP2K.
    stress: NDArray[np.float64] = full_3x3_to_voigt_6_stress(-GPA * np.array(rows, dtype=np.float64))
    return stress


def _cell(run: str) -> NDArray[np.float64]:
    vectors = re.findall(
        r"^ CELL\| Vector \w \[angstrom\]?:?" + rf"\s+{_NUMBER}" * 3 + rf"\s+\|\w\| =\s+{_NUMBER}", run, re.M
    )
    angles = re.findall(rf"^ CELL\| Angle \(\w,\w\), \w+\s+\[degree\]:\s+{_NUMBER}", run, re.M)
    if len(vectors) < 3 or len(angles) < 3:
        raise ValueError("a run prints no cell")
    printed = np.array([row[:3] for row in vectors[:3]], dtype=np.float64)
    lengths = [float(row[3]) for row in vectors[:3]]
    sharp = np.asarray(Cell.fromcellpar([*lengths, *map(float, angles[:3])]).array)
    # The rotation that takes lengths and angles to the printed vectors (Kabsch); most cells need none.
    if np.abs(sharp - printed).max() < 6e-4:
        return sharp
    u, _, vt = np.linalg.svd(sharp.T @ printed)
    turn = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
    return np.asarray(sharp @ turn, dtype=np.float64)


def _about(run: str) -> tuple[dict[str, object], dict[str, object], dict[str, str]]:
    """Settings, details and version that a run tells."""
    # DFT-D3 and BJ Damping stand in lines of their own; of other kinds the first line is the name.
    dispersion = re.findall(r"vdW POTENTIAL\|\s+(DFT-\S+|\w+ Damping(?=:))", run)
    dispersion = dispersion or re.findall(r"vdW POTENTIAL\|\s+(\S.*?)\s*$", run, re.MULTILINE)[:1]
    settings: dict[str, object] = {"dispersion": ", ".join(dispersion) or "none"}
    functionals = re.findall(r"^ FUNCTIONAL\| ([A-Z][\w ]*):", run, re.MULTILINE)
    if functionals:
        settings["functional"] = "+".join(dict.fromkeys(functionals))
    if (method := _found(run, r"QS\| Method:\s+(\S+)")) is not None:
        settings["method"] = method
    for name, pattern in (
        ("cutoff_Ry", r"QS\| Density cutoff \[a\.u\.\]:\s+([\d.]+)"),
        ("relative_cutoff_Ry", r"QS\| Relative density cutoff \[a\.u\.\]:\s+([\d.]+)"),
    ):
        if (value := _found(run, pattern)) is not None:
            settings[name] = 2 * float(value)
    details: dict[str, object] = {"spin": 2 if "(UKS)" in run else 1}
    kinds = re.findall(
        r"Atomic kind: (\S+).*?Orbital Basis Set\s+(\S+).*?Potential information for\s+(\S+)", run, re.DOTALL
    )
    if kinds:
        details["pseudopotentials"] = {re.split(r"[_\d]", kind)[0]: f"{pot} {basis}" for kind, basis, pot in kinds}
    if (mesh := _found(run, r"BRILLOUIN\| K-[Pp]oint grid\s+(\d+\s+\d+\s+\d+)")) is not None:
        details["kpoints"] = [int(n) for n in mesh.split()]
    version = _found(run, r"CP2K\| version string:\s+CP2K version (\S+)")
    return settings, details, {} if version is None else {"cp2k": version}


def _found(text: str, pattern: str) -> str | None:
    match = re.search(pattern, text, re.MULTILINE)
    return None if match is None else match[1]
