"""What the commands on files share: loading what the user names, and saying what is wrong with it."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import typer
from numpy.typing import NDArray

from curator.datasets.frame import Frame
from curator.errors import BadInput, CuratorError, is_disk_full
from curator.state import plain_json

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

    from curator.backends.base import LabellerSpec
    from curator.learners.mace import MaceModel

Model = Annotated[
    str,
    typer.Option("--model", help="mini-halides, mace:<name>, or the path of a model; with #<head> if it has several."),
]
Potential = Annotated[
    str,
    typer.Option(
        "--model",
        help="mini-halides, mace:<name>, a path, chgnet:r2scan, lif-fumi-tosi, or a YAML file with the section label "
        "of a campaign.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")]
Theory = Annotated[
    str | None,
    typer.Option("--theory", help="Level of theory, by name or key, of a data set that holds several."),
]
Structure = Annotated[str, typer.Argument(help="A structure file, or a shipped builder such as lif-interstitial.")]

KINDS: "dict[str, Literal['classical', 'semiempirical']]" = {
    "lif-fumi-tosi": "classical",
    "gfn1-xtb": "semiempirical",
    "gfn2-xtb": "semiempirical",
}
"""Kinds of labellers by name; any other name is of a universal potential."""


@contextmanager
def bad_input() -> Iterator[None]:
    """What lower floors say of bad values is for the user."""
    try:
        yield
    except (ValueError, OSError) as error:
        if isinstance(error, CuratorError) or is_disk_full(error):
            raise
        raise BadInput(str(error)) from error


def show(as_json: bool, content: dict[str, Any], lines: list[str]) -> None:
    """Print JSON for a program, or lines for a person."""
    print(json.dumps(plain_json(content), indent=1) if as_json else "\n".join(lines))


def load(reference: str, trust: bool) -> "MaceModel":
    """Model that a user names."""
    from curator.learners.foundation import load_foundation

    with bad_input():
        return load_foundation(reference, trust=trust, device="cpu")


def labeller_named(reference: str, trust: bool, frames: Sequence[Frame] = ()) -> "LabellerSpec":
    """Labeller, or model in the part of one, that a user names by itself or in a file, for ``frames``."""
    from ase.data import chemical_symbols

    from curator.backends.base import LabellerSpec
    from curator.backends.labellers import make_labeller
    from curator.labelling import labeller_of, read_label_file

    file = Path(reference)
    if file.suffix in (".yaml", ".yml"):
        charges = sorted({(frame.charge, frame.multiplicity) for frame in frames}) or [(0, 0)]
        if len(charges) > 1:
            found = ", ".join(f"charge {charge:+d} with multiplicity {spin}" for charge, spin in charges)
            raise BadInput(f"the frames are of several kinds ({found}), which are several levels of theory; split them")
        symbols = {chemical_symbols[number] for frame in frames for number in frame.numbers}
        charge, multiplicity = charges[0]
        section, folder = read_label_file(file), file.resolve().parent
        if section.also is not None:
            raise BadInput(f"{file}: label.also is for campaigns; ask again with the other labeller alone")
        with bad_input():
            spec = labeller_of(section, symbols, folder, charge=charge, multiplicity=multiplicity, trust=trust)
    else:
        spec = LabellerSpec(KINDS.get(reference, "pseudolabel"), reference, trust=trust)
    with bad_input():
        make_labeller(spec)
    return spec


def potential_named(reference: str, trust: bool, frame: Frame) -> "tuple[Calculator, str]":
    """Calculator of a model or labeller that a user names, which can calculate ``frame``, and its identity."""
    from curator.backends.labellers import labeller_calculator, make_labeller

    spec = labeller_named(reference, trust, [frame])
    check_calculates(spec, frame)
    return labeller_calculator(spec), make_labeller(spec).theory.key


def structure_of(structure: str) -> Frame:
    """Structure that a user names: a file's last frame, or a shipped builder's."""
    from curator.build import is_builder
    from curator.datasets.extxyz import read_frames
    from curator.datasets.sources import build_seed

    with bad_input():
        if is_builder(structure, Path()):
            return build_seed(structure).frame
        return read_frames(Path(structure))[-1]


def check_calculates(spec: "LabellerSpec", frame: Frame) -> None:
    """Raise :class:`BadInput` if a labeller can make nothing of a frame."""
    from curator.backends.base import LabelFailed
    from curator.backends.labellers import label_frame

    outcome = label_frame(spec, frame)
    if isinstance(outcome, LabelFailed):
        raise BadInput(f"{spec.model}: cannot calculate this structure: {outcome.message}")


def check_known(model: "MaceModel", numbers: NDArray[np.int32], reference: str) -> None:
    """Raise :class:`BadInput` if the model lacks an element."""
    from ase.data import chemical_symbols

    missing = sorted({int(number) for number in numbers} - set(model.elements))
    if missing:
        symbols = ", ".join(chemical_symbols[number] for number in missing)
        raise BadInput(f"{reference}: does not know {symbols}; choose a model that does")
