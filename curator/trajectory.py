"""Trajectories: how they are run, what comes out, and the chunks they are kept in on disk."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from curator.datasets.atomic import atomic_path
from curator.datasets.frame import Frame

Status = Literal["completed", "exploded"]

HEADER = "header.json"
EXPLORE_EQUILIBRATION_PS = 0.2
"""Left out at the start of a trajectory that explores, in ps."""


def timestep_for(structure: Frame) -> float:
    """Time step in fs that suits the lightest atom: 0.5 with hydrogen, else 2."""
    return 0.5 if (structure.numbers == 1).any() else 2.0


def check_explores(duration_ps: float, interval_ps: float) -> None:
    """Raise ValueError if a trajectory is too short for a single candidate, which are ``interval_ps`` apart."""
    if duration_ps < EXPLORE_EQUILIBRATION_PS + interval_ps - 1e-9:
        raise ValueError(
            f"a run of {duration_ps:g} ps yields no candidate: {EXPLORE_EQUILIBRATION_PS:g} ps are left out, and "
            f"candidates are {interval_ps:g} ps apart; give a longer duration or a shorter interval"
        )


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
    held
        Atoms that stay where they are, by a mass of 1e5 u: the others move thermally around them.
    """

    temperature_K: float
    duration_ps: float
    timestep_fs: float = 2.0
    friction_per_ps: float = 1.0
    frame_interval_fs: float = 100.0
    chunk_ps: float = 2.0
    held: tuple[int, ...] = ()

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
    def stored_interval_fs(self) -> float:
        """Time between stored frames in fs."""
        return self.steps_per_frame * self.timestep_fs

    @property
    def frames_per_chunk(self) -> int:
        """Stored frames in a full chunk."""
        return max(1, round(1000 * self.chunk_ps / self.stored_interval_fs))

    @property
    def n_steps(self) -> int:
        """Time steps of the whole trajectory."""
        n_frames = max(1, round(1000 * self.duration_ps / self.stored_interval_fs))
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


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """All that the next step depends on, and the forces it begins with."""

    step: int
    positions: NDArray[np.float64]
    momenta: NDArray[np.float64]
    forces: NDArray[np.float64]
    rng: str


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Frames of a chunk, columns (energy, temperature, largest force, pressure) of each, and the state after it."""

    steps: NDArray[np.int64]
    positions: NDArray[np.float64]
    columns: NDArray[np.float64]
    last_positions: NDArray[np.float64]
    reason: str
    cpu_s: float
    state: State


def join_chunks(start: Frame, settings: MDSettings, seed: tuple[int, ...], chunks: Sequence[Chunk]) -> Trajectory:
    """Join chunks to a trajectory, as far as the settings ask for."""
    steps = np.concatenate([chunk.steps for chunk in chunks])
    keep = steps <= settings.n_steps
    columns = np.concatenate([chunk.columns for chunk in chunks])[keep]
    last = chunks[-1]
    began = [0, *(chunk.state.step for chunk in chunks[:-1])]
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
        cpu_s=sum(chunk.cpu_s for chunk, step in zip(chunks, began, strict=True) if step < settings.n_steps),
    )


def read_trajectory(folder: Path) -> Trajectory:
    """Trajectory in a folder as far as it has come, without a calculator.

    Raises
    ------
    ValueError
        If the folder holds no finished chunk.
    """
    chunks = read_chunks(folder)
    if not chunks:
        raise ValueError(f"{folder} holds no finished chunk of a trajectory")
    header = json.loads((folder / HEADER).read_text())
    start = Frame(**header["start"])
    names = ("temperature_K", "timestep_fs", "friction_per_ps", "frame_interval_fs")
    settings = MDSettings(duration_ps=1.0, held=tuple(header["held"]), **{name: header[name] for name in names})
    n_steps = max(int(chunk.steps.max(initial=0)) for chunk in chunks)
    if chunks[-1].reason:
        n_steps += settings.steps_per_frame
    settings = replace(settings, duration_ps=n_steps * settings.timestep_fs / 1000)
    return join_chunks(start, settings, tuple(header["seed"]), chunks)


def measuring_seed(origin: Sequence[int], temperature_K: float, replica: int, folder: Path | None) -> tuple[int, ...]:
    """Seed of a trajectory that measures: ``origin``, temperature in mK, replica, whatever else is measured.

    A trajectory that is in ``folder`` already, of the same ``origin``, keeps the seed that it began with.
    """
    if folder is not None and (folder / HEADER).exists():
        began_with = tuple(json.loads((folder / HEADER).read_text())["seed"])
        # Temperatures were once numbered by their place in a list.
        if began_with[: len(origin)] == tuple(origin):
            return began_with
    return (*origin, round(1000 * temperature_K), replica)


def run_header(
    start: Frame, settings: MDSettings, seed: tuple[int, ...], gates: Gates, model: str
) -> dict[str, object]:
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
        "held": list(settings.held),
        "max_force_eV_per_A": gates.max_force_eV_per_A,
        "max_temperature_ratio": gates.max_temperature_ratio,
        "min_distance_ratio": gates.min_distance_ratio,
        "distance_interval": gates.distance_interval,
        "seed": list(seed),
        "model": model,
    }


def check_header(folder: Path, header: dict[str, object]) -> None:
    """Write the header of a new folder, or refuse one that was made with another.

    Raises
    ------
    ValueError
        If the folder holds a trajectory with another start, settings, seed, gates or model.
    """
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


def write_chunk(path: Path, chunk: Chunk) -> None:
    """Write a finished chunk, whole or not at all."""
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


def read_chunks(folder: Path) -> list[Chunk]:
    """Read the finished chunks of a folder in order."""
    chunks: list[Chunk] = []
    while (path := folder / f"chunk-{len(chunks):04d}.npz").exists():
        with np.load(path, allow_pickle=False) as data:
            state = State(
                step=int(data["state_step"]),
                positions=data["state_positions"],
                momenta=data["state_momenta"],
                forces=data["state_forces"],
                rng=str(data["state_rng"]),
            )
            chunks.append(
                Chunk(
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
