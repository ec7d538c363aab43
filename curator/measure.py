"""The stages of a round that measure: test errors, forgetting, the barrier, diffusion; and their evidence."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from curator.anchor import Anchor
from curator.backends.executor import Task
from curator.build import hop_length_A, n_carriers
from curator.choose import Chosen, last_layer_after
from curator.config_measure import Diffusion as DiffusionSettings
from curator.context import Context, labelled, run_tasks, values_of
from curator.datasets.atomic import atomic_path
from curator.datasets.extxyz import read_own_records
from curator.datasets.frame import Frame
from curator.datasets.label import Record
from curator.datasets.sources import Hop
from curator.diffusion.measurement import (
    Arrhenius,
    Diffusivity,
    as_json,
    coldest_first,
    fit_arrhenius,
    measure_diffusion,
)
from curator.explore import read_candidates
from curator.learners.base import Prediction
from curator.learners.mace import REPLAY
from curator.learners.metrics import energy_rmse_per_atom, force_rmse, median_frame_force_rmse
from curator.state import Json, Stage
from curator.tasks import ModelAt, TrainedMember, last_layer_spread_of, predict_frames, run_trajectory
from curator.trajectory import MDSettings, Trajectory, measuring_seed
from curator.uncertainty import Calibration, committee_spread, force_error

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Errors:
    """Errors of a round's models.

    Attributes
    ----------
    numbers
        Of the round's JSON.
    arrays
        For figures.
    """

    numbers: Json
    arrays: Arrays


def records_for_test(context: Context) -> list[Record]:
    """Test frames of round 0; those of an exam are of the test split too, but came later and are no part of a trend."""
    return [record for record in labelled(context) if record.provenance.reason == "test"]


def measure_errors(context: Context, round_: int) -> Errors:
    """Errors of foundation and model on the test frames, beside their spread, and on the probe."""
    test = records_for_test(context)
    probe_file = context.folder.setup / "probe.extxyz"
    probe = read_own_records(probe_file) if probe_file.exists() else []
    members = context.members(round_)
    kind = context.plan.file.select.uncertainty
    others = members[1:] if kind == "committee" else []
    wanted: list[tuple[ModelAt, list[Record]]] = [
        (context.foundation, test),
        (members[0], test),
        (context.foundation, probe),
        # What it remembers of the foundation's level of theory is in the head that was kept for it.
        (replace(members[0], head=REPLAY), probe),
        *((member, test) for member in others),
    ]
    tasks = [
        Task(
            predict_frames,
            (model, [record.frame for record in part], ("energy", "forces")),
            f"predict {model.folder.name}",
        )
        for model, part in wanted
    ]
    if kind == "last_layer":
        last_layer = last_layer_after(context, round_)
        frames = [record.frame for record in test]
        tasks.append(Task(last_layer_spread_of, (members[0], last_layer, frames), "spread of the last layer"))
    outcomes = run_tasks(context, "md", tasks, round_=round_, stage="measure errors")
    values = values_of(outcomes, "prediction on labelled frames")
    found = cast(list[list[Prediction]], values[: len(wanted)])

    def on_probe(error: Callable[[Sequence[Prediction], Sequence[Record]], float]) -> Json | None:
        """Error of foundation and model; None if there is no probe."""
        return {"foundation": error(found[2], probe), "model": error(found[3], probe)} if probe else None

    numbers: Json = {
        "force_rmse_eV_per_A": {
            "foundation": force_rmse(found[0], test),
            "model": force_rmse(found[1], test),
        },
        "energy_rmse_eV_per_atom": {
            "foundation": energy_rmse_per_atom(found[0], test, centred=True),
            "model": energy_rmse_per_atom(found[1], test, centred=True),
        },
        "probe_force_rmse_eV_per_A": on_probe(force_rmse),
        "probe_median_frame_force_rmse_eV_per_A": on_probe(median_frame_force_rmse),
        # Those of the target's head are of another level of theory.
        "probe_energy_rmse_eV_per_atom": on_probe(energy_rmse_per_atom)
        if context.plan.strategy.replay != "none"
        else None,
    }
    committee = [found[1], *found[4:]]
    forces = [np.array([_forces(of_member[i]) for of_member in committee]) for i in range(len(test))]
    if kind == "last_layer":
        spread = cast(list[NDArray[np.float64]], values[-1])
    else:
        # Of a single model it is zero, and calibrates nothing.
        spread = [committee_spread(frame) if len(frame) > 1 else np.zeros(frame.shape[1]) for frame in forces]
    arrays: Arrays = {
        "spread_kind": np.array(kind),
        "test_spread_eV_per_A": _pooled(spread),
        "test_error_eV_per_A": _errors(forces, [record.label.forces for record in test]),
    }
    for name, predictions in (("foundation", found[0]), ("model", found[1])):
        arrays[f"test_forces_{name}"] = np.concatenate([_forces(prediction) for prediction in predictions])
        arrays[f"test_energies_{name}"] = _centred([prediction.energy for prediction in predictions], test)
    arrays["test_forces_reference"] = np.concatenate([record.label.forces for record in test])
    arrays["test_energies_reference"] = _centred([record.label.energy for record in test], test)
    return Errors(numbers, arrays)


def fresh_errors(context: Context, round_: int, chosen: Chosen, calibration: Calibration | None) -> Errors:
    """Errors of the previous models on the frames of this round, before anything was trained on them.

    Those of the random share alone are unbiased; the others were chosen for being hard. Predicted errors are held
    against those of whatever they were predicted for, a committee's mean or the first member; the stopping rule judges
    the first member, which is the model that a campaign ends with, and compares it with its predecessors on the same
    frames: a few are hotter in one round than in the next by chance.
    """
    by_hash = {record.frame.hash: record for record in labelled(context)}
    candidates = read_candidates(context.folder.round(round_) / "explore" / "candidates.extxyz")
    forces, spreads, records, random = [], [], [], []
    for k, idx in enumerate(chosen.idx):
        record = by_hash.get(candidates[idx].frame.hash)
        if record is not None:
            forces.append(chosen.forces[k])
            spreads.append(np.full(len(record.frame), np.nan) if chosen.spread is None else chosen.spread[k])
            records.append(record)
            random.append(chosen.reasons[k] == "random")
    references = [record.label.forces for record in records]
    spread, error = _pooled(spreads), _errors(forces, references)
    frame = np.repeat(np.arange(len(references)), np.array([len(reference) for reference in references], dtype=int))
    is_random = np.array(random, dtype=bool)[frame]
    arrays: Arrays = {
        "spread_eV_per_A": spread,
        "calibrated_eV_per_A": np.full(len(spread), np.nan) if calibration is None else calibration(spread),
        "error_eV_per_A": error,
        "error_is_random": is_random,
        "error_frame": frame,
        "spread_is_known": np.array(chosen.spread is not None),
    }
    of_first = _errors([each[:1] for each in forces], references)
    fresh = float(np.sqrt(np.mean(of_first[is_random] ** 2))) if is_random.any() else None
    drawn = [record for record, is_drawn in zip(records, random, strict=True) if is_drawn]
    numbers: Json = {
        "fresh_force_rmse_eV_per_A": fresh,
        "fresh_force_rmse_of_earlier_eV_per_A": _errors_of_earlier(context, round_, drawn),
    }
    return Errors(numbers, arrays)


def _errors_of_earlier(context: Context, round_: int, records: Sequence[Record]) -> list[float]:
    """Force errors of the models before the previous one on a round's random frames, the newest first.

    Of the rounds in the window of the stopping rule; the foundation, which this campaign has not trained, is none.
    """
    rounds = range(round_ - 2, max(round_ - 1 - context.plan.rule.window, -1), -1)
    if not records or not rounds:
        return []
    models = [context.member(r, 0) for r in rounds]
    return force_errors_of(context, models, records, round_=round_, stage="measure errors of earlier models")


def force_errors_of(
    context: Context, models: Sequence[ModelAt], records: Sequence[Record], *, round_: int, stage: str
) -> list[float]:
    """Force error of each of some models on the same labelled frames, eV/Å."""
    frames = [record.frame for record in records]
    tasks = [
        Task(predict_frames, (model, frames, ("energy", "forces")), f"predict {model.folder.name}") for model in models
    ]
    outcomes = run_tasks(context, "md", tasks, round_=round_, stage=stage)
    found = cast(list[list[Prediction]], values_of(outcomes, "prediction on labelled frames"))
    return [force_rmse(predictions, records) for predictions in found]


@dataclass(frozen=True, slots=True, eq=False)
class Diffusion:
    """Diffusivities of one round.

    Attributes
    ----------
    measured
        One a temperature.
    arrhenius
        Their activation energy, or None if too few were measured.
    n_exploded
        Trajectories that exploded.
    cpu_s, time_ps
        CPU seconds of the MD, and the time it simulated.
    """

    measured: tuple[Diffusivity, ...]
    arrhenius: Arrhenius | None
    n_exploded: int
    cpu_s: float
    time_ps: float


NOT_MEASURED = Diffusion((), None, 0, 0.0, 0.0)


def diffusion_json(diffusion: Diffusion, settings: DiffusionSettings | None) -> Json:
    """Diffusivities and activation energy as the round's JSON holds them, and how they were measured."""
    return {
        "diffusion": [as_json(measured) for measured in diffusion.measured],
        "arrhenius": None if diffusion.arrhenius is None else as_json(diffusion.arrhenius),
        "md_cpu_s_per_ps": diffusion.cpu_s / diffusion.time_ps if diffusion.time_ps else None,
        "measured_with": None if settings is None else settings.model_dump(mode="json"),
    }


