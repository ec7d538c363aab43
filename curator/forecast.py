"""What a campaign will cost, told before it begins: labels, and hours of labelling, MD and training."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase.geometry import complete_cell

from curator.backends.base import LabelFailed
from curator.backends.labellers import label_frame, make_labeller
from curator.build import Plan, n_anchor_labels, n_exam_labels, read_plan
from curator.config_measure import Diffusion
from curator.datasets.frame import Frame
from curator.diffusion.walk import shortest_run_ps
from curator.errors import BadInput, bad_input
from curator.labelling import key_of
from curator.lattice import seed_structure
from curator.learners.mace import MaceModel
from curator.md import run_md
from curator.positions import widths_A
from curator.probes import MAX_STEPS
from curator.quantities import duration
from curator.selection import N_RANDOM_MIN
from curator.setup import gather_inputs
from curator.state import Json, campaign_folder
from curator.trajectory import MDSettings, timestep_for
from curator.verdict.convergence import earliest_convergence
from curator.verdict.gate import WITHOUT_RANDOM_FRAMES
from curator.verdict.planning import hops_for

N_STEPS_TIMED = 10
CALLS_OF_A_BARRIER = 350
"""Force calls of one hop, two end points, a band and the proof of its saddle (`curator.barriers.barrier`)."""
GAMMA_POINT_WIDTH_A = 12.0
"""LiF of one lattice constant by GFN1-xTB: pressures of 25, 9 and 5 GPa in cubes of 4, 8 and 12 Å."""
DEFECT = {"vacancy": "vacancy", "interstitial": "interstitial", "interstitialcy": "interstitial"}
"""What the mechanism of a hop makes in the crystal that is given."""
TRAINING_OVER_PREDICTION = 3.0
"""Cost of one training step over that of a prediction on the same frames: two more passes."""
MANY_HOPS = 3000
"""Hops at a temperature beyond which it is worth a word that other temperatures would take fewer."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """A forecast as lines for a person and as numbers for a program."""

    lines: tuple[str, ...]
    numbers: Json


def forecast(target: Path, *, trust: bool = False) -> Forecast:
    """Check everything a campaign file names, take the CPU time of a label and a few steps of MD here, and add up.

    Raises
    ------
    BadInput
        If the campaign could not run.
    """
    folder = campaign_folder(target)
    plan = read_plan(folder, trust=trust)
    model = gather_inputs(plan).foundation
    with bad_input(key_of(plan.file.label)):
        theory = make_labeller(plan.labeller).theory
    frame = _structure(plan)
    label_s, step_s, predict_s = (
        _label_seconds(plan, frame),
        _step_seconds(model, frame),
        _predict_seconds(model, frame),
    )
    told = _add_up(plan, theory.key, len(frame), label_s, step_s, predict_s)
    notes = _cell_notes(frame, model.r_max) + _gamma_point_notes(plan, frame) + _timestep_notes(plan, frame)
    return replace(told, lines=told.lines + notes)


def _structure(plan: Plan) -> Frame:
    """Structure with its lattice as given, or the textbook's."""
    structure = plan.system.structure
    return seed_structure(plan, None, None if isinstance(structure, str) else structure)[0]


def _label_seconds(plan: Plan, frame: Frame) -> float:
    if plan.labeller.kind != "dft":
        label_frame(plan.labeller, frame)  # the first one warms up, where a model is to be loaded
    label = label_frame(plan.labeller, frame)
    if isinstance(label, LabelFailed):
        raise BadInput(f"label: the labeller fails on the structure itself: {label.reason}, {label.message}")
    return label.cpu_s


def _step_seconds(model: MaceModel, frame: Frame) -> float:
    settings = MDSettings(temperature_K=300, duration_ps=0.002 * N_STEPS_TIMED, frame_interval_fs=2.0 * N_STEPS_TIMED)
    calculator = model.calculator()
    run_md(frame, calculator, settings, seed=0)
    return _seconds(lambda: run_md(frame, calculator, settings, seed=0)) / N_STEPS_TIMED


def _predict_seconds(model: MaceModel, frame: Frame) -> float:
    return _seconds(lambda: model.predict([frame] * 4)) / 4


def _seconds(call: Callable[[], object]) -> float:
    """CPU time, which unlike wall time a few steps give even beside other work."""
    began = time.process_time()
    call()
    return time.process_time() - began


