"""What all codes share that calculate labels: the ladder of remedies, a judgement of the numbers, the electrons."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from curator.backends.base import FailureReason, LabelFailed, SetupError, cpu_seconds
from curator.backends.geometry import geometry_problem
from curator.backends.program import require_programs
from curator.backends.remedies import Input, Remedy, merged, next_remedy
from curator.datasets.frame import frame_from_atoms
from curator.datasets.label import Label

LARGEST_FORCE_EV_PER_A = 1000.0


@dataclass(frozen=True, slots=True)
class Ended:
    """Why a run gave no label.

    Attributes
    ----------
    reason
        Kind of failure; ``setup`` if every frame would fail alike.
    message
        What the files say, in one line.
    """

    reason: FailureReason | Literal["setup"]
    message: str


@dataclass(frozen=True, slots=True, eq=False)
class Calculated:
    """What a run gave.

    Attributes
    ----------
    energy
        In eV; with smearing the free energy, of which the forces are the derivatives.
    forces
        Shape ``(n_atoms, 3)``, eV/Å, in the order of the atoms that were given.
    stress
        Shape ``(6,)``, eV/Å³, ASE's sign and Voigt order.
    folder
        Where a further run finds the charge density.
    """

    energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64]
    folder: Path


Calculate = Callable[[Input, Path, Path | None], Calculated | Ended]
"""Runs a program once: changes of its input, folder to run in, folder of the run to begin from."""


def label_with_remedies(
    code: str,
    theory: str,
    atoms: Atoms,
    scratch: Path,
    calculate: Calculate,
    *,
    input_problem: Callable[[], str | None],
    command: tuple[Sequence[str], str],
) -> Label | LabelFailed:
    """Label of ``atoms``, with the remedies of a code where a run fails; nothing is run that cannot be right.

    Parameters
    ----------
    code
        Whose ladder is climbed.
    theory
        Key of the level of theory.
    atoms
        What is calculated.
    scratch
        A folder in here is named after frame and theory; after a failure it stays.
    calculate
        One run.
    input_problem
        Why the code cannot be asked about ``atoms``; asked once their geometry is known to be sound.
    command
        What stands before the program, and the program.

    Raises
    ------
    SetupError
        If there is no such program here, or what stops it has nothing to do with the frame.
    """
    if (problem := geometry_problem(atoms)) is not None:
        return LabelFailed("geometry", problem, theory)
    if (problem := input_problem()) is not None:
        return LabelFailed("input", problem, theory)
    require_programs(*command)
    started = cpu_seconds()
    folder = scratch / f"{frame_from_atoms(atoms).hash[:12]}-{theory.rpartition('@')[2]}"
    tried: list[Remedy] = []
    while True:
        result = _attempt(tried, folder, calculate)
        ended = result if isinstance(result, Ended) else absurd(result, len(atoms))
        names = "; ".join(remedy.name for remedy in tried)
        if isinstance(result, Calculated) and ended is None:
            shutil.rmtree(folder, ignore_errors=True)
            stress = result.stress if atoms.pbc.all() else None
            label = Label(result.energy, result.forces, stress, theory, remedy=names)
            return replace(label, cpu_s=cpu_seconds() - started)
        assert ended is not None
        if ended.reason == "setup":
            raise SetupError(f"{ended.message}; files in {folder}")
        remedy = next_remedy(code, ended.reason, tried)
        if remedy is None:
            after = f" (also with: {names})" if tried else ""
            return LabelFailed(ended.reason, f"{ended.message}{after}; files in {folder}", theory)
        tried.append(remedy)


def absurd(result: Calculated, n_atoms: int) -> Ended | None:
    """Why numbers cannot be right; None if they may be."""
    if result.forces.shape != (n_atoms, 3) or result.stress.shape != (6,):
        return Ended("parse", f"the output has forces of shape {result.forces.shape} for {n_atoms} atoms")
    if not all(np.isfinite(each).all() for each in (result.energy, result.forces, result.stress)):
        return Ended("nonfinite", "energy, forces or stress are not finite numbers")
    largest = float(np.abs(result.forces).max())
    if largest > LARGEST_FORCE_EV_PER_A:
        return Ended("nonfinite", f"a force of {largest:.3g} eV/Å is no sensible number")
    return None


def kpoint_grid(atoms: Atoms, spacing_per_A: float) -> tuple[int, int, int]:
    """Γ-centred grid whose points are no farther apart than a spacing in 1/Å; one point where nothing is periodic."""
    lengths = 2 * np.pi * np.linalg.norm(atoms.cell.reciprocal(), axis=1)
    points = np.where(atoms.pbc, np.ceil(lengths / spacing_per_A - 1e-6), 1)
    first, second, third = np.maximum(points, 1).astype(int).tolist()
    return first, second, third


def spin_of(multiplicity: int) -> int:
    """Multiplicity that a level of theory tells; 0 where it is calculated without spin, as 0 and 1 both are."""
    return multiplicity if multiplicity > 1 else 0


def electrons_problem(
    atoms: Atoms, valence: Mapping[str, float], charge: int, multiplicity: int, smearing: Mapping[str, float]
) -> str | None:
    """Tell why the electrons of a configuration do not fit a level of theory; None if they do.

    Parameters
    ----------
    atoms
        With their charge in ``info``, if any.
    valence
        Electrons of an element that are calculated.
    charge, multiplicity
        Of the level of theory.
    smearing
        The key of the campaign file that lets levels be filled in part, and its value.
    """
    given = int(atoms.info.get("charge", 0))
    if given != charge:
        return f"the frame has a charge of {given:+d}, the level of theory one of {charge:+d}"
    electrons = sum(valence[symbol] for symbol in atoms.symbols) - charge
    ((key, width),) = smearing.items()
    where = "in a campaign's system, or as charge=1 or multiplicity=2 in the frame's info"
    if width == 0 and multiplicity < 2 and round(electrons) % 2:
        return (
            f"{electrons:g} electrons cannot fill levels in pairs: give a charge or a multiplicity of 2 ({where}), "
            f"or label.{key}"
        )
    if multiplicity > 1 and (round(electrons) - multiplicity + 1) % 2:
        return f"{electrons:g} electrons cannot have a multiplicity of {multiplicity}: give another ({where})"
    return None


def _attempt(tried: list[Remedy], folder: Path, calculate: Calculate) -> Calculated | Ended:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    changes = merged(*(remedy.changes for remedy in tried))
    if not tried or not tried[-1].first:
        return calculate(changes, folder, None)
    before = folder / "before"
    before.mkdir()
    first = calculate(merged(changes, tried[-1].first), before, None)
    return first if isinstance(first, Ended) else calculate(changes, folder, first.folder)
