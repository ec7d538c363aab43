"""Molecular dynamics: the one engine that exploration and measurement share.

NVT Langevin dynamics, run in chunks. A finished chunk is a file with its frames and the whole state (positions,
momenta, random generator), so a run that is killed loses at most one chunk and, started again, gives the trajectory
an undisturbed run gives, bit for bit, as long as the calculator gives the same forces for the same calls. The same
holds for a run that is made longer, in one go or in several.
"""

import copy
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.data import covalent_radii
from ase.md.langevinbaoab import LangevinBAOAB
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from matscipy.neighbours import neighbour_list
from numpy.typing import NDArray

from curator.datasets.frame import Frame, atoms_from_frame
from curator.datasets.units import FS, GPA
from curator.positions import search_cell
from curator.trajectory import (
    Chunk,
    Gates,
    MDSettings,
    State,
    Trajectory,
    check_header,
    join_chunks,
    read_chunks,
    run_header,
    write_chunk,
)

DEFAULT_GATES = Gates()
HELD_MASS_U = 1e5
"""Mass of an atom that is held: in a picosecond it moves by some 0.1 Å, and equipartition holds all the same."""
RELAXED_FORCE_EV_PER_A = 0.2
"""A start whose largest force is below this counts as a minimum of the potential."""
SAME_FORCE_EV_PER_A = 1e-3
"""Two calculators whose forces differ by more than this are different models; rounding differs by far less."""
N_LAST_FRAMES = 5
"""Sane frames kept from just before an explosion."""


def run_md(
    start: Frame,
    calculator: Calculator,
    settings: MDSettings,
    *,
    seed: int | Sequence[int],
    gates: Gates = DEFAULT_GATES,
    folder: Path | None = None,
    model: str = "",
    on_progress: Callable[[float, float], None] | None = None,
) -> Trajectory:
    """Run, or continue, a trajectory.

    The integrator is ASE's BAOAB splitting of Langevin dynamics (Leimkuhler and Matthews, J. Chem. Phys. 138, 174102
    (2013)) with the centre of mass left free. Velocities begin from a Maxwell-Boltzmann distribution: at twice the
    temperature if the start is relaxed (largest force below 0.2 eV/Å), since half of that kinetic energy goes to the
    potential within a vibration (equipartition), and at the temperature otherwise.

    Parameters
    ----------
    start
        Where it begins.
    calculator
        Any ASE calculator with energy and forces, and stress if the pressure is wanted.
    settings
        Temperature, length, time step, ...
    seed
        Seed, or seeds in the sense of ``numpy.random.SeedSequence``, of velocities and thermostat.
    gates
        When to give a trajectory up as exploded.
    folder
        Where chunks are kept; whatever is there is continued. None keeps nothing.
    model
        Identity of the model behind the calculator, such as its hash; written to the folder and compared.
    on_progress
        Called with (ps done, ps in total) at each stored frame.

    Raises
    ------
    ValueError
        If the folder holds chunks of another run (start, settings, seed, gates or model), or the calculator's forces
        are not those the chunks were made with.
    """
    key = (int(seed),) if isinstance(seed, int | np.integer) else tuple(int(part) for part in seed)
    chunks: list[Chunk] = []
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        check_header(folder, run_header(start, settings, key, gates, model))
        chunks = read_chunks(folder)
    if chunks:
        _check_forces(start, calculator, settings, chunks[-1].state, folder)
        chunks = _to_continue(chunks, settings)
    state = chunks[-1].state if chunks else _initial_state(start, calculator, settings, key)
    while state.step < settings.n_steps and not (chunks and chunks[-1].reason):
        chunk = _run_chunk(start, calculator, settings, gates, state, on_progress)
        if folder is not None:
            write_chunk(folder / f"chunk-{len(chunks):04d}.npz", chunk)
        chunks.append(chunk)
        state = chunk.state
    return join_chunks(start, settings, key, chunks)