def _add_up(plan: Plan, theory: str, n_atoms: int, label_s: float, step_s: float, predict_s: float) -> Forecast:
    file = plan.file
    explore, select, learn, stop, diffusion = file.explore, file.select, file.learn, file.stop, file.measure.diffusion
    anchor = n_anchor_labels(plan)
    # Bought once: test frames and contacts, the foundation's anchor, the exam.
    once = select.test_frames + select.contact_labels + anchor + n_exam_labels(plan)
    n_labels = min(once + stop.max_rounds * (select.labels_per_round + anchor), stop.max_labels)
    n_rounds = min(stop.max_rounds, max(1, -(-(n_labels - once) // (select.labels_per_round + anchor))))
    n_starts = (2 if plan.follows_barrier else 1) + len(explore.structures)
    explore_ps = (n_rounds * explore.replicas * n_starts + 1) * len(explore.temperatures_K) * explore.duration_ps
    explore_s = 1000 * explore_ps / explore.timestep_fs * step_s
    measure_ps, measure_s, most_s = 0.0, 0.0, 0.0
    if diffusion is not None:
        one = diffusion.replicas * sum(length + diffusion.equilibration_ps for length in diffusion.durations_ps)
        measure_ps = one * (n_rounds if _measures_every_round(plan) else 1)
        measure_s = 1000 * measure_ps / diffusion.timestep_fs * step_s
        most_s = 1000 * max(stop.max_md_ps or 0.0, measure_ps) / diffusion.timestep_fs * step_s
    probe_s = (n_rounds + 1) * _probe_seconds(plan, step_s)
    barrier_s = (1 + n_rounds * learn.members) * CALLS_OF_A_BARRIER * step_s if plan.follows_barrier else 0.0
    replay = 0
    if plan.strategy.replay != "none":
        replay = min(learn.replay_frames, plan.strategy.replay_per_epoch or learn.replay_frames)
    n_frames = sum((round_ + 1) * (select.labels_per_round + anchor) + replay for round_ in range(n_rounds))
    train_s = learn.members * plan.strategy.max_epochs * n_frames * predict_s * TRAINING_OVER_PREDICTION
    hours = {
        "label": n_labels * label_s / 3600,
        "explore": explore_s / 3600,
        "measure": measure_s / 3600,
        "barrier": barrier_s / 3600,
        "probe": probe_s / 3600,
        "train": train_s / 3600,
    }
    total = sum(hours.values())
    n_workers = file.run.n_processes
    numbers: Json = {
        "n_atoms": n_atoms,
        "theory": theory,
        "n_rounds": n_rounds,
        "n_labels": n_labels,
        "n_exam_labels": n_exam_labels(plan),
        "label_s": label_s,
        "md_step_s": step_s,
        "explore_ps": explore_ps,
        "measure_ps": measure_ps,
        "max_md_ps": stop.max_md_ps,
        "core_hours": hours,
        "max_measure_core_hours": most_s / 3600,
        "wall_hours": total / n_workers,
    }
    bought = "" if _measures_every_round(plan) else " (MD bought once; again for each round that may be the last)"
    longer = "" if most_s <= measure_s else f"; as far as stop.max_md_ps lets it: {duration(most_s)}"
    n_epochs = plan.strategy.max_epochs
    times = {kind: duration(3600 * value) for kind, value in hours.items()}
    wall = f"{duration(3600 * total / n_workers)} with {n_workers} worker{'s' * (n_workers > 1)}"
    made = "" if plan.system.search is None else f", a defect made in them ({DEFECT[plan.system.search.mechanism]})"
    what = f"{n_atoms} atoms{made}, mobile {plan.system.mobile}, labels {theory}"
    lines = (
        f"{file.name}: {what}: nothing is wrong with this campaign",
        f"  labels    up to {n_labels} in {n_rounds} rounds, {label_s:.2f} s CPU each: {times['label']}",
        f"  exploring {explore_ps:.0f} ps of MD, {1000 * step_s:.0f} ms CPU a step: {times['explore']}",
        f"  measuring {measure_ps:.0f} ps of MD{bought}: {times['measure']}{longer}",
        f"  barrier   of the foundation and each round's members, one hop: {times['barrier']}",
        f"  probing   the foundation and each round's model: at most {times['probe']}",
        f"  training  {learn.members} members, {n_epochs} epochs a round: at most {times['train']}",
        f"  together  {duration(3600 * total)} CPU of one core; {wall}",
    )
    return Forecast(lines + _notes(plan, n_rounds), numbers)


def _probe_seconds(plan: Plan, step_s: float) -> float:
    """Cost of the probes of one model; a small cell with its stress is taken to cost what the structure does."""
    probes = plan.file.measure.probes
    if probes is None:
        return 0.0
    n_md = probes.trajectories * 1000 * probes.duration_ps / plan.file.explore.timestep_fs
    return step_s * (n_md + len(probes.pressures_GPa) * probes.structures * MAX_STEPS)


def _notes(plan: Plan, n_rounds: int) -> tuple[str, ...]:
    """What this campaign cannot do as it stands."""
    notes = []
    least = earliest_convergence(plan.rule, every_round=_measures_every_round(plan))
    if n_rounds < least:
        notes.append(
            f"  note: 'converged' takes {least} rounds that agree, and there will be {n_rounds}; "
            "this campaign can end with not_yet or undetermined only"
        )
    select = plan.file.select
    if (select.method, select.uncertainty, plan.file.learn.members) == ("uncertain+fps", "committee", 1):
        notes.append(
            "  note: a committee of one has no spread, so frames will be chosen by difference alone; "
            "give learn.members 2 or more, or select.uncertainty last_layer"
        )
    n_random = max(N_RANDOM_MIN, round(select.random_share * select.labels_per_round))
    if select.method != "random" and 0 < select.random_share < 1 and n_random >= select.labels_per_round:
        notes.append(
            f"  note: at least {N_RANDOM_MIN} frames a round are drawn at random, so all {select.labels_per_round} "
            f"labels will be; give select.labels_per_round {2 * N_RANDOM_MIN} or more, or select.random_share 0"
        )
    if select.random_share == 0 and select.method != "random" and plan.rule.force_error_eV_per_A is not None:
        notes.append(
            "  note: without random frames the force error on frames not yet trained on is not known, so this campaign "
            f"cannot converge; {WITHOUT_RANDOM_FRAMES}"
        )
    diffusion = plan.file.measure.diffusion
    needed_ps = 0.0 if diffusion is None else shortest_run_ps(diffusion.replicas)
    if diffusion is not None and (shortest_ps := min(diffusion.durations_ps)) < needed_ps:
        notes.append(
            f"  note: a trajectory of {shortest_ps:g} ps is too short to measure a diffusivity in; "
            f"give measure.diffusion.duration_ps {needed_ps:g} or more"
        )
    if diffusion is not None:
        notes += _temperature_notes(diffusion) + _hotter_notes(diffusion, max(plan.file.explore.temperatures_K))
    limit_ps = plan.file.stop.max_md_ps
    if diffusion is not None and limit_ps and (once_ps := diffusion.replicas * sum(diffusion.durations_ps)) >= limit_ps:
        notes.append(
            f"  note: one measurement takes {once_ps:g} ps, so stop.max_md_ps {limit_ps:g} buys no more; raise it"
        )
    return tuple(notes)


def _temperature_notes(diffusion: Diffusion) -> list[str]:
    """What the temperatures ask for, whatever the rates turn out to be."""
    if len(diffusion.temperatures_K) < 2:
        return [
            "  note: one temperature gives no activation energy, so this campaign cannot converge; give "
            "measure.diffusion.temperatures_K two, or three to see whether the line is straight"
        ]
    n_hops = hops_for(diffusion.temperatures_K, diffusion.tolerance_eV)
    remedy = "; a wider range takes fewer" if n_hops > MANY_HOPS else ""
    return [
        f"  note: to know Ea within {diffusion.tolerance_eV:g} eV takes about {n_hops:.0f} hops at each temperature, "
        f"in every round that is compared{remedy}"
    ]


def _hotter_notes(diffusion: Diffusion, explored_K: float) -> list[str]:
    """Whether the model is to be measured hotter than it is tested."""
    if (hottest_K := max(diffusion.temperatures_K)) <= explored_K:
        return []
    return [
        f"  note: diffusion is measured up to {hottest_K:g} K, frames are explored up to {explored_K:g} K, so the "
        f"force error is never tested above that; give explore.temperatures_K {hottest_K:g} too"
    ]


def _width_A(frame: Frame) -> float:
    """Smallest distance of two opposite faces of the cell, of those that are periodic."""
    widths = widths_A(complete_cell(frame.cell))
    return float(min(widths[np.asarray(frame.pbc, dtype=bool)], default=np.inf))


def _timestep_notes(plan: Plan, frame: Frame) -> tuple[str, ...]:
    """Whether time steps are too long for the lightest atom."""
    file, longest_fs = plan.file, timestep_for(frame)
    steps_fs = {"explore.timestep_fs": file.explore.timestep_fs}
    if file.measure.diffusion is not None:
        steps_fs["measure.diffusion.timestep_fs"] = file.measure.diffusion.timestep_fs
    return tuple(
        f"  note: {key} {step_fs:g} is long for hydrogen; give {longest_fs:g}"
        for key, step_fs in steps_fs.items()
        if longest_fs < min(step_fs, 2.0)
    )


def _gamma_point_notes(plan: Plan, frame: Frame) -> tuple[str, ...]:
    """Whether a labeller without k-points is given too small a cell."""
    label, width = plan.file.label, _width_A(frame)
    if label.kind != "semiempirical" or label.code == "ase" or width >= GAMMA_POINT_WIDTH_A:
        return ()
    return (
        f"  note: {label.model} is of the Gamma point alone, which takes a cell of {GAMMA_POINT_WIDTH_A:g} Å or more; "
        f"this one is {width:.1f} Å wide at its narrowest, and pressures are wrong by gigapascals",
    )


def _cell_notes(frame: Frame, cutoff_A: float) -> tuple[str, ...]:
    """Whether an atom has both an atom and that atom's periodic image within the cutoff."""
    width = _width_A(frame)
    if width >= 2 * cutoff_A:
        return ()
    return (
        f"  note: the cell is {width:.1f} Å wide at its narrowest, less than twice the model's cutoff of "
        f"{cutoff_A:g} Å: a defect acts on its own images; a larger system.supercell shows how much that matters",
    )


def _measures_every_round(plan: Plan) -> bool:
    """Whether no round's MD waits for a barrier to settle, if only for want of a barrier."""
    diffusion = plan.file.measure.diffusion
    return diffusion is None or diffusion.every_round or not plan.follows_barrier
