"""Exam of the embedded foundation model `mini-halides` against its teacher."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.data import chemical_symbols
from ase.optimize import FIRE
from scipy.optimize import brentq

from curator.backends.base import LabelFailed, LabellerSpec
from curator.backends.classical import FumiTosiLiF
from curator.backends.labellers import labeller_calculator, make_labeller
from curator.barriers.barrier import Barrier, find_barrier
from curator.datasets.contacts import closest_distance, contact
from curator.datasets.frame import Frame, atoms_from_frame, frame_from_atoms
from curator.datasets.label import Provenance, Record
from curator.datasets.mini_halides.structures import CHGNET_LATTICE_CONSTANTS_A, knock_off
from curator.datasets.sources import Hop, build_seed
from curator.distil.card import cpu_s_per_step, errors_by_kind, errors_of
from curator.learners.dimers import falls
from curator.learners.mace import MaceModel
from curator.md import run_md
from curator.trajectory import MDSettings, Trajectory, frames

SURVIVAL_TEMPERATURE_K = 1000.0
SURVIVAL_PS = 20.0
N_SURVIVAL = 5
BARRIER_LATTICE_CONSTANTS_A = (4.03, 4.0905)
N_WALL_POINTS = 81
FOREIGN_TEMPERATURES_K = (600.0, 700.0, 800.0, 900.0, 1000.0)
FOREIGN_PS = 2.5
FOREIGN_EQUILIBRATION_PS = 0.5


def examine(model: MaceModel, probes: Sequence[Record], teacher: LabellerSpec, work: Path) -> dict[str, Any]:
    """All results, as JSON values; the trajectories are kept in ``work`` and continued from there."""
    reference = labeller_calculator(teacher)
    trajectories, survival = survive(model, work)
    return {
        "errors_by_kind": errors_by_kind(model, probes, thermal_and_condensed(probes)),
        "lattice_constants_A": lattice_constants(model, reference),
        "survival": survival,
        "own_trajectories": errors_on(model, _thinned(trajectories), teacher),
        "foreign_trajectories": errors_on(model, foreign_frames(), teacher),
        "barrier": [barriers(model, reference, a) for a in BARRIER_LATTICE_CONSTANTS_A],
        "cpu_s_per_md_step": speed(model),
        "wall_eV": walls(model),
    }


def thermal_and_condensed(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Groups by which the card reports errors besides kinds."""
    return {
        "LiF with an interstitial, thermal": [
            r for r in records if r.provenance.source in ("md-33", "md-65") and set(r.frame.numbers.tolist()) == {3, 9}
        ],
        "condensed": [r for r in records if r.provenance.source not in ("contact", "surface")],
    }


def lattice_constants(model: MaceModel, reference: Calculator) -> dict[str, dict[str, float]]:
    """Rocksalt lattice constants in Å at which the pressure vanishes, by model and teacher."""
    calculator = model.double().calculator()
    table = {}
    for formula in CHGNET_LATTICE_CONSTANTS_A:
        own, theirs = (_lattice_constant(formula, calc) for calc in (calculator, reference))
        table[formula] = {"model": own, "teacher": theirs, "deviation_percent": 100 * (own / theirs - 1)}
    return table


def _lattice_constant(formula: str, calculator: Calculator) -> float:
    guess = CHGNET_LATTICE_CONSTANTS_A[formula]

    def mean_stress(a: float) -> float:
        atoms = bulk(formula, "rocksalt", a=a, cubic=True)
        atoms.calc = calculator
        return float(atoms.get_stress()[:3].mean())

    return float(brentq(mean_stress, 0.94 * guess, 1.06 * guess, xtol=1e-4))


def survive(model: MaceModel, work: Path) -> tuple[list[Trajectory], dict[str, Any]]:
    """Five trajectories of 20 ps at 1000 K of LiF with an interstitial in 65 atoms, from a relaxed-cell start."""
    seed = build_seed("lif-interstitial", CHGNET_LATTICE_CONSTANTS_A["LiF"])
    settings = MDSettings(temperature_K=SURVIVAL_TEMPERATURE_K, duration_ps=SURVIVAL_PS)
    calculator = model.calculator()
    trajectories = [
        run_md(
            seed.frame,
            calculator,
            settings,
            seed=(1, n),
            folder=work / f"survival-{model.hash[:12]}-{n}",
            model=model.hash,
        )
        for n in range(N_SURVIVAL)
    ]
    return trajectories, {
        "temperature_K": SURVIVAL_TEMPERATURE_K,
        "duration_ps": SURVIVAL_PS,
        "n_trajectories": N_SURVIVAL,
        "n_exploded": sum(trajectory.status == "exploded" for trajectory in trajectories),
        "reasons": [trajectory.reason for trajectory in trajectories if trajectory.reason],
        "mean_temperature_K": [float(trajectory.temperatures_K[10:].mean()) for trajectory in trajectories],
        "max_force_eV_per_A": float(max(trajectory.max_forces_eV_per_A.max() for trajectory in trajectories)),
    }


