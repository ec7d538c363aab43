"""Configurations along a hop, where a barrier is decided: points between its minimum and its saddle point."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from ase.geometry import find_mic

from curator.datasets.frame import Frame
from curator.explore import PlannedRun
from curator.trajectory import MDSettings

FRACTIONS = (1 / 3, 2 / 3, 1.0)
"""Points at which the hopping atoms are held while the others move; 1 is the saddle point."""
HELD_PS = 0.4
EQUILIBRATION_PS = 0.15


def along(minimum: Frame, saddle: Frame, fraction: float) -> Frame:
    """Point on the straight line from the minimum (0) to the saddle point (1), by the shortest way for each atom."""
    way, _ = find_mic(saddle.positions - minimum.positions, minimum.cell, minimum.pbc)
    return replace(minimum, positions=minimum.positions + fraction * way)


def hopping_atoms(minimum: Frame, saddle: Frame) -> tuple[int, ...]:
    """Atoms that go at least half as far as the one that goes farthest; the others make room."""
    way, _ = find_mic(saddle.positions - minimum.positions, minimum.cell, minimum.pbc)
    lengths = np.linalg.norm(way - np.median(way, axis=0), axis=1)
    return tuple(np.flatnonzero(lengths >= 0.5 * lengths.max()).tolist())


def plan_hop(
    minimum: Frame,
    saddle: Frame,
    temperatures_K: Sequence[float],
    *,
    seed: Sequence[int],
    first_index: int,
    timestep_fs: float = 2.0,
    frame_interval_fs: float = 100.0,
) -> list[PlannedRun]:
    """Plan short runs in which the hopping atoms are held on the path and all others move thermally around them.

    Free dynamics is near a saddle point for one part in exp(barrier / kT) of its time, and a barrier is wrong by as
    much as the model is wrong there.

    Parameters
    ----------
    minimum, saddle
        Of the model that is to run them.
    temperatures_K
        Temperatures in K.
    seed
        As for `curator.explore.plan_exploration`.
    first_index
        Number of runs planned before these.
    timestep_fs, frame_interval_fs
        As in `MDSettings`.
    """
    held = hopping_atoms(minimum, saddle)
    runs: list[PlannedRun] = []
    for fraction in FRACTIONS:
        for temperature_K in temperatures_K:
            settings = MDSettings(
                temperature_K=temperature_K,
                duration_ps=HELD_PS,
                timestep_fs=timestep_fs,
                frame_interval_fs=frame_interval_fs,
                held=held,
            )
            index = first_index + len(runs)
            name = f"hop{fraction:.2f}/T{temperature_K:g}"
            start = along(minimum, saddle, fraction)
            runs.append(PlannedRun(index, name, start, settings, (*seed, index), EQUILIBRATION_PS, near_hop=True))
    return runs
