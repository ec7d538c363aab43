"""The command line: molecular dynamics that proposes frames."""

from pathlib import Path
from typing import Annotated

import typer

from curator.cli import AsJson, Trust, app
from curator.commands.arguments import (
    Potential,
    Seed,
    Structure,
    Timestep,
    check_positive,
    potential_named,
    progress_bar,
    show,
    structure_of,
)
from curator.errors import CuratorError, bad_input
from curator.trajectory import EXPLORE_EQUILIBRATION_PS


@app.command()
def explore(
    structure: Structure,
    out: Annotated[Path, typer.Option("--out", help="extxyz file of the candidates.")] = Path("candidates.extxyz"),
    model: Potential = "mini-halides",
    temperature_K: Annotated[
        list[float] | None, typer.Option("--temperature-K", help="May be given several times; 600 by default.")
    ] = None,
    duration_ps: Annotated[
        float,
        typer.Option(
            "--duration-ps", help=f"Length of each run; its first {EXPLORE_EQUILIBRATION_PS:g} ps yield no candidates."
        ),
    ] = 2.0,
    interval_ps: Annotated[float, typer.Option("--interval-ps", help="Time between candidates.")] = 0.1,
    timestep_fs: Timestep = None,
    seed: Seed = 0,
    as_json: AsJson = False,
    trust: Trust = False,
) -> None:
    """Run molecular dynamics and keep frames that may be worth a label."""
    from curator.explore import candidates_of, write_candidates
    from curator.md import run_md
    from curator.trajectory import MDSettings, check_explores, timestep_for

    check_positive(
        {
            "--temperature-K": temperature_K,
            "--duration-ps": duration_ps,
            "--interval-ps": interval_ps,
            "--timestep-fs": timestep_fs,
        }
    )
    with bad_input():
        check_explores(duration_ps, interval_ps)
    frame = structure_of(structure)
    calculator, _ = potential_named(model, trust, frame)
    candidates, runs = [], []
    with progress_bar() as bar:
        for idx, temperature in enumerate(temperature_K or [600.0]):
            with bad_input():
                step_fs = timestep_fs or timestep_for(frame)
                settings = MDSettings(temperature, duration_ps, step_fs, frame_interval_fs=1000 * interval_ps)
            row = bar.add_task(f"MD {temperature:g} K", total=duration_ps)
            trajectory = run_md(
                frame,
                calculator,
                settings,
                seed=[seed, idx],
                on_progress=lambda done, total, row=row: bar.update(row, completed=done, total=total),  # type: ignore[misc]
            )
            found = candidates_of(
                trajectory,
                group=f"T{temperature:g}",
                source=f"explore/T{temperature:g}",
            )
            candidates.extend(found)
            runs.append({"temperature_K": temperature, "n_candidates": len(found), "reason": trajectory.reason})
    if not candidates:
        raise CuratorError("no trajectory gave a sane frame; lower the temperature or choose another model")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_candidates(out, candidates)
    lines = [
        f"{run['temperature_K']:g} K: {run['n_candidates']} candidates; {run['reason'] or 'ran to its end'}"
        for run in runs
    ]
    content = {"n_candidates": len(candidates), "trajectories": runs, "out": out}
    show(as_json, content, [*lines, f"wrote {len(candidates)} candidates to {out}"])
