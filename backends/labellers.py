"""Labellers by name, the task that labels one frame in a worker, and how its outcome is published."""

import time
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.data import covalent_radii
from ase.geometry import complete_cell
from matscipy.neighbours import neighbour_list

from curator.backends.base import LabelFailed, Labeller, LabellerSpec, one_line
from curator.datasets.frame import Frame, atoms_from_frame
from curator.datasets.journal import Failure, Journal
from curator.datasets.label import Label, Provenance, Record, Theory
from curator.learners.reference import is_mini_halides, split_head

CLOSEST: float = 0.5
"""Atoms closer than this fraction of the sum of their covalent radii are not worth a calculation."""


@dataclass(frozen=True, slots=True)
class CalculatorLabeller:
    """Labels with an ASE calculator.

    Attributes
    ----------
    theory
        Level of theory of its labels.
    calculator
        ASE calculator with energy, forces and, where the cell allows, stress.
    cutoff_A
        An atom without a neighbour within this distance in Å is refused: a local potential knows nothing of it.
    """

    theory: Theory
    calculator: Calculator
    cutoff_A: float

    def label(self, atoms: Atoms) -> Label | LabelFailed:
        """Label of ``atoms``, which are not changed; a failed calculation is returned, never raised."""
        started = time.process_time()
        key = self.theory.key
        problem = geometry_problem(atoms, self.cutoff_A)
        if problem is not None:
            return LabelFailed("geometry", problem, key)
        bare = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info=atoms.info)
        try:
            wanted = ["energy", "forces", "stress"] if bare.pbc.all() else ["energy", "forces"]
            self.calculator.calculate(bare, wanted, all_changes)
            results = self.calculator.results
            energy, forces, stress = results["energy"], results["forces"], results.get("stress")
        except Exception as error:
            return LabelFailed("crash", one_line(error), key)
        if not (np.isfinite(energy) and np.isfinite(forces).all() and (stress is None or np.isfinite(stress).all())):
            return LabelFailed("nonfinite", "energy, forces or stress are not finite numbers", key)
        return Label(float(energy), forces, stress, key, time.process_time() - started)


def geometry_problem(atoms: Atoms, cutoff_A: float) -> str | None:
    """Tell what makes a configuration not worth a calculation; None if nothing does.

    Parameters
    ----------
    atoms
        Configuration to judge.
    cutoff_A
        Distance in Å within which every atom must have a neighbour.
    """
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        return "positions or cell are not finite numbers"
    if atoms.pbc.any() and atoms.cell.rank < int(atoms.pbc.sum()):
        return "a periodic direction has no cell vector"
    i, j, distance = neighbour_list(
        "ijd", positions=atoms.positions, cell=complete_cell(atoms.cell), pbc=atoms.pbc, cutoff=cutoff_A
    )
    lonely = np.flatnonzero(np.bincount(i, minlength=len(atoms)) == 0)
    if len(lonely):
        return f"atom {lonely[0]} ({atoms.symbols[lonely[0]]}) has no neighbour within {cutoff_A:g} Å"
    allowed = CLOSEST * (covalent_radii[atoms.numbers[i]] + covalent_radii[atoms.numbers[j]])
    worst = int(np.argmin(distance / allowed))
    if distance[worst] < allowed[worst]:
        a, b = int(i[worst]), int(j[worst])
        return (
            f"atoms {a} ({atoms.symbols[a]}) and {b} ({atoms.symbols[b]}) are {distance[worst]:.2f} Å apart, "
            f"less than {allowed[worst]:.2f} Å"
        )
    return None


@lru_cache(maxsize=8)
def make_labeller(spec: LabellerSpec) -> Labeller:
    """Labeller that a spec names; made once per process, so that a worker loads a model once.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    return _new_labeller(spec)


def labeller_calculator(spec: LabellerSpec) -> Calculator:
    """ASE calculator of the same theory as the labeller's, a new one at each call: to relax a cell, a saddle, a path.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    return _new_labeller(spec).calculator


def label_frame(spec: LabellerSpec, frame: Frame) -> Label | LabelFailed:
    """Label one frame: the task that runs in a worker. ``cpu_s`` counts the calculation, not loading the model."""
    labeller = make_labeller(spec)
    started = time.process_time()
    outcome = labeller.label(atoms_from_frame(frame))
    return replace(outcome, cpu_s=time.process_time() - started) if isinstance(outcome, Label) else outcome


def publish_outcome(
    journal: Journal, frame: Frame, outcome: Label | LabelFailed, provenance: Provenance, theory: Theory
) -> None:
    """Write what a labeller said about a frame into the journal: its label, or why it is in quarantine.

    Raises
    ------
    DriverError, ValueError, OSError
        As `Journal.publish`.
    """
    if isinstance(outcome, Label):
        journal.publish(Record(frame, outcome, provenance), theory)
    else:
        journal.publish(Failure(frame, outcome.theory, outcome.reason, outcome.message, provenance), theory)


def _new_labeller(spec: LabellerSpec) -> CalculatorLabeller:
    if spec.kind == "classical":
        if spec.model != "lif-fumi-tosi":
            raise ValueError(f"no classical potential {spec.model!r}; there is lif-fumi-tosi")
        from curator.backends.classical import CUTOFF_A, FumiTosiLiF, fumi_tosi_theory

        return CalculatorLabeller(fumi_tosi_theory(), FumiTosiLiF(), CUTOFF_A)
    from curator.backends import pseudolabel

    if spec.model.startswith("chgnet:"):
        version = spec.model.removeprefix("chgnet:")
        calculator = pseudolabel.ChgnetCalculator(version, spec.device)
        return CalculatorLabeller(pseudolabel.chgnet_theory(version), calculator, pseudolabel.CHGNET_CUTOFF_A)
    name, _ = split_head(spec.model)
    if not is_mini_halides(name) and not name.startswith("mace:") and not Path(name).exists():
        raise ValueError(
            f"no labeller {spec.model!r}; there are chgnet:r2scan, chgnet:0.3.0, chgnet:0.2.0, mini-halides, "
            "mace:<name>, a path to a MACE model, and lif-fumi-tosi (kind classical)"
        )
    model = pseudolabel.load_mace(spec.model, spec.device, spec.trust)
    return CalculatorLabeller(pseudolabel.mace_theory(spec.model, model), model.calculator(), model.r_max)
