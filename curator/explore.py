"""Exploration: which trajectories to run for new frames, and which frames of them to consider."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase.io import iread, write

from curator.datasets.atomic import atomic_path
from curator.datasets.frame import Frame, atoms_from_frame, frame_from_atoms
from curator.md import DEFAULT_GATES, min_distance_ratio
from curator.trajectory import EXPLORE_EQUILIBRATION_PS, Gates, MDSettings, Trajectory


@dataclass(frozen=True, slots=True, eq=False)
class PlannedRun:
    """A trajectory to run.

    Attributes
    ----------
    index
        Its place in the plan; results are sorted by it, whatever order they arrive in.
    name
        Where it belongs: ``start0/T900/r1``.
    start, settings, seed
        As `curator.md.run_md` takes them.
    equilibration_ps
        Time at its beginning that yields no candidates.
    near_hop
        Whether it samples the hop that the campaign follows.
    """

    index: int
    name: str
    start: Frame
    settings: MDSettings
    seed: tuple[int, ...]
    equilibration_ps: float = EXPLORE_EQUILIBRATION_PS
    near_hop: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A frame that may be chosen for labelling.

    Attributes
    ----------
    frame
        The frame.
    group
        Trajectory it comes from: frames of one group are correlated.
    source
        The same, and when: ``explore/start0/T900/r1 @ 1.20 ps``.
    near_hop
        Whether it was drawn from around the hop that the campaign follows.
    """

    frame: Frame
    group: str
    source: str
    near_hop: bool = False


def plan_exploration(
    starts: Sequence[Frame],
    temperatures_K: Sequence[float],
    replicas: int,
    *,
    seed: Sequence[int],
    duration_ps: float = 4.0,
    timestep_fs: float = 2.0,
    frame_interval_fs: float = 100.0,
    equilibration_ps: float = EXPLORE_EQUILIBRATION_PS,
) -> list[PlannedRun]:
    """Plan every start at every temperature, ``replicas`` times.

    Parameters
    ----------
    starts
        Structures to start from.
    temperatures_K
        Temperatures in K.
    replicas
        Trajectories for each start and temperature, apart in their seeds.
    seed
        Seed of the campaign, round and stage; the index of the run is appended, so that each run has random numbers
        of its own (``numpy.random.SeedSequence([seed, round, stage, index])``).
    duration_ps, timestep_fs, frame_interval_fs
        As in `MDSettings`.
    equilibration_ps
        Time at the beginning of each that yields no candidates.

    Raises
    ------
    ValueError
        If there is nothing to plan.
    """
    if not starts or not temperatures_K or replicas < 1:
        raise ValueError(
            f"nothing to explore: {len(starts)} starts, {len(temperatures_K)} temperatures, {replicas} replicas"
        )
    runs: list[PlannedRun] = []
    for idx, start in enumerate(starts):
        for temperature_K in temperatures_K:
            settings = MDSettings(
                temperature_K=temperature_K,
                duration_ps=duration_ps,
                timestep_fs=timestep_fs,
                frame_interval_fs=frame_interval_fs,
            )
            for replica in range(replicas):
                name = f"start{idx}/T{temperature_K:g}/r{replica}"
                runs.append(PlannedRun(len(runs), name, start, settings, (*seed, len(runs)), equilibration_ps))
    return runs


def candidates(
    trajectories: Sequence[tuple[PlannedRun, Trajectory]],
    *,
    interval_ps: float = 0.2,
    prefix: str = "explore",
) -> list[Candidate]:
    """Frames of an exploration that are worth considering, each once.

    Parameters
    ----------
    trajectories
        Each run with its trajectory, in any order.
    interval_ps
        As for `candidates_of`.
    prefix
        First part of group and source.

    Returns
    -------
    list of Candidate
        In the order of the plan and of time.
    """
    seen: set[str] = set()
    found: list[Candidate] = []
    for run, trajectory in sorted(trajectories, key=lambda pair: pair[0].index):
        name = f"{prefix}/{run.name}"
        for candidate in candidates_of(
            trajectory,
            group=name,
            source=name,
            interval_ps=interval_ps,
            equilibration_ps=run.equilibration_ps,
        ):
            if candidate.frame.hash not in seen:
                seen.add(candidate.frame.hash)
                found.append(replace(candidate, near_hop=run.near_hop))
    return found


def candidates_of(
    trajectory: Trajectory,
    *,
    group: str,
    source: str,
    interval_ps: float = 0.0,
    equilibration_ps: float = EXPLORE_EQUILIBRATION_PS,
    gates: Gates = DEFAULT_GATES,
) -> list[Candidate]:
    """Frames of one trajectory that are worth considering.

    One stored frame each ``interval_ps`` after equilibration, and the last sane frames of a trajectory that exploded,
    which show where the model goes wrong. Frames with a pair distance or a force beyond the gates, and those that
    occur twice, are left out.

    Parameters
    ----------
    trajectory
        Where the frames come from.
    group, source
        Of the candidates; the time is appended to the source.
    interval_ps
        Time between candidates; every stored frame if 0. Frames closer than a vibration say the same twice.
    equilibration_ps
        Time left out at the beginning.
    gates
        Limits on force and pair distance.
    """
    every = max(1, round(1000 * interval_ps / trajectory.settings.stored_interval_fs))
    first = int(np.searchsorted(trajectory.times_ps, equilibration_ps - 1e-9))
    moments = [
        (replace(trajectory.start, positions=trajectory.positions[idx]), f"{trajectory.times_ps[idx]:.2f} ps")
        for idx in range(first, len(trajectory), every)
        if trajectory.max_forces_eV_per_A[idx] <= gates.max_force_eV_per_A
    ]
    n_last = len(trajectory.last_frames)
    moments += [(frame, f"explosion -{n_last - idx}") for idx, frame in enumerate(trajectory.last_frames)]
    seen: set[str] = set()
    found: list[Candidate] = []
    for frame, moment in moments:
        sane = min_distance_ratio(frame, gates.min_distance_ratio) >= gates.min_distance_ratio
        if sane and frame.hash not in seen:
            seen.add(frame.hash)
            found.append(Candidate(frame, group, f"{source} @ {moment}"))
    return found


def write_candidates(path: Path, candidates: Sequence[Candidate]) -> None:
    """Write candidates to extended XYZ, with where each comes from."""
    images = []
    for candidate in candidates:
        atoms = atoms_from_frame(candidate.frame)
        atoms.info |= {"group": candidate.group, "source": candidate.source, "near_hop": candidate.near_hop}
        images.append(atoms)
    with atomic_path(path) as aside:
        write(aside, images, format="extxyz")


def read_candidates(path: Path) -> list[Candidate]:
    """Candidates that :func:`write_candidates` wrote."""
    return [
        Candidate(frame_from_atoms(atoms), *(atoms.info[name] for name in ("group", "source", "near_hop")))
        for atoms in iread(path, index=":", format="extxyz")
    ]
