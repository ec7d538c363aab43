"""How far a DFT set-up is from its own limit: forces, stress and cost against the cutoff and the density of k-points.

One rattled cell is calculated again and again, one setting changed at a time; what is finest in each series is taken
for the truth. The stress is the first to go wrong at a low cutoff, because the basis does not follow the cell (Pulay
stress; G. P. Francis and M. C. Payne, J. Phys.: Condens. Matter 2, 4395 (1990)), while forces still look sane.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase.units import GPa
from matplotlib.figure import Figure

from curator.backends.base import LabelFailed, LabellerSpec
from curator.backends.labellers import at_charge, label_frame
from curator.datasets.frame import Frame, atoms_from_frame, frame_from_atoms
from curator.datasets.label import Label
from curator.errors import CuratorError

RATTLE_A = 0.08
CUTOFFS, SPACINGS = (0.6, 0.8, 1.0, 1.2, 1.5), (2.0, 1.4, 1.0, 0.7)
"""Multiples of the settings that are asked about."""
PULAY_GPA = 0.5
"""A pressure that is farther from the limit than this would move a relaxed lattice by some tenths of a per cent."""
FORCE_EV_PER_A = 0.01


@dataclass(frozen=True, slots=True)
class Point:
    """One setting, and what it costs to use it.

    Attributes
    ----------
    setting
        ``cutoff_Ry`` or ``cutoff_eV``, or ``kpoint_spacing_per_A``.
    value
        Its value.
    asked
        Whether it is the one that the campaign uses.
    force_rmse_eV_per_A
        From the forces of the finest of the series.
    pressure_error_GPa
        From its pressure; None without a stress.
    energy_error_eV_per_atom
        From its energy.
    cpu_s
        CPU seconds of the calculation.
    """

    setting: str
    value: float
    asked: bool
    force_rmse_eV_per_A: float
    pressure_error_GPa: float | None
    energy_error_eV_per_atom: float
    cpu_s: float


def measure_convergence(
    spec: LabellerSpec, frame: Frame, rng: np.random.Generator, on_done: Callable[[int, int], None] | None = None
) -> list[Point]:
    """Calculate one rattled cell at several cutoffs and densities of k-points.

    Parameters
    ----------
    spec
        Labeller of kind ``dft``.
    frame
        A small cell of what is to be labelled.
    rng
        Draws the displacements.
    on_done
        Called with the number of calculations that are done, and of all.

    Raises
    ------
    CuratorError
        If a calculation fails.
    """
    atoms = atoms_from_frame(frame)
    atoms.positions += rng.normal(scale=RATTLE_A, size=atoms.positions.shape)
    rattled = frame_from_atoms(atoms)
    charged = at_charge(spec, frame.charge, frame.multiplicity)
    asked = json.loads(charged.settings)
    cutoff = next(name for name in ("cutoff_Ry", "cutoff_eV") if name in asked)
    series = {cutoff: CUTOFFS, "kpoint_spacing_per_A": SPACINGS}
    done: dict[str, Label] = {}
    n_all = len(CUTOFFS) + len(SPACINGS) - 1
    points: list[Point] = []
    for name, multiples in series.items():
        labels = []
        for multiple in multiples:
            settings = json.dumps(asked | {name: multiple * asked[name]}, sort_keys=True)
            if settings not in done:
                done[settings] = _labelled(replace(charged, settings=settings), rattled, name, multiple * asked[name])
                if on_done is not None:
                    on_done(len(done), n_all)
            labels.append(done[settings])
        points += _compared(name, [multiple * asked[name] for multiple in multiples], asked[name], labels)
    return points


def _labelled(spec: LabellerSpec, frame: Frame, name: str, value: float) -> Label:
    outcome = label_frame(spec, frame)
    if isinstance(outcome, LabelFailed):
        raise CuratorError(f"the calculation with {name} {value:g} failed: {outcome.reason}: {outcome.message}")
    return outcome


def _compared(name: str, values: Sequence[float], asked: float, labels: Sequence[Label]) -> Iterator[Point]:
    finest = labels[-1]
    for value, label in zip(values, labels, strict=True):
        pressure = None
        if label.stress is not None and finest.stress is not None:
            pressure = -float((label.stress[:3] - finest.stress[:3]).mean()) / GPa
        yield Point(
            setting=name,
            value=value,
            asked=value == asked,
            force_rmse_eV_per_A=float(np.sqrt(np.mean((label.forces - finest.forces) ** 2))),
            pressure_error_GPa=pressure,
            energy_error_eV_per_atom=(label.energy - finest.energy) / len(label.forces),
            cpu_s=label.cpu_s,
        )


def convergence_lines(points: Sequence[Point]) -> list[str]:
    """The same for a person, with what is to be thought of it."""
    lines = [
        f"  {'setting':26}{'force rmse':12}{'pressure':10}{'energy':10}CPU",
        f"  {'':26}{'meV/Å':12}{'GPa':10}{'meV/atom':10}s",
    ]
    for point in points:
        pressure = "-" if point.pressure_error_GPa is None else f"{point.pressure_error_GPa:+.2f}"
        lines.append(
            f"{'* ' if point.asked else '  '}{point.setting + f' {point.value:g}':26}"
            f"{1000 * point.force_rmse_eV_per_A:<12.1f}{pressure:<10}"
            f"{1000 * point.energy_error_eV_per_atom:<+10.1f}{point.cpu_s:.1f}"
        )
    lines.append("  errors against the finest of each series; * is what the campaign asks for")
    for point in points:
        if not point.asked:
            continue
        at = f"  note: at {point.setting} {point.value:g}"
        if point.pressure_error_GPa is not None and abs(point.pressure_error_GPa) > PULAY_GPA:
            better = f"a {'higher' if 'cutoff' in point.setting else 'smaller'} {point.setting}"
            lines.append(
                f"{at} the pressure is {point.pressure_error_GPa:+.1f} GPa from its limit; give {better}, or relax no "
                "cell with it (system.cell: given) and trust no stress"
            )
        if point.force_rmse_eV_per_A > FORCE_EV_PER_A:
            error = f"{1000 * point.force_rmse_eV_per_A:.0f} meV/Å"
            lines.append(f"{at} forces are {error} from their limit, more than a good model's error")
    return lines


def plot_convergence(points: Sequence[Point], path: Path) -> None:
    """Draw error of forces and cost against both settings."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    names = list(dict.fromkeys(point.setting for point in points))
    for axes, name in zip(figure.subplots(1, len(names)), names, strict=True):
        own = [point for point in points if point.setting == name]
        shown = [point for point in own if point.force_rmse_eV_per_A > 0]
        axes.semilogy([p.value for p in shown], [1000 * p.force_rmse_eV_per_A for p in shown], "o-", color="C0")
        axes.set(xlabel=name.replace("_", " "), ylabel="force rmse (meV/Å)")
        axes.axvline(next(p.value for p in own if p.asked), color="0.7", zorder=0)
        cost = axes.twinx()
        cost.plot([p.value for p in own], [p.cpu_s for p in own], "s--", color="C1")
        cost.set_ylabel("CPU (s)", color="C1")
        if "spacing" in name:
            axes.invert_xaxis()
    figure.savefig(path, dpi=150)
