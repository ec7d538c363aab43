"""The command line: what measures models and trajectories, on files."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from ase.data import atomic_numbers

from curator.cli import AsJson, Trust, app
from curator.commands.arguments import Seed, Timestep, check_known, load, progress_bar, show, structure_of
from curator.errors import BadInput, bad_input
from curator.state import Json

if TYPE_CHECKING:
    from curator.datasets.frame import Frame
    from curator.datasets.label import Record
    from curator.learners.mace import MaceModel
    from curator.probes import ProbeSettings

DEFAULT_STRUCTURE = "lif-interstitial"


@app.command()
def probe(
    model: Annotated[str, typer.Argument(help="Model to examine: mini-halides, mace:<name>, or a path.")],
    structure: Annotated[
        str,
        typer.Option("--structure", help="Where hot MD begins; random cells have its composition and density."),
    ] = DEFAULT_STRUCTURE,
    foundation: Annotated[
        str | None,
        typer.Option("--foundation", help="Model to compare with; mini-halides if the model comes from it."),
    ] = None,
    frames: Annotated[
        Path | None,
        typer.Option("--frames", help="Frames labelled at the foundation's level; those that come with it by default."),
    ] = None,
    elements: Annotated[
        str | None, typer.Option("--elements", help="Of the dimers, such as Li,F; those of the structure by default.")
    ] = None,
    n_structures: Annotated[int, typer.Option("--n", min=1, help="Random structures.")] = 12,
    pressure_GPa: Annotated[
        list[float] | None, typer.Option("--pressure-GPa", help="May be given several times; 0.1 and 50 by default.")
    ] = None,
    temperature_K: Annotated[float, typer.Option("--temperature-K", help="Of the hot MD.")] = 1500.0,
    trajectories: Annotated[int, typer.Option("--trajectories", min=1, help="Hot trajectories.")] = 2,
    duration_ps: Annotated[float, typer.Option("--duration-ps", help="Length of each.")] = 2.0,
    timestep_fs: Timestep = None,
    seed: Seed = 0,
    as_json: AsJson = False,
    trust: Trust = False,
) -> None:
    """Measure what a model has forgotten, and whether it holds out where it was never trained."""
    from curator.probes import ProbeSettings
    from curator.trajectory import timestep_for

    examined, frame = load(model, trust), structure_of(structure)
    check_known(examined, frame.numbers, f"{model}, asked about {structure} (--structure)")
    chosen = sorted(set(frame.numbers.tolist())) if elements is None else _numbers(elements)
    check_known(examined, np.array(chosen), model)
    reference = _reference(examined, foundation, trust)
    settings = ProbeSettings(
        n_structures=n_structures,
        pressures_GPa=tuple(pressure_GPa or (0.1, 50.0)),
        temperature_K=temperature_K,
        duration_ps=duration_ps,
        timestep_fs=timestep_fs or timestep_for(frame),
        n_trajectories=trajectories,
        seed=(seed,),
    )
    with bad_input():
        _ = settings.md  # says what is wrong with a length or temperature before anything is run
    models = {"model": examined} | ({} if reference is None else {"foundation": reference})
    for name, other in models.items():
        check_known(other, np.array([*frame.numbers, *chosen]), foundation or name)
    content: Json = {
        "n_atoms": len(frame),
        "structure": frame.hash,
        "forgetting": _forgetting(models, frames, _with_frames(foundation, model)),
        **{name: _probed(other, frame, settings, chosen, name) for name, other in models.items()},
    }
    show(as_json, content, [*_lines(content), *_hint(examined, reference)])


def _hint(model: "MaceModel", reference: "MaceModel | None") -> list[str]:
    """Where the foundation of a fine-tuned model is not compared with, how to do so."""
    if reference is not None or model.metadata.get("foundation") is None:
        return []
    name = model.metadata.get("foundation_name") or "NAME"
    return [f"not compared with the foundation it was fine-tuned from; name it with --foundation {name}"]


def probes_after_fit(
    model: "MaceModel", base: "MaceModel", reference: str, training: Sequence["Record"], seed: int
) -> Json:
    """Probes of a model that was fine-tuned on labelled frames, at their cheap defaults, as JSON.

    The structure is the training frame whose largest force is the smallest.
    """
    from curator.learners.e0 import is_isolated_atom
    from curator.probes import ProbeSettings
    from curator.trajectory import timestep_for

    records = [record for record in training if not is_isolated_atom(record)]
    frame = min(records, key=lambda record: float(np.abs(record.label.forces).max())).frame
    elements = sorted({int(z) for record in records for z in record.frame.numbers})
    settings = ProbeSettings(timestep_fs=timestep_for(frame), seed=(seed,))
    errors = _forgetting({"model": model, "foundation": base}, None, reference)
    return {"structure": frame.hash, "forgetting": errors, **_probed(model, frame, settings, elements, "model")}


def _probed(model: "MaceModel", structure: "Frame", settings: "ProbeSettings", elements: list[int], name: str) -> Json:
    """Probes of a model with a progress bar, as JSON."""
    from curator.probes import probe as run_probes
    from curator.probes import probes_json

    with progress_bar() as bar, bad_input():
        row = bar.add_task("probes", total=1.0)
        found = run_probes(
            model,
            structure,
            settings,
            elements=elements,
            on_part=lambda part, done: bar.update(row, completed=done, description=f"{name}: {part}"),
        )
    return probes_json(found)


def _numbers(text: str) -> list[int]:
    symbols = [symbol.strip() for symbol in text.split(",")]
    unknown = [symbol for symbol in symbols if not atomic_numbers.get(symbol)]
    if unknown:
        raise BadInput(f"--elements: {unknown[0]!r} is not the symbol of an element; write, for example, Li,F")
    return sorted({atomic_numbers[symbol] for symbol in symbols})


def _reference(model: "MaceModel", foundation: str | None, trust: bool) -> "MaceModel | None":
    """The model to compare with, or None where there is none."""
    from curator.learners.reference import MINI_HALIDES

    reference = load(foundation or MINI_HALIDES, trust)
    if foundation is None and model.metadata.get("foundation") != reference.hash:
        return None
    return None if model.hash == reference.hash else reference


def _with_frames(*references: str | None) -> str:
    """The first of some models that frames come with; the embedded one if there is none."""
    from curator.learners.reference import MINI_HALIDES, own_frames

    return next((name for name in references if name and own_frames(name) is not None), MINI_HALIDES)


def _hashes(models: "dict[str, MaceModel]") -> set[str]:
    return {model.hash for model in models.values()}


def _forgetting(models: "dict[str, MaceModel]", frames: Path | None, known: str) -> Json | None:
    """Errors on frames of a file, or else on those that come with the model called ``known``, if it is one of them.

    None if no such frames come with it, or none of them holds only elements that the models know.
    """
    from curator.datasets.extxyz import MissingLabelError, read_records
    from curator.datasets.label import Theory
    from curator.learners.probes import forgetting
    from curator.learners.reference import own_frames
    from curator.learners.replay import probe_records

    if frames is None and (own_frames(known) is None or load(known, trust=False).hash not in _hashes(models)):
        return None
    with bad_input():
        try:
            records = probe_records(known) if frames is None else read_records(frames, theory=Theory("file", "unknown"))
        except MissingLabelError as error:
            raise BadInput(f"--frames: {error.finding}; label them first: curator label") from error
    elements = set.intersection(*(set(model.elements) for model in models.values()))
    records = [record for record in records if set(record.frame.numbers.tolist()) <= elements]
    if not records and frames is None:
        return None
    if not records:
        raise BadInput("--frames: none of the frames holds only elements that the models know; give others")
    return {
        # What was trained here names its foundation, and has energies of another level of theory.
        name: asdict(
            forgetting(model, records, is_foundation=name == "foundation" or model.metadata.get("foundation") is None)
        )
        for name, model in models.items()
    }


def _lines(content: Json) -> list[str]:
    """A table with a column for each model."""
    from curator.report.tables_probes import probe_cells

    names = [name for name in ("foundation", "model") if name in content]
    columns: dict[str, dict[str, str]] = {name: {} for name in names}
    for name in names:
        errors = content["forgetting"] and content["forgetting"][name]
        if errors:
            columns[name]["Probe frames"] = str(errors["n_frames"])
            columns[name]["Force error (meV/Å)"] = f"{1000 * errors['force_rmse_eV_per_A']:.0f}"
            columns[name]["Of the median frame (meV/Å)"] = f"{1000 * errors['median_frame_force_rmse_eV_per_A']:.0f}"
            energy = errors["energy_rmse_eV_per_atom"]
            columns[name]["Energy error (meV/atom)"] = "-" if energy is None else f"{1000 * energy:.1f}"
        columns[name] |= probe_cells(content[name])
    width = max(len(cell) for column in columns.values() for cell in column.values()) + 2
    lines = [f"{'':28}" + "".join(f"{name:>{width}}" for name in names)]
    lines += [f"{row:28}" + "".join(f"{columns[name][row]:>{width}}" for name in names) for row in columns[names[0]]]
    for name in names:
        falls = [(f"{s['pressure_GPa']:g} GPa", hole) for s in content[name]["random_search"] for hole in s["holes"]]
        falls += [("hot MD", reason) for reason in content[name]["hot_md"]["reasons"]]
        lines += [f"{name}, {where}: {why}" for where, why in falls if why]
    return lines