def min_distance_ratio(frame: Frame, below: float = 1.0) -> float:
    """Smallest pair distance over the sum of the two covalent radii; ``below`` if all are larger than that.

    Radii: Cordero et al., Dalton Trans. 2832 (2008), as in ASE.
    """
    return _min_distance_ratio(frame.positions, frame, below)


def _to_continue(chunks: list[Chunk], settings: MDSettings) -> list[Chunk]:
    """The chunks but for a last one that an earlier, shorter duration cut short, where more is wanted.

    It is run again, whole: a neighbour list remembers where its chunk began, and a run in one go begins no chunk there.
    """
    *before, last = chunks
    began = before[-1].state.step if before else 0
    is_whole = last.state.step - began >= settings.frames_per_chunk * settings.steps_per_frame
    return chunks if is_whole or last.reason or last.state.step >= settings.n_steps else before


def _check_forces(
    start: Frame, calculator: Calculator, settings: MDSettings, state: State, folder: Path | None
) -> None:
    difference = np.abs(_atoms(start, calculator, settings, state.positions).get_forces() - state.forces).max()
    if np.isfinite(state.forces).all() and not difference < SAME_FORCE_EV_PER_A:
        raise ValueError(
            f"the calculator's forces differ by {difference:.3g} eV/Å from those the trajectory in {folder} was made "
            "with: another model; use a new folder or remove this one"
        )


def _initial_state(start: Frame, calculator: Calculator, settings: MDSettings, seed: tuple[int, ...]) -> State:
    rng = np.random.default_rng(seed)
    atoms = _atoms(start, calculator, settings)
    forces = atoms.get_forces()
    relaxed = np.abs(forces).max() < RELAXED_FORCE_EV_PER_A
    temperature_K = settings.temperature_K * (2 if relaxed else 1)
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature_K, rng=rng)
    return State(0, atoms.get_positions(), atoms.get_momenta(), forces, json.dumps(rng.bit_generator.state))


