"""The level of theory of imported labels: what the user says, checked against what the files tell."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from curator.dataset import DataSet
from curator.datasets.label import Theory
from curator.datasets.output import Output
from curator.datasets.theories import count_theories, differences_of, merged, method_of
from curator.errors import BadInput

KPOINT_FACTOR = 2.0
"""Meshes of k-points whose spacings differ by more than this factor are worth a note."""


def theories_of(
    paths: Sequence[Path], outputs: Sequence[Output], held: DataSet, name: str, code: str | None
) -> tuple[list[Theory], list[str]]:
    """Level of theory of each file, all with one key, and what the user should know.

    Parameters
    ----------
    paths, outputs
        The files.
    held
        What the data set holds.
    name
        Name of the level of theory, or key of one that is held.
    code
        Program, where the files do not tell.

    Raises
    ------
    BadInput
        If the files contradict each other, or what is held of the level of theory.
    """
    counts = count_theories(held.records)
    known = held.theories.get(name)
    if known is None and "@" in name:
        there = ", ".join(held.theories) or "none yet"
        raise BadInput(f"--theory: the data set holds no {name}; there is {there}; a new name holds no @")
    if known is not None and known.hashes:
        raise BadInput(
            f"--theory: the labels of {name} were calculated by curator, with more settings than these files tell; "
            "choose a name of their own"
        )
    base = known or Theory(name, code or _code(paths, outputs) or "unknown")
    if (found := _code(paths, outputs)) not in (None, base.code):
        raise BadInput(f"--theory: {name} is of {base.code}, these files are of {found}; choose another name")
    told = Theory(base.method, base.code)
    for path, output in zip(paths, outputs, strict=True):
        theory = replace(told, settings=output.settings, versions=output.versions, details=output.details)
        for difference in differences_of(told, theory):
            raise BadInput(
                f"{path}: not of one level of theory with the files before it: {difference}; "
                "import each under its own name"
            )
        told = merged(told, theory)
    common = told if known is None else replace(told, settings=known.settings, hashes=known.hashes)
    for difference in differences_of(held.theories.get(common.key, common), told):
        raise BadInput(f"--theory: the data set holds another {name}: {difference}; choose another name")
    each = [replace(common, versions=output.versions or base.versions, details=output.details) for output in outputs]
    notes = [
        f"the data set also holds {other} ({n} labels), which is kept apart: {_why(other, held, common)}"
        for other, n in counts.items()
        if other != common.key and method_of(other) == common.method
    ]
    return each, notes + _kpoint_notes(paths, outputs)


def _code(paths: Sequence[Path], outputs: Sequence[Output]) -> str | None:
    """The one program of all files that tell."""
    codes = {output.code: path for path, output in zip(paths, outputs, strict=True) if output.code != "unknown"}
    if len(codes) > 1:
        (one, first), (other, second) = list(codes.items())[:2]
        raise BadInput(f"{first} is of {one}, {second} of {other}: not one level of theory; import each by itself")
    return next(iter(codes), None)


def _why(other: str, held: DataSet, new: Theory) -> str:
    one = held.theories.get(other)
    codes = [] if one is None or one.code == new.code else [f"code: {one.code} and {new.code}"]
    differences = codes + ([] if one is None else differences_of(one, new))
    if one is not None and one.hashes and not differences:
        return "curator calculated them, with more settings than these files tell"
    return "; ".join(differences) or f"not all settings of both are known; if they are the same, say --theory {other}"


def _kpoint_notes(paths: Sequence[Path], outputs: Sequence[Output]) -> list[str]:
    """Tell if some meshes are much coarser than others; sampling goes with the cell, and is no part of the key."""
    spacings = {}
    for path, output in zip(paths, outputs, strict=True):
        mesh = output.details.get("kpoints")
        if isinstance(mesh, list) and len(mesh) == 3 and output.steps and min(mesh) > 0:
            reciprocal = np.linalg.norm(2 * np.pi * output.steps[0].atoms.cell.reciprocal().array, axis=1)
            spacings[path] = float((reciprocal / mesh).max())
    if not spacings or max(spacings.values()) < KPOINT_FACTOR * min(spacings.values()):
        return []
    fine, coarse = (choose(spacings, key=lambda path: spacings[path]) for choose in (min, max))
    return [
        f"k-points are {spacings[coarse]:.2f} per Å apart in {coarse} and {spacings[fine]:.2f} in {fine}; "
        "if that changes the forces, import them under names of their own"
    ]