def measure_diffusion_of(
    context: Context, round_: int, settings: DiffusionSettings, start: Frame, hop: Hop | None
) -> Diffusion:
    """Diffusivity at every temperature by MD with the round's model, and the activation energy.

    Trajectories that are there already are continued, or cut to what the settings ask for.

    Parameters
    ----------
    context
        With the sections of the campaign file that held when the round began.
    settings
        How to measure.
    """
    folder = context.folder.round(round_) / "measure"
    # The same seeds in every round: what changes between rounds is the model.
    origin = context.plan.seed_of(-1, Stage.MEASURE)[:3]
    tasks, folders, temperatures = [], [], []
    for temperature_K, duration_ps in zip(settings.temperatures_K, settings.durations_ps, strict=True):
        for replica in range(settings.replicas):
            md = MDSettings(
                temperature_K=temperature_K,
                duration_ps=duration_ps + settings.equilibration_ps,
                timestep_fs=settings.timestep_fs,
            )
            where = folder / f"T{temperature_K:g}-r{replica}"
            seed = measuring_seed(origin, temperature_K, replica, where)
            tasks.append(
                Task(run_trajectory, (context.members(round_)[0], start, md, seed, where), f"MD {temperature_K:g} K")
            )
            folders.append(where)
            temperatures.append(temperature_K)
    outcomes = run_tasks(
        context,
        "md",
        tasks,
        round_=round_,
        stage="measure diffusion",
        progress=[path / "progress.json" for path in folders],
    )
    everything = cast(list[Trajectory], values_of(outcomes, "molecular dynamics"))
    measured = coldest_first(
        settings.temperatures_K,
        lambda temperature_K, guessed_A: measure_diffusion(
            [trajectory for trajectory, T in zip(everything, temperatures, strict=True) if temperature_K == T],
            context.plan.system.mobile,
            hop_length_A=hop_length_A(context.plan, hop),
            guessed_hop_length_A=guessed_A,
            n_carriers=n_carriers(context.plan, start, hop),
            equilibration_ps=settings.equilibration_ps,
        ),
    )
    return Diffusion(
        measured=tuple(measured),
        arrhenius=fit_arrhenius(measured),
        n_exploded=sum(trajectory.status == "exploded" for trajectory in everything),
        cpu_s=sum(trajectory.cpu_s for trajectory in everything),
        time_ps=sum(t.n_steps * t.settings.timestep_fs / 1000 for t in everything),
    )