def _thinned(trajectories: Iterable[Trajectory]) -> Iterator[Frame]:
    """Four frames of each trajectory."""
    for trajectory in trajectories:
        stored = frames(trajectory)
        yield from stored[len(stored) // 4 :: max(1, len(stored) // 4)]


def foreign_frames() -> Iterator[Frame]:
    """Hundred frames of LiF with an interstitial, 65 atoms, 600 to 1000 K, from dynamics of the classical potential.

    A model's own dynamics avoids what the model takes for uphill, and so cannot show where it is wrong.
    """
    seed = build_seed("lif-interstitial", CHGNET_LATTICE_CONSTANTS_A["LiF"])
    for n, temperature_K in enumerate(FOREIGN_TEMPERATURES_K):
        settings = MDSettings(temperature_K=temperature_K, duration_ps=FOREIGN_PS)
        trajectory = run_md(seed.frame, FumiTosiLiF(), settings, seed=(2, n))
        stored = zip(frames(trajectory), trajectory.times_ps, strict=True)
        yield from (frame for frame, time_ps in stored if time_ps > FOREIGN_EQUILIBRATION_PS)


def errors_on(model: MaceModel, drawn: Iterable[Frame], teacher: LabellerSpec) -> dict[str, Any]:
    """Errors on frames that are labelled afresh: nothing was trained on them."""
    labeller = make_labeller(teacher)
    origin = Provenance(-1, "exam", "exam", "test", "test")
    labels = ((frame, labeller.label(atoms_from_frame(frame))) for frame in drawn)
    records = [Record(frame, label, origin) for frame, label in labels if not isinstance(label, LabelFailed)]
    return dict(errors_of(model, records))


def barriers(model: MaceModel, reference: Calculator, lattice_constant_A: float) -> dict[str, Any]:
    """Barrier of the knock-off hop of the interstitial in LiF (65 atoms) by model and teacher, as JSON values."""
    theirs = find_barrier(_knock_off_hop(lattice_constant_A), reference, fmax_eV_per_A=0.02)
    own, teacher_at_model_eV = own_barrier(model, reference, lattice_constant_A)
    return {
        "lattice_constant_A": lattice_constant_A,
        "model_eV": own.barrier_eV,
        "teacher_eV": theirs.barrier_eV,
        "teacher_at_model_eV": teacher_at_model_eV,
        "method": {"model": own.method, "teacher": theirs.method},
        "reasons": {"the model": list(own.reasons), "CHGNet": list(theirs.reasons)},
    }


def own_barrier(model: MaceModel, reference: Calculator, lattice_constant_A: float) -> tuple[Barrier, float | None]:
    """Barrier of the knock-off hop by the model alone, in double precision, and what its teacher says there.

    That is the teacher's energy difference in eV between the model's saddle and minimum; None if there is no saddle.
    """
    own = find_barrier(_knock_off_hop(lattice_constant_A), model.double().calculator())
    energies = []
    for frame in (own.minimum, own.saddle):
        if frame is not None:
            atoms = atoms_from_frame(frame)
            atoms.calc = reference
            energies.append(float(atoms.get_potential_energy()))
    return own, energies[1] - energies[0] if len(energies) == 2 else None


def _knock_off_hop(lattice_constant_A: float) -> Hop:
    hop = build_seed("lif-interstitial", lattice_constant_A).hop
    assert hop is not None
    return hop


def speed(model: MaceModel, n_steps: int = 8) -> dict[str, float]:
    """CPU seconds of a molecular dynamics step of 65 atoms: the model, and CHGNet's own calculator as it comes."""
    from chgnet.model.dynamics import CHGNetCalculator

    frame = build_seed("lif-interstitial", CHGNET_LATTICE_CONSTANTS_A["LiF"]).frame
    own = cpu_s_per_step(model.calculator(), frame, 5 * n_steps)
    stock = cpu_s_per_step(CHGNetCalculator(use_device="cpu"), frame, n_steps)
    return {"model": own, "chgnet_stock_calculator": stock, "ratio": stock / own}


def walls(model: MaceModel) -> dict[str, dict[str, float]]:
    """Height in eV of the repulsive wall between neighbours of each kind, in nine crystals and next to an interstitial.

    Two neighbours are pushed together from the distance they have down to a fifth of it, all other atoms held; the
    wall ends where the energy first falls. What lies behind it is extrapolation, and must be out of reach of any
    thermal motion.
    """
    hosts = {formula: bulk(formula, "rocksalt", a=a).repeat(2) for formula, a in CHGNET_LATTICE_CONSTANTS_A.items()}
    defective = knock_off("LiF", 0.0, (2, 2, 2))
    defective.calc = model.calculator()
    FIRE(defective, logfile=None).run(fmax=0.05, steps=200)
    hosts["LiF with an interstitial"] = defective
    return {name: _walls_of(model, frame_from_atoms(atoms)) for name, atoms in hosts.items()}


def _walls_of(model: MaceModel, host: Frame) -> dict[str, float]:
    heights = {}
    distances = atoms_from_frame(host).get_all_distances(mic=True) + 99 * np.eye(len(host))
    for pair in combinations_with_replacement(sorted(set(host.numbers.tolist())), 2):
        shortest = distances[np.ix_(host.numbers == pair[0], host.numbers == pair[1])].min()
        deepest = 0.8 * shortest / (shortest - closest_distance(pair))
        # The same generator each time draws the same two atoms.
        depths = np.linspace(0.0, deepest, N_WALL_POINTS)
        pushed = [contact(host, pair, depth, np.random.default_rng(0)) for depth in depths]
        predictions = model.predict([frame for frame in pushed if frame is not None], ("energy",))
        energies = np.array([prediction.energy for prediction in predictions])
        top = next((top for top, _ in falls(energies, 0.0)), len(energies) - 1)
        heights["-".join(chemical_symbols[z] for z in pair)] = float(energies[top] - energies[0])
    return heights
