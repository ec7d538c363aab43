"""The command line: migration barriers, of one hop or of every hop of a crystal."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from ase.cell import Cell
from ase.data import atomic_numbers
from ase.geometry import find_mic

from curator.backends.base import LabellerSpec
from curator.cli import AsJson, Trust, app
from curator.commands.arguments import (
    Potential,
    check_calculates,
    check_positive,
    labeller_named,
    progress_bar,
    refuse,
    show,
    structure_of,
)
from curator.datasets.frame import Frame
from curator.datasets.sources import Hop, Mechanism
from curator.errors import BadInput, bad_input

if TYPE_CHECKING:
    from curator.barriers.barrier import Barrier
    from curator.barriers.hops import NamedHop

N_HOPS = 10
"""Hops that are calculated where a crystal has more."""
SAME_PLACE_A = 0.1
"""No hop is as short as this."""


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    """Hops to calculate: what is known of each beforehand, where the cell comes from, and how many were left out."""

    hops: list[tuple[dict[str, Any], Hop]]
    lattice: str
    n_left_out: int = 0


@app.command()
def barrier(
    structure: Annotated[
        str | None,
        typer.Argument(help="A shipped builder such as lif-interstitial, the file of a crystal, or that before a hop."),
    ] = None,
    model: Potential = "mini-halides",
    mechanism: Annotated[
        Mechanism | None, typer.Option("--mechanism", help="How the crystal's species hops; each hop is calculated.")
    ] = None,
    mobile: Annotated[str | None, typer.Option("--mobile", help="Symbol of the element that hops.")] = None,
    supercell: Annotated[
        tuple[int, int, int] | None,
        typer.Option("--supercell", help="Repeats of the crystal's cell, as 2 2 2; by default at least 8 Å wide."),
    ] = None,
    max_length_A: Annotated[
        float | None, typer.Option("--max-length-A", help="Longest way of one atom; nearest sites by default.")
    ] = None,
    at_most: Annotated[
        int | None,
        typer.Option(
            "--at-most", min=1, help=f"Hops of a crystal to calculate, shorter ones first; by default {N_HOPS}."
        ),
    ] = None,
    initial: Annotated[Path | None, typer.Option("--initial", help="The file before a hop of your own.")] = None,
    final: Annotated[Path | None, typer.Option("--final", help="After it, same atoms in the same order.")] = None,
    saddle: Annotated[Path | None, typer.Option("--saddle", help="A guess of its saddle point.")] = None,
    lattice_constant_A: Annotated[
        float | None, typer.Option("--lattice-constant-A", help="Of a shipped builder.")
    ] = None,
    relax_cell: Annotated[
        bool, typer.Option("--relax-cell", help="Relax the crystal's cell with the model first.")
    ] = False,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Hops at a time.")] = 1,
    as_json: AsJson = False,
    trust: Trust = False,
) -> None:
    """Find migration barriers, lowest first; every saddle point is proved to be one."""
    check_positive({"--max-length-A": max_length_A, "--lattice-constant-A": lattice_constant_A})
    if supercell is not None and min(supercell) < 1:
        raise BadInput(f"--supercell: repeats must be at least 1; got {' '.join(map(str, supercell))}")
    if final is not None and initial is None and structure is not None:
        initial, structure = Path(structure), None
    if initial is not None or final is not None:
        if initial is None or final is None:
            raise BadInput("--initial and --final: a hop needs both of its end points")
        of_crystals = {
            "structure": structure,
            "--mechanism": mechanism,
            "--mobile": mobile,
            "--supercell": supercell,
            "--max-length-A": max_length_A,
            "--at-most": at_most,
            "--lattice-constant-A": lattice_constant_A,
            "--relax-cell": relax_cell,
        }
        refuse(of_crystals, "--initial and --final say all there is to say")
        todo = _from_files(initial, final, saddle)
        source = labeller_named(model, trust, [todo.hops[0][1].initial])
    else:
        if structure is None:
            raise BadInput("structure: is missing; give a crystal, or the two ends of a hop with --initial and --final")
        refuse({"--saddle": saddle}, "goes with --initial and --final")
        source = labeller_named(model, trust, [structure_of(structure)])
        crystal = _Crystal(source, structure, lattice_constant_A, relax_cell)
        if mechanism is None:
            of_mechanism = {"--mobile": mobile, "--max-length-A": max_length_A, "--at-most": at_most}
            refuse(of_mechanism, "goes with --mechanism")
            todo = _of_builder(crystal, supercell)
        else:
            todo = _of_crystal(crystal, mechanism, mobile, supercell, max_length_A, at_most or N_HOPS)
    check_calculates(source, todo.hops[0][1].initial)
    found = _run(source, [hop for _, hop in todo.hops], workers)
    rows = [about | _numbers(each) for (about, _), each in zip(todo.hops, found, strict=True)]
    rows.sort(key=lambda row: np.inf if row["barrier_eV"] is None else row["barrier_eV"])
    cell = todo.hops[0][1].initial.cell
    # The numbers of the easiest hop stand by themselves as well.
    content = rows[0] | {
        "path_eV": rows[0]["energies_eV"],
        "model": model,
        "n_atoms": len(todo.hops[0][1].initial),
        "cell_A": cell,
        "lattice": todo.lattice,
        "hops": rows,
        "n_left_out": todo.n_left_out,
    }
    lines = [f"{model}, {content['n_atoms']} atoms in {_shape(cell)}; {todo.lattice}", *_table(rows)]
    if todo.n_left_out:
        lines.append(f"{todo.n_left_out} longer or more bent hops are left out; ask for more with --at-most")
    show(as_json, content, lines)
    if rows[0]["barrier_eV"] is None:
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class _Crystal:
    """What the user says of the crystal."""

    source: LabellerSpec
    structure: str
    lattice_constant_A: float | None
    relax_cell: bool

    @property
    def is_builder(self) -> bool:
        from curator.system import is_builder

        return is_builder(self.structure, Path())


def _cell_of(crystal: _Crystal) -> tuple[Frame, str]:
    """Unit cell of the perfect crystal, and where its lattice comes from."""
    from curator.datasets.extxyz import read_frames
    from curator.datasets.sources import build_seed, rocksalt
    from curator.tasks import relax_cell

    with bad_input():
        if crystal.is_builder:
            seed = build_seed(crystal.structure, crystal.lattice_constant_A)
            unit = rocksalt(seed.host_formula, seed.lattice_constant_A)
            origin = "as given" if crystal.lattice_constant_A is not None else "experimental lattice"
        else:
            if crystal.lattice_constant_A is not None:
                raise BadInput("--lattice-constant-A: is for shipped builders; a file brings its cell")
            unit, origin = read_frames(Path(crystal.structure))[-1], "cell of the file"
    if crystal.relax_cell:
        check_calculates(crystal.source, unit)
        relaxed = relax_cell(crystal.source, unit, crystal.is_builder)
        if not relaxed.converged:
            raise BadInput(f"--relax-cell: the cell did not relax in {relaxed.n_calls} steps; give a better one")
        unit, origin = relaxed.frame, f"lattice relaxed with {crystal.source.model}"
    return unit, f"{origin}: {_shape(unit.cell)}"


def _of_builder(crystal: _Crystal, supercell: tuple[int, int, int] | None) -> _Task:
    from curator.datasets.sources import build_seed
    from curator.system import BUILDER_SUPERCELL

    if not crystal.is_builder:
        raise BadInput(
            "--mechanism: is missing; say which hops: vacancy, interstitial or interstitialcy, "
            "or give the two ends of one with --initial and --final"
        )
    unit, lattice = _cell_of(crystal)
    with bad_input():
        hop = build_seed(crystal.structure, float(unit.cell[0, 0]), supercell or BUILDER_SUPERCELL).hop
    if hop is None:
        raise BadInput(f"{crystal.structure}: a perfect crystal has no hop; say which ones with --mechanism vacancy")
    return _Task([({"name": crystal.structure}, hop)], lattice)


def _of_crystal(
    crystal: _Crystal,
    mechanism: Mechanism,
    mobile: str | None,
    supercell: tuple[int, int, int] | None,
    max_length_A: float | None,
    at_most: int,
) -> _Task:
    from curator.barriers.hops import enumerate_hops
    from curator.datasets.sources import build_seed

    if crystal.is_builder:
        with bad_input():
            seed = build_seed(crystal.structure)
        if seed.defect is not None:
            perfect = seed.host_formula.lower()
            raise BadInput(f"{crystal.structure}: has its defect already; give the perfect crystal, {perfect}")
        mobile = mobile or seed.mobile
    if mobile is None:
        raise BadInput("--mobile: is missing; give the symbol of the element that hops")
    if not atomic_numbers.get(mobile):
        raise BadInput(f"--mobile: must be the symbol of the element that hops; got {mobile}")
    unit, lattice = _cell_of(crystal)
    with bad_input():
        hops = enumerate_hops(unit, mobile, mechanism, supercell, max_length_A)
    return _Task([(_about(hop), hop.hop) for hop in hops[:at_most]], lattice, max(0, len(hops) - at_most))


def _about(hop: "NamedHop") -> dict[str, Any]:
    names = ("name", "kind", "sites", "length_A", "deflection_deg", "multiplicity", "reverse_multiplicity")
    return {name: getattr(hop, name) for name in names}


def _from_files(initial: Path, final: Path, saddle: Path | None) -> _Task:
    from curator.datasets.extxyz import read_frames

    paths = [initial, final] + ([] if saddle is None else [saddle])
    with bad_input():
        frames = [read_frames(path)[-1] for path in paths]
    for path, frame in zip(paths, frames, strict=True):
        if not np.array_equal(frame.numbers, frames[0].numbers):
            raise BadInput(f"{path}: must hold the atoms of {initial} in the same order")
        if not np.allclose(frame.cell, frames[0].cell, atol=1e-6):
            raise BadInput(f"{path}: must have the cell of {initial}")
    _, lengths = find_mic(frames[1].positions - frames[0].positions, frames[0].cell, frames[0].pbc)
    if lengths.max() < SAME_PLACE_A:
        raise BadInput(
            f"{final}: is the same state as {initial}, no atom moves by more than {lengths.max():.2f} Å; give "
            "the state after the hop"
        )
    return _Task([({"name": f"{initial.stem} to {final.stem}"}, Hop(*frames))], "cell of the files")


def _run(source: LabellerSpec, hops: list[Hop], workers: int) -> "list[Barrier | str]":
    """Barriers of the hops, or why the search for one broke off, in their order."""
    from curator.backends.executor import Done, Task, open_executor
    from curator.tasks import barrier_of

    found: list[Barrier | str] = ["never ran"] * len(hops)
    with (
        TemporaryDirectory() as logs,
        open_executor("serial" if workers == 1 else "local", workers, Path(logs)) as executor,
        progress_bar() as bar,
    ):
        row = bar.add_task("hops", total=len(hops))
        for outcome in executor.run("md", [Task(barrier_of, (source, hop), "barrier") for hop in hops]):
            found[outcome.index] = outcome.value if isinstance(outcome, Done) else outcome.error
            bar.advance(row)
    return found


def _numbers(found: "Barrier | str") -> dict[str, Any]:
    names = ("barrier_eV", "reverse_eV", "method", "negative_modes", "mode_overlap", "end_energies_eV", "energies_eV")
    if isinstance(found, str):
        return dict.fromkeys(names) | {"converged": False, "reasons": (found,), "n_calls": 0, "cpu_s": 0.0}
    return {name: getattr(found, name) for name in (*names, "converged", "reasons", "n_calls", "cpu_s")}


def _table(rows: list[dict[str, Any]]) -> list[str]:
    """Lines of a table, and below each row what there is to say about it."""
    width = max(len(str(row["name"])) for row in rows)
    lines = [f"{'hop':{width}}  length Å   n  barrier eV  reverse eV  negative modes, overlap with the path"]
    for row in rows:
        length = f"{row['length_A']:.2f}" if "length_A" in row else ""
        energies = [f"{'-' if row[key] is None else f'{row[key]:.4f}':>10}" for key in ("barrier_eV", "reverse_eV")]
        proof = "-" if row["negative_modes"] is None else str(row["negative_modes"])
        if row["mode_overlap"] is not None:
            proof += f", {row['mode_overlap']:.2f}"
        sites = " > ".join(row.get("sites", ()))
        method = row["method"] or ""
        lines.append(
            f"{row['name']:{width}}  {length:>8} {row.get('multiplicity', ''):>3}  {'  '.join(energies)}  "
            f"{proof} ({method}) {sites}".rstrip()
        )
        lines += [f"    {reason}" for reason in row["reasons"]]
    return lines


def _shape(cell: Any) -> str:
    a, b, c, *angles = Cell(cell).cellpar()
    return f"{a:.3f} x {b:.3f} x {c:.3f} Å, {angles[0]:.1f} {angles[1]:.1f} {angles[2]:.1f}°"