def round_numbers(context: Context, round_: int, members: Sequence[TrainedMember], anchor: Anchor | None) -> Json:
    """What a round's JSON says of labels, training and barrier."""
    # Its exam comes after it; a round whose JSON is written once more may have it already.
    records = [
        record
        for record in labelled(context)
        if (record.provenance.round, record.provenance.reason) != (round_, "exam")
    ]
    splits = Counter(record.provenance.split for record in records)
    first = members[0]
    return {
        "round": round_,
        "n_labels_total": len(records),
        "n_new_labels": sum(record.provenance.round == round_ for record in records),
        "n_train": splits["train"],
        "n_valid": splits["valid"],
        "n_test": splits["test"],
        "labels_by_reason": dict(Counter(record.provenance.reason for record in records)),
        "barrier_eV": anchor.barrier_eV if anchor else None,
        "barrier_reference_eV": anchor.reference_eV if anchor else None,
        "barrier_gap_eV": anchor.gap_eV if anchor else None,
        "barrier_members_eV": list(anchor.members_eV) if anchor else [],
        "barrier_method": anchor.method if anchor else None,
        "barrier_path_eV": list(anchor.path_eV) if anchor else None,
        "barrier_reasons": list(anchor.reasons) if anchor else ["no hop is followed; give system.hop"],
        "e0": {
            "values_eV": {chemical_symbols[number]: value for number, value in sorted(first.e0.items())},
            "message": first.e0_message,
        },
        "training": [
            {
                "epochs": member.epochs,
                "best_epoch": member.best_epoch,
                "valid_force_rmse_eV_per_A": member.valid_force_rmse,
            }
            for member in members
        ],
    }


