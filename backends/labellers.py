"""Labellers by name, the task that labels one frame in a worker, and how its outcome is published."""

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from curator.backends.base import LabelFailed, Labeller, LabellerSpec, cpu_seconds, one_line
from curator.backends.calculator import FailedCalculation, LabellerCalculator
from curator.backends.foreign import ForeignError, make_foreign
from curator.backends.geometry import geometry_problem
from curator.backends.program import OUT_OF_MEMORY
from curator.datasets.frame import Frame, atoms_from_frame
from curator.datasets.journal import Failure, Journal
from curator.datasets.label import Label, Provenance, Record, Theory
from curator.learners.reference import is_mini_halides, split_head


@dataclass(frozen=True, slots=True)
class CalculatorLabeller:
    """Labels with an ASE calculator.

    Attributes
    ----------
    theory
        Level of theory of its labels.
    calculator
        ASE calculator with energy, forces and, where it has one and the cell allows, stress.
    cutoff_A
        An atom without a neighbour within this distance in Å is refused: a local potential knows nothing of it. None
        where an atom may be alone.
    """

    theory: Theory
    calculator: Calculator
    cutoff_A: float | None

    def label(self, atoms: Atoms) -> Label | LabelFailed:
        """Label of ``atoms``, which are not changed; a failed calculation is returned, never raised.

        Raises
        ------
        ForeignError
            If the calculator's process cannot be started: nothing is wrong with the frame.
        """
        started = cpu_seconds()
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
        except ForeignError:
            raise
        except FailedCalculation as error:
            return LabelFailed(error.reason, error.message, key)
        except Exception as error:
            message = one_line(error)
            return LabelFailed("memory" if OUT_OF_MEMORY.search(message) else "crash", message, key)
        if not (np.isfinite(energy) and np.isfinite(forces).all() and (stress is None or np.isfinite(stress).all())):
            return LabelFailed("nonfinite", "energy, forces or stress are not finite numbers", key)
        elsewhere_s = getattr(self.calculator, "cpu_s", 0.0)
        return Label(float(energy), forces, stress, key, cpu_seconds() - started + elsewhere_s)


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
    labeller = _new_labeller(spec)
    return labeller.calculator if isinstance(labeller, CalculatorLabeller) else LabellerCalculator(labeller)


def at_charge(spec: LabellerSpec, charge: int, multiplicity: int) -> LabellerSpec:
    """The same labeller for frames of another charge and multiplicity, where that is part of its settings."""
    settings = json.loads(spec.settings)
    of_program = spec.kind == "dft" and not spec.calculator
    if not of_program and "charge" not in settings:
        return spec
    settings |= {"charge": charge, "multiplicity": multiplicity}
    if spec.calculator and not multiplicity:
        del settings["multiplicity"]
    return replace(spec, settings=json.dumps(settings, sort_keys=True))


def label_frame(spec: LabellerSpec, frame: Frame) -> Label | LabelFailed:
    """Label one frame: the task that runs in a worker. ``cpu_s`` counts the calculation, not loading the model."""
    return make_labeller(spec).label(atoms_from_frame(frame))


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


def _new_labeller(spec: LabellerSpec) -> Labeller:
    if spec.calculator:
        return CalculatorLabeller(*make_foreign(spec), None)
    if spec.kind == "semiempirical":
        from curator.backends.xtb import XtbCalculator, xtb_theory

        return CalculatorLabeller(xtb_theory(spec.model), XtbCalculator(spec.model), None)
    if spec.kind == "dft":
        return _dft_labeller(spec)
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


def _dft_labeller(spec: LabellerSpec) -> Labeller:
    if spec.model == "espresso":
        from curator.backends.espresso import make_espresso

        return make_espresso(spec)
    if spec.model == "vasp":
        from curator.backends.vasp import make_vasp

        return make_vasp(spec)
    if spec.model == "gpaw":
        from curator.backends.gpaw import make_gpaw

        return make_gpaw(spec)
    raise ValueError(f"no code {spec.model!r}; there are espresso, vasp and gpaw")
