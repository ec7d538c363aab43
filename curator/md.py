"""Molecular dynamics: the one engine that exploration and measurement share.

NVT Langevin dynamics, run in chunks. A finished chunk is a file with its frames and the whole state (positions,
momenta, random generator), so a run that is killed loses at most one chunk and, started again, gives the trajectory
an undisturbed run gives, bit for bit, as long as the calculator's forces depend on the positions alone.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.data import covalent_radii
from ase.md.langevinbaoab import LangevinBAOAB
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from matscipy.neighbours import neighbour_list
from numpy.typing import NDArray

from curator.datasets.atomic import atomic_path
from curator.datasets.frame import Frame, atoms_from_frame
from curator.datasets.units import FS, GPA

Status = Literal["completed", "exploded"]

HEADER = "header.json"
RELAXED_FORCE_EV_PER_A = 0.2
"""A start whose largest force is below this counts as a minimum of the potential."""
SAME_FORCE_EV_PER_A = 1e-3
"""Two calculators whose forces differ by more than this are different models; rounding differs by far less."""
N_LAST_FRAMES = 5
"""Sane frames kept from just before an explosion."""


@dataclass(frozen=True, slots=True)
class MDSettings:
    """How a trajectory is run.

    Attributes
    ----------
    temperature_K
        Temperature of the thermostat in K.
    duration_ps
        Length of the trajectory in ps. A longer duration continues the chunks of a shorter one.
    timestep_fs
        Time step in fs; 2 suits lithium and heavier, hydrogen wants 0.5.
    friction_per_ps
        Langevin friction in 1/ps. Weak by default, since friction slows diffusion down; 0 is NVE (velocity Verlet).
    frame_interval_fs
        Time between stored frames in fs, rounded to whole steps.
    chunk_ps
        Time between restart files in ps, rounded to whole frames.
    """

    temperature_K: float
    duration_ps: float
    timestep_fs: float = 2.0
    friction_per_ps: float = 1.0
    frame_interval_fs: float = 100.0
    chunk_ps: float = 2.0

    def __post_init__(self) -> None:
        for name in ("temperature_K", "duration_ps", "timestep_fs", "frame_interval_fs", "chunk_ps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive; got {getattr(self, name)}")
        if not self.friction_per_ps >= 0:
            raise ValueError(f"friction_per_ps must not be negative; got {self.friction_per_ps}")

    @property
    def steps_per_frame(self) -> int:
        """Time steps between stored frames."""
        return max(1, round(self.frame_interval_fs / self.timestep_fs))

    @property
    def frames_per_chunk(self) -> int:
        """Stored frames in a full chunk."""
        return max(1, round(1000 * self.chunk_ps / (self.steps_per_frame * self.timestep_fs)))

    @property
    def n_steps(self) -> int:
        """Time steps of the whole trajectory."""
        n_frames = max(1, round(1000 * self.duration_ps / (self.steps_per_frame * self.timestep_fs)))
        return n_frames * self.steps_per_frame


@dataclass(frozen=True, slots=True)
class Gates:
    """Limits beyond which a trajectory counts as exploded.

    Attributes
    ----------
    max_force_eV_per_A
        Largest force on an atom in eV/Å; checked every step.
    max_temperature_ratio
        Largest instantaneous temperature over that of the thermostat, above five standard deviations of the canonical
        fluctuation, ``5 sqrt(2 / 3N)``; checked every step. The start of a relaxed structure is at 2.
    min_distance_ratio
        Smallest pair distance over the sum of covalent radii; checked every ``distance_interval`` steps.
    distance_interval
        Steps between checks of the pair distances.
    """

    max_force_eV_per_A: float = 30.0
    max_temperature_ratio: float = 3.0
    min_distance_ratio: float = 0.5
    distance_interval: int = 5


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """A trajectory with unwrapped positions.

    Attributes
    ----------
    start
        Frame it began from; gives numbers, cell, pbc, charge and multiplicity.
    settings
        How it was run.
    seed
        Seed of its random numbers.
    times_ps
        Time of each stored frame in ps, shape ``(n_frames,)``.
    positions
        Å, float64, shape ``(n_frames, n_atoms, 3)``; never wrapped.
    energies_eV, temperatures_K, max_forces_eV_per_A, pressures_GPa
        Potential energy, kinetic temperature, largest force, and pressure (with its kinetic part; NaN where the
        calculator knows no stress), each of shape ``(n_frames,)``.
    status
        ``completed``, or ``exploded`` if a gate closed; then the frames end before that.
    reason
        Which gate closed, at what value and when; empty if completed.
    last_frames
        Of an exploded trajectory, the last frames that passed every gate, a few steps apart: worth labelling.
    n_steps
        Time steps done.
    cpu_s
        CPU seconds they took.
    """

    start: Frame
    settings: MDSettings
    seed: tuple[int, ...]
    times_ps: NDArray[np.float64]
    positions: NDArray[np.float64]
    energies_eV: NDArray[np.float64]
    temperatures_K: NDArray[np.float64]
    max_forces_eV_per_A: NDArray[np.float64]
    pressures_GPa: NDArray[np.float64]
    status: Status
    reason: str
    last_frames: tuple[Frame, ...]
    n_steps: int
    cpu_s: float

    def __len__(self) -> int:
        return len(self.times_ps)

    @property
    def numbers(self) -> NDArray[np.int32]:
        """Atomic numbers, shape ``(n_atoms,)``."""
        return self.start.numbers

    @property
    def cell(self) -> NDArray[np.float64]:
        """Lattice vectors as rows in Å, shape ``(3, 3)``."""
        return self.start.cell

    @property
    def pbc(self) -> NDArray[np.bool_]:
        """Periodicity along each lattice vector, shape ``(3,)``."""
        return self.start.pbc

    @property
    def pressure_GPa(self) -> float | None:
        """Mean pressure over the stored frames in GPa, or None where it is not known."""
        known = self.pressures_GPa[np.isfinite(self.pressures_GPa)]
        return float(known.mean()) if len(known) else None


def frames(trajectory: Trajectory) -> list[Frame]:
    """Every stored frame of a trajectory, with the charge and multiplicity of its start."""
    return [replace(trajectory.start, positions=positions) for positions in trajectory.positions]


def run_md(
    start: Frame,
    calculator: Calculator,
    settings: MDSettings,
    *,
    seed: int | Sequence[int],
    gates: Gates = Gates(),
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
    chunks: list[_Chunk] = []
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        _check_header(folder, _header(start, settings, key, gates, model))
        chunks = _read_chunks(folder)
    if chunks:
        _check_forces(start, calculator, chunks[-1].state, folder)
        state = chunks[-1].state
    else:
        state = _initial_state(start, calculator, settings, key)
    while state.step < settings.n_steps and not (chunks and chunks[-1].reason):
        chunk = _run_chunk(start, calculator, settings, gates, state, on_progress)
        if folder is not None:
            _write_chunk(folder / f"chunk-{len(chunks):04d}.npz", chunk)
        chunks.append(chunk)
        state = chunk.state
    return _join(start, settings, key, chunks)


def read_trajectory(folder: Path) -> Trajectory:
    """Trajectory in a folder as far as it has come, without a calculator.

    Raises
    ------
    ValueError
        If the folder holds no finished chunk.
    """
    chunks = _read_chunks(folder)
    if not chunks:
        raise ValueError(f"{folder} holds no finished chunk of a trajectory")
    header = json.loads((folder / HEADER).read_text())
    start = Frame(**header["start"])
    times = chunks[-1].state.step * header["timestep_fs"] / 1000
    names = ("temperature_K", "timestep_fs", "friction_per_ps", "frame_interval_fs")
    settings = MDSettings(duration_ps=max(times, 1e-9), **{name: header[name] for name in names})
    return _join(start, settings, tuple(header["seed"]), chunks)


def min_distance_ratio(frame: Frame, below: float = 1.0) -> float:
    """Smallest pair distance over the sum of the two covalent radii; ``below`` if all are larger than that.

    Radii: Cordero et al., Dalton Trans. 2832 (2008), as in ASE.
    """
    return _min_distance_ratio(frame.positions, frame, below)


# How a chunk is run ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """All that the next step depends on, and the forces it begins with."""

    step: int
    positions: NDArray[np.float64]
    momenta: NDArray[np.float64]
    forces: NDArray[np.float64]
    rng: str


@dataclass(frozen=True, slots=True, eq=False)
class _Chunk:
    """Frames of a chunk, columns (energy, temperature, largest force, pressure) of each, and the state after it."""

    steps: NDArray[np.int64]
    positions: NDArray[np.float64]
    columns: NDArray[np.float64]
    last_positions: NDArray[np.float64]
    reason: str
    cpu_s: float
    state: _State


def _initial_state(start: Frame, calculator: Calculator, settings: MDSettings, seed: tuple[int, ...]) -> _State:
    rng = np.random.default_rng(seed)
    atoms = _atoms(start, calculator)
    forces = atoms.get_forces()
    relaxed = np.abs(forces).max() < RELAXED_FORCE_EV_PER_A
    temperature_K = settings.temperature_K * (2 if relaxed else 1)
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature_K, rng=rng)
    return _State(0, atoms.get_positions(), atoms.get_momenta(), forces, json.dumps(rng.bit_generator.state))


def _run_chunk(
    start: Frame,
    calculator: Calculator,
    settings: MDSettings,
    gates: Gates,
    state: _State,
    on_progress: Callable[[float, float], None] | None,
) -> _Chunk:
    began = time.process_time()
    rng = np.random.default_rng()
    rng.bit_generator.state = json.loads(state.rng)
    # Atoms and integrator are made anew for each chunk, so that a restart takes the very same path.
    atoms = _atoms(start, calculator, state.positions)
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
    return _Chunk(
        steps=np.array(steps, dtype=np.int64),
        positions=np.array(positions, dtype=np.float64).reshape(-1, n_atoms, 3),
        columns=np.array(columns, dtype=np.float64).reshape(-1, 4),
        last_positions=np.array(sane if reason else [], dtype=np.float64).reshape(-1, n_atoms, 3),
        reason=reason,
        cpu_s=time.process_time() - began,
        state=state
        if reason
        else _State(
            step, atoms.get_positions(), atoms.get_momenta(), atoms.get_forces(), json.dumps(rng.bit_generator.state)
        ),
    )


def _atoms(start: Frame, calculator: Calculator, positions: NDArray[np.float64] | None = None) -> Atoms:
    atoms = atoms_from_frame(start)
    if positions is not None:
        atoms.set_positions(positions)
    if hasattr(calculator, "reset"):
        calculator.reset()
    atoms.calc = calculator
    return atoms


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
    cell = like.cell if like.pbc.any() else None
    i, j, distance = neighbour_list("ijd", positions=positions, cell=cell, pbc=like.pbc, cutoff=below * radii)
    return float((distance / (radii[i] + radii[j])).min(initial=below))


def _ps(step: int, settings: MDSettings) -> float:
    return step * settings.timestep_fs / 1000


def _join(start: Frame, settings: MDSettings, seed: tuple[int, ...], chunks: Sequence[_Chunk]) -> Trajectory:
    steps = np.concatenate([chunk.steps for chunk in chunks])
    keep = steps <= settings.n_steps
    columns = np.concatenate([chunk.columns for chunk in chunks])[keep]
    last = chunks[-1]
    exploded = bool(last.reason) and int(steps.max(initial=0)) < settings.n_steps
    return Trajectory(
        start=start,
        settings=settings,
        seed=seed,
        times_ps=steps[keep] * settings.timestep_fs / 1000,
        positions=np.concatenate([chunk.positions for chunk in chunks])[keep],
        energies_eV=columns[:, 0],
        temperatures_K=columns[:, 1],
        max_forces_eV_per_A=columns[:, 2],
        pressures_GPa=columns[:, 3],
        status="exploded" if exploded else "completed",
        reason=last.reason if exploded else "",
        last_frames=tuple(replace(start, positions=frame) for frame in last.last_positions) if exploded else (),
        n_steps=int(steps[keep].max(initial=0)),
        cpu_s=sum(chunk.cpu_s for chunk in chunks),
    )


# Files ----------------------------------------------------------------------------------------------------------------


def _header(start: Frame, settings: MDSettings, seed: tuple[int, ...], gates: Gates, model: str) -> dict[str, object]:
    """Return what the frames depend on; the duration and the length of a chunk are free to change."""
    return {
        "start": {
            "numbers": start.numbers.tolist(),
            "positions": start.positions.tolist(),
            "cell": start.cell.tolist(),
            "pbc": start.pbc.tolist(),
            "charge": start.charge,
            "multiplicity": start.multiplicity,
        },
        "temperature_K": settings.temperature_K,
        "timestep_fs": settings.timestep_fs,
        "friction_per_ps": settings.friction_per_ps,
        "frame_interval_fs": settings.frame_interval_fs,
        "max_force_eV_per_A": gates.max_force_eV_per_A,
        "max_temperature_ratio": gates.max_temperature_ratio,
        "min_distance_ratio": gates.min_distance_ratio,
        "distance_interval": gates.distance_interval,
        "seed": list(seed),
        "model": model,
    }


def _check_header(folder: Path, header: dict[str, object]) -> None:
    path = folder / HEADER
    if not path.exists():
        with atomic_path(path) as aside:
            aside.write_text(json.dumps(header))
        return
    found = json.loads(path.read_text())
    differ = [name for name in header if header[name] != found.get(name)]
    if differ:
        name = differ[0]
        values = "" if name == "start" else f" ({found.get(name)} there, {header[name]} here)"
        raise ValueError(
            f"{folder} holds a trajectory with another {name}{values}; use a new folder or remove this one"
        )


def _check_forces(start: Frame, calculator: Calculator, state: _State, folder: Path | None) -> None:
    difference = np.abs(_atoms(start, calculator, state.positions).get_forces() - state.forces).max()
    if not difference < SAME_FORCE_EV_PER_A:
        raise ValueError(
            f"the calculator's forces differ by {difference:.3g} eV/Å from those the trajectory in {folder} was made "
            "with: another model; use a new folder or remove this one"
        )


def _write_chunk(path: Path, chunk: _Chunk) -> None:
    state = chunk.state
    with atomic_path(path) as aside, aside.open("wb") as file:
        np.savez(
            file,
            steps=chunk.steps,
            positions=chunk.positions,
            columns=chunk.columns,
            last_positions=chunk.last_positions,
            reason=np.array(chunk.reason),
            cpu_s=np.array(chunk.cpu_s),
            state_step=np.array(state.step),
            state_positions=state.positions,
            state_momenta=state.momenta,
            state_forces=state.forces,
            state_rng=np.array(state.rng),
        )


def _read_chunks(folder: Path) -> list[_Chunk]:
    chunks: list[_Chunk] = []
    while (path := folder / f"chunk-{len(chunks):04d}.npz").exists():
        with np.load(path, allow_pickle=False) as data:
            state = _State(
                step=int(data["state_step"]),
                positions=data["state_positions"],
                momenta=data["state_momenta"],
                forces=data["state_forces"],
                rng=str(data["state_rng"]),
            )
            chunks.append(
                _Chunk(
                    steps=data["steps"],
                    positions=data["positions"],
                    columns=data["columns"],
                    last_positions=data["last_positions"],
                    reason=str(data["reason"]),
                    cpu_s=float(data["cpu_s"]),
                    state=state,
                )
            )
    return chunks
