"""What makes labels: the protocol, its failure as a value, and the test every labeller must pass."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_strain
from numpy.typing import NDArray

from curator.datasets.label import Label, Theory

FailureReason = Literal["scf", "walltime", "memory", "crash", "parse", "nonfinite", "geometry", "input"]


@dataclass(frozen=True, slots=True)
class LabelFailed:
    """A calculation that did not give a label. It goes to quarantine, never to training."""

    reason: FailureReason
    message: str
    theory: str


class SetupError(RuntimeError):
    """What is to calculate cannot work as it is set up, whatever the frame, which may be tried again."""


@runtime_checkable
class Labeller(Protocol):
    """Calculates energy, forces and, where it can, stress of a configuration."""

    @property
    def theory(self) -> Theory:
        """Level of theory of every label it makes."""
        ...

    def label(self, atoms: Atoms) -> Label | LabelFailed:
        """Label of ``atoms``, which are not changed; a failed calculation is returned, never raised.

        Raises
        ------
        SetupError
            If it could calculate no frame at all.
        """
        ...


@dataclass(frozen=True, slots=True)
class LabellerSpec:
    """Names a labeller by plain values, so that a worker in another process can build it.

    Attributes
    ----------
    kind
        ``pseudolabel``, ``classical``, ``dft`` or ``semiempirical``.
    model
        ``chgnet:r2scan``, ``chgnet:0.3.0``, ``chgnet:0.2.0``, a MACE model (``mini-halides``,
        ``mace:medium-mpa-0``, a path; ``#<head>`` chooses a head), ``lif-fumi-tosi``, ``gfn1-xtb``, ``gfn2-xtb``, the
        code of ``dft`` (``espresso``, ``vasp``, ``gpaw``), or, with ``calculator``, the name of its level of theory.
    device
        ``cpu``, ``cuda`` or ``auto``.
    trust
        Whether a pickled model that is not a known foundation model may be loaded.
    settings
        JSON object with the settings of a code, such as those of
        `curator.backends.espresso_input.EspressoSettings`, or the keyword parameters of ``calculator``.
    command
        How a program is run; empty for the code's own default.
    walltime_s
        Longest time of one run of a program, or of one calculation in another process, in seconds.
    scratch
        Folder in which programs run and failed calculations are kept; a temporary one if empty.
    calculator
        Any ASE calculator, as ``module:Class``.
    python
        Interpreter of the environment that has ``calculator``; this one if empty.
    folder
        Where files that parameters of ``calculator`` name count from, and where its module may be; no module, and the
        current folder for files, if empty.
    """

    kind: Literal["pseudolabel", "classical", "dft", "semiempirical"]
    model: str
    device: str = "auto"
    trust: bool = False
    settings: str = "{}"
    command: str = ""
    walltime_s: float = 86400.0
    scratch: str = ""
    calculator: str = ""
    python: str = ""
    folder: str = ""

    def run_in(self, folder: Path) -> "LabellerSpec":
        """The same labeller, whose programs run in a folder."""
        return replace(self, scratch=str(folder.absolute()))


def cpu_seconds() -> float:
    """CPU seconds of this process and of the programs it has run and waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def one_line(error: BaseException) -> str:
    """Kind and message of an exception on one line of at most 300 characters."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 300 else text[:299] + "…"


class NotALabeller(AssertionError):
    """A labeller breaks its contract; the message begins with the clause."""


def check_labeller(
    labeller: Labeller,
    atoms: Atoms,
    *,
    energy_tolerance_eV_per_atom: float = 1e-4,
    force_tolerance_eV_per_A: float = 0.01,
    stress_tolerance_eV_per_A3: float = 1e-4,
    displacement_A: float = 0.01,
    strain: float = 2e-3,
) -> None:
    """Test whether a labeller keeps its contract; every labeller of curator passes.

    It takes about 25 labels: central differences of the energy give four force components and, where there is a
    stress, all of its six.

    Parameters
    ----------
    labeller
        The one to test.
    atoms
        A small configuration that it can label, without symmetry, so that no force or stress vanishes.
    energy_tolerance_eV_per_atom, force_tolerance_eV_per_A, stress_tolerance_eV_per_A3
        Largest difference where the contract asks for equality; DFT with loose settings may need more.
    displacement_A, strain
        Steps of the central differences.

    Raises
    ------
    NotALabeller
        If a clause is broken.
    ValueError
        If the largest force on ``atoms`` is less than ten times the tolerance: the test would prove nothing.
    """
    key = labeller.theory.key
    _require(labeller.theory.key == key, "theory", "its key changes from one look to the next")

    def labelled(configuration: Atoms, clause: str) -> Label:
        outcome = _outcome(labeller, configuration, clause)
        if isinstance(outcome, LabelFailed):
            raise NotALabeller(f"{clause}: no label but {outcome.reason} ({outcome.message})")
        _require(outcome.theory == key, "theory", f"the label names {outcome.theory}, the labeller {key}")
        shape = (len(configuration), 3)
        _require(outcome.forces.shape == shape, "shapes", f"forces are {outcome.forces.shape}, not {shape}")
        return outcome

    before = _state(atoms)
    label = labelled(atoms, "label")
    _require(_state(atoms) == before, "unchanged", "label() changed the atoms it was given")
    if np.abs(label.forces).max() < 10.0 * force_tolerance_eV_per_A:
        raise ValueError("forces on these atoms are too small to test a labeller with; rattle them by 0.1 Å")

    def same(other: Label, order: NDArray[np.intp], clause: str) -> None:
        energy = abs(other.energy - label.energy) / len(atoms)
        force = float(np.abs(other.forces - label.forces[order]).max())
        _require(energy <= energy_tolerance_eV_per_atom, clause, f"energy differs by {energy:.2g} eV/atom")
        _require(force <= force_tolerance_eV_per_A, clause, f"forces differ by {force:.2g} eV/Å")
        _require((other.stress is None) == (label.stress is None), clause, "one label has a stress, the other has not")
        if other.stress is not None and label.stress is not None:
            stress = float(np.abs(other.stress - label.stress).max())
            _require(stress <= stress_tolerance_eV_per_A3, clause, f"stress differs by {stress:.2g} eV/Å³")

    order = np.arange(len(atoms))
    same(labelled(atoms, "determinism"), order, "determinism")
    moved = atoms.copy()
    moved.positions += np.array([0.37, -1.21, 5.03])
    same(labelled(moved, "translation"), order, "translation")
    reverse = order[::-1].copy()
    same(labelled(atoms[reverse], "permutation"), reverse, "permutation")

    def slope(change: Callable[[Atoms, float], None], step: float, clause: str) -> float:
        energies = []
        for sign in (1.0, -1.0):
            changed = atoms.copy()
            change(changed, sign * step)
            energies.append(labelled(changed, clause).energy)
        return (energies[0] - energies[1]) / (2.0 * step)

    most = int(np.abs(label.forces).max(axis=1).argmax())
    for atom, axis in {(most, 0), (most, 1), (most, 2), ((most + 1) % len(atoms), 0)}:

        def displace(changed: Atoms, step: float, atom: int = atom, axis: int = axis) -> None:
            changed.positions[atom, axis] += step

        expected, given = -slope(displace, displacement_A, "forces"), float(label.forces[atom, axis])
        what = f"force on atom {atom} along {'xyz'[axis]} is {given:.4f} eV/Å, but -dE/dx is {expected:.4f}"
        _require(abs(expected - given) <= force_tolerance_eV_per_A, "forces", what)

    if label.stress is not None:
        for component, name in enumerate(("xx", "yy", "zz", "yz", "xz", "xy")):

            def stretch(changed: Atoms, step: float, component: int = component) -> None:
                by = voigt_6_to_full_3x3_strain(step * np.eye(6)[component])  # the identity included
                changed.set_cell(changed.cell.array @ by, scale_atoms=True)

            expected = slope(stretch, strain, "stress") / atoms.get_volume()
            given = float(label.stress[component])
            what = f"stress {name} is {given:.5f} eV/Å³, but dE/dε/V is {expected:.5f}"
            _require(abs(expected - given) <= stress_tolerance_eV_per_A3, "stress", what)

    garbage = atoms.copy()
    garbage.positions[1] = garbage.positions[0]
    outcome = _outcome(labeller, garbage, "garbage")
    if not isinstance(outcome, LabelFailed):
        raise NotALabeller("garbage: two atoms at the same place were given a label")
    _require(outcome.reason in get_args(FailureReason), "garbage", f"unknown reason of failure {outcome.reason!r}")
    _require(outcome.theory == key, "theory", f"the failure names {outcome.theory}, the labeller {key}")


def _require(kept: bool, clause: str, message: str) -> None:
    if not kept:
        raise NotALabeller(f"{clause}: {message}")


def _outcome(labeller: Labeller, atoms: Atoms, clause: str) -> Label | LabelFailed:
    try:
        outcome: object = labeller.label(atoms)
    except Exception as error:
        raise NotALabeller(f"{clause}: label() raised {one_line(error)}, instead of returning LabelFailed") from error
    if not isinstance(outcome, Label | LabelFailed):
        raise NotALabeller(f"{clause}: label() returned {type(outcome).__name__}, neither Label nor LabelFailed")
    return outcome


def _state(atoms: Atoms) -> tuple[object, ...]:
    arrays = {name: array.tobytes() for name, array in atoms.arrays.items()}
    cell = atoms.cell.array.tobytes()
    return arrays, cell, atoms.pbc.tobytes(), repr(atoms.info), repr(atoms.constraints), id(atoms.calc)