def _run_chunk(
    start: Frame,
    calculator: Calculator,
    settings: MDSettings,
    gates: Gates,
    state: State,
    on_progress: Callable[[float, float], None] | None,
) -> Chunk:
    began = time.process_time()
    rng = np.random.default_rng()
    rng.bit_generator.state = json.loads(state.rng)
    # Atoms and integrator are made anew for each chunk, so that a restart takes the very same path.
    atoms = _atoms(start, calculator, settings, state.positions)
    atoms.set_momenta(state.momenta)
    thermostat = {}
    if settings.friction_per_ps > 0:
        thermostat = {"temperature_K": settings.temperature_K, "T_tau": 1000 * FS / settings.friction_per_ps}
    dynamics = LangevinBAOAB(atoms, settings.timestep_fs * FS, rng=rng, **thermostat)

    steps: list[int] = []
    positions: list[NDArray[np.float64]] = []
    columns: list[tuple[float, float, float, float]] = []
    sane: list[NDArray[np.float64]] = []
    step = state.step
    end = min(
        settings.n_steps, (step // settings.steps_per_frame + settings.frames_per_chunk) * settings.steps_per_frame
    )
    reason = _gate(atoms, settings, gates, start, distances=True)
    if step == 0 and not reason:
        steps.append(0)
        positions.append(atoms.get_positions())
        columns.append(_columns(atoms))
    while not reason and step < end:
        if step % gates.distance_interval == 0:
            sane = [*sane[-(N_LAST_FRAMES - 1) :], atoms.get_positions()]
        try:
            dynamics.step()
        except Exception as error:
            # A calculator may choke on wild positions; on sane ones the error is real.
            reason = _geometry_gate(atoms.positions, gates, start)
            if not reason:
                raise
            reason += f"; the calculator raised {type(error).__name__}"
        step += 1
        at_frame = step % settings.steps_per_frame == 0
        reason = reason or _gate(
            atoms, settings, gates, start, distances=at_frame or step % gates.distance_interval == 0
        )
        if at_frame and not reason:
            steps.append(step)
            positions.append(atoms.get_positions())
            columns.append(_columns(atoms))
            if on_progress is not None:
                on_progress(_ps(step, settings), _ps(settings.n_steps, settings))
    if reason:
        reason += f" at {_ps(step, settings):.3f} ps"
    n_atoms = len(start)
    return Chunk(
        steps=np.array(steps, dtype=np.int64),
        positions=np.array(positions, dtype=np.float64).reshape(-1, n_atoms, 3),
        columns=np.array(columns, dtype=np.float64).reshape(-1, 4),
        last_positions=np.array(sane if reason else [], dtype=np.float64).reshape(-1, n_atoms, 3),
        reason=reason,
        cpu_s=time.process_time() - began,
        state=state
        if reason
        else State(
            step, atoms.get_positions(), atoms.get_momenta(), atoms.get_forces(), json.dumps(rng.bit_generator.state)
        ),
    )


def _atoms(
    start: Frame, calculator: Calculator, settings: MDSettings, positions: NDArray[np.float64] | None = None
) -> Atoms:
    atoms = atoms_from_frame(start)
    if settings.held:
        masses = atoms.get_masses()
        masses[list(settings.held)] = HELD_MASS_U
        atoms.set_masses(masses)
    if positions is not None:
        atoms.set_positions(positions)
    atoms.calc = _fresh(calculator)
    return atoms


def _fresh(calculator: Calculator) -> Calculator:
    """Copy of a calculator.

    Many keep a neighbour list between calls, and the order of its sums depends on the past. A copy for each chunk
    keeps the past out. One that cannot be copied is used as it is, and restarts agree to rounding only.
    """
    try:
        return copy.deepcopy(calculator)
    except (TypeError, NotImplementedError, RuntimeError):
        return calculator


def _columns(atoms: Atoms) -> tuple[float, float, float, float]:
    max_force = float(np.linalg.norm(atoms.get_forces(), axis=1).max())
    pressure_GPa = float("nan")
    if "stress" in getattr(atoms.calc, "implemented_properties", ()) and atoms.pbc.all():
        pressure_GPa = -float(atoms.get_stress(include_ideal_gas=True)[:3].mean()) / GPA
    return float(atoms.get_potential_energy()), float(atoms.get_temperature()), max_force, pressure_GPa


def _gate(atoms: Atoms, settings: MDSettings, gates: Gates, start: Frame, *, distances: bool) -> str:
    """Which gate closes, with the value; empty if none."""
    forces, momenta = atoms.get_forces(), atoms.get_momenta()
    if not (np.isfinite(forces).all() and np.isfinite(momenta).all() and np.isfinite(atoms.positions).all()):
        return "a force, momentum or position is not finite"
    force = np.sqrt((forces**2).sum(axis=1).max())
    if force > gates.max_force_eV_per_A:
        return f"largest force {force:.1f} eV/Å exceeds {gates.max_force_eV_per_A:g} eV/Å"
    limit_K = settings.temperature_K * (gates.max_temperature_ratio + 5 * np.sqrt(2 / (3 * len(start))))
    temperature_K = atoms.get_temperature()
    if temperature_K > limit_K:
        return f"temperature {temperature_K:.0f} K exceeds {limit_K:.0f} K"
    return _geometry_gate(atoms.positions, gates, start) if distances else ""


def _geometry_gate(positions: NDArray[np.float64], gates: Gates, start: Frame) -> str:
    if not np.isfinite(positions).all():
        return "a position is not finite"
    ratio = _min_distance_ratio(positions, start, gates.min_distance_ratio)
    if ratio < gates.min_distance_ratio:
        return f"a pair distance of {ratio:.2f} covalent radii sums is below {gates.min_distance_ratio:g}"
    return ""


def _min_distance_ratio(positions: NDArray[np.float64], like: Frame, below: float) -> float:
    radii = covalent_radii[like.numbers]
    cell = search_cell(positions, like.cell, like.pbc)
    i, j, distance = neighbour_list("ijd", positions=positions, cell=cell, pbc=like.pbc, cutoff=below * radii)
    return float((distance / (radii[i] + radii[j])).min(initial=below))


def _ps(step: int, settings: MDSettings) -> float:
    return step * settings.timestep_fs / 1000