def save_evidence(path: Path, *parts: Arrays) -> None:
    """Write the arrays behind a round's figures."""
    merged: Any = {}
    for part in parts:
        merged |= part
    with atomic_path(path) as aside:
        np.savez_compressed(aside, **merged)


def figure_arrays(
    context: Context, round_: int, members: Sequence[TrainedMember], measured: Sequence[Diffusivity]
) -> Arrays:
    """Selection map, learning curve and mean squared displacements, for the report."""
    arrays: Arrays = {}
    with np.load(context.folder.round(round_) / "selection.npz") as stored:
        arrays |= {name: stored[name] for name in stored if name.startswith("map_")}
    curve = np.array(members[0].curve, dtype=float).reshape(-1, 3)
    arrays |= {
        "learning_epoch": curve[:, 0],
        "learning_valid_target": curve[:, 1],
        "learning_valid_replay": curve[:, 2],
    }
    return arrays | msd_arrays(measured)


def msd_arrays(measured: Sequence[Diffusivity]) -> Arrays:
    """Mean squared displacements, for the report."""
    arrays: Arrays = {}
    for diffusivity in measured:
        name = f"msd_T{diffusivity.temperature_K:g}"
        if diffusivity.msd is not None:
            arrays[f"{name}_lag_ps"] = np.asarray(diffusivity.msd.lag_ps)
            arrays[f"{name}_A2"] = np.asarray(diffusivity.msd.msd_A2)
            arrays[f"{name}_error_A2"] = np.asarray(diffusivity.msd.error_A2)
    return arrays


def _forces(prediction: Prediction) -> NDArray[np.float64]:
    assert prediction.forces is not None
    return prediction.forces


def _errors(forces: Sequence[NDArray[np.float64]], references: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Force error of each atom, eV/Å, pooled over frames; of the mean, where there are several members."""
    return _pooled([force_error(frame.mean(axis=0), true) for frame, true in zip(forces, references, strict=True)])


def _pooled(parts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.concatenate([np.zeros(0), *parts])


def _centred(energies: Sequence[float], records: Sequence[Record]) -> NDArray[np.float64]:
    per_atom = np.array([energy / len(record.frame) for energy, record in zip(energies, records, strict=True)])
    return np.asarray(per_atom - per_atom.mean())
