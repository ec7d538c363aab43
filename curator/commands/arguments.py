"""What the commands on files share: loading what the user names, and saying what is wrong with it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from curator.datasets.frame import Frame
from curator.errors import BadInput, bad_input
from curator.state import plain_json

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

    from curator.backends.base import LabellerSpec
    from curator.config_label import Label
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
Timestep = Annotated[
    float | None, typer.Option("--timestep-fs", help="Time step of the MD; 0.5 with hydrogen, else 2 by default.")
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


def progress_bar() -> Progress:
    """Bar on standard error that goes away when it is done."""
    return Progress(console=Console(stderr=True), transient=True)


def check_positive(options: Mapping[str, float | Sequence[float] | None], *, or_zero: bool = False) -> None:
    """Raise :class:`BadInput` if a number that the user gave is not finite and positive."""
    for name, given in options.items():
        for value in np.atleast_1d([] if given is None else given):
            if not (np.isfinite(value) and (value > 0 or (or_zero and value == 0))):
                must = "zero or more" if or_zero else "positive"
                raise BadInput(f"{name}: must be {must} and finite; got {value:g}")


def refuse(options: Mapping[str, object], why: str) -> None:
    """Raise :class:`BadInput` if the user gave an option that would be ignored."""
    for name, value in options.items():
        if value is not None and value is not False:
            raise BadInput(f"{name}: {why}; leave it out")


def show(as_json: bool, content: dict[str, Any], lines: list[str]) -> None:
    """Print JSON for a program, or lines for a person."""
    print(json.dumps(plain_json(content), indent=1) if as_json else "\n".join(lines))


def load(reference: str, trust: bool) -> "MaceModel":
    """Model that a user names."""
    from curator.learners.foundation import load_foundation

    with bad_input():
        return load_foundation(reference, trust=trust)


def labeller_named(reference: str, trust: bool, frames: Sequence[Frame] = ()) -> "LabellerSpec":
    """Labeller, or model in the part of one, that a user names by itself or in a file, for ``frames``."""
    from curator.backends.labellers import make_labeller

    section = _section(reference)
    if section is not None and section.also is not None:
        raise BadInput(f"{reference}: label.also is for campaigns and curator label; name the one that is meant")
    spec = _spec(reference, section, trust, frames)
    with bad_input():
        make_labeller(spec)
    return spec


def labellers_named(
    reference: str, trust: bool, frames: Sequence[Frame], folder: Path
) -> "tuple[list[LabellerSpec], LabellerSpec | None]":
    """Labeller of each frame, and the one that labels them all beside it, if there is one; they run in ``folder``.

    What a label means depends on no other frame: of a folder of pseudopotentials, a labeller names those of the
    elements of its frame.
    """
    from curator.backends.labellers import make_labeller
    from curator.labelling import pseudolabeller

    section = _section(reference)
    elements = [frozenset(frame.numbers.tolist()) for frame in frames]
    one_of = dict(zip(elements, frames, strict=True))
    if section is not None:
        _charge_of(frames)
    of_elements = {each: _spec(reference, section, trust, [frame]).run_in(folder) for each, frame in one_of.items()}
    beside = None
    if section is not None and section.also is not None:
        with bad_input("label.also"):
            beside = pseudolabeller(section.also, Path(reference).resolve().parent, "auto", trust)
            make_labeller(beside)
    return [of_elements[each] for each in elements], beside


def _section(reference: str) -> "Label | None":
    """Section ``label`` of the file that a user names, if it is one."""
    from curator.labelling import read_label_file

    file = Path(reference)
    return read_label_file(file) if file.suffix in (".yaml", ".yml") else None


def _charge_of(frames: Sequence[Frame]) -> tuple[int, int]:
    """Charge and multiplicity of frames that must agree."""
    charges = sorted({(frame.charge, frame.multiplicity) for frame in frames}) or [(0, 0)]
    if len(charges) > 1:
        found = ", ".join(f"charge {charge:+d} with multiplicity {spin}" for charge, spin in charges)
        raise BadInput(f"the frames are of several kinds ({found}), which are several levels of theory; split them")
    return charges[0]


def _spec(reference: str, section: "Label | None", trust: bool, frames: Sequence[Frame]) -> "LabellerSpec":
    """Labeller for frames of one charge."""
    from ase.data import chemical_symbols

    from curator.backends.base import LabellerSpec
    from curator.labelling import labeller_of

    if section is None:
        return LabellerSpec(KINDS.get(reference, "pseudolabel"), reference, trust=trust)
    charge, multiplicity = _charge_of(frames)
    symbols = {chemical_symbols[number] for frame in frames for number in frame.numbers}
    folder = Path(reference).resolve().parent
    with bad_input():
        return labeller_of(section, symbols, folder, charge=charge, multiplicity=multiplicity, trust=trust)


def potential_named(reference: str, trust: bool, frame: Frame) -> "tuple[Calculator, str]":
    """Calculator of a model or labeller that a user names, which can calculate ``frame``, and its identity."""
    from curator.backends.labellers import labeller_calculator, make_labeller

    spec = labeller_named(reference, trust, [frame])
    check_calculates(spec, frame)
    return labeller_calculator(spec), make_labeller(spec).theory.key


def structure_of(structure: str) -> Frame:
    """Structure that a user names: a file's last frame, or a shipped builder's."""
    from curator.datasets.extxyz import read_frames
    from curator.datasets.sources import build_seed
    from curator.system import is_builder

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
