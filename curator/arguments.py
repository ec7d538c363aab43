"""What the commands on files share: loading what the user names, and saying what is wrong with it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from curator.datasets.frame import Frame
from curator.errors import BadInput, CuratorError, is_disk_full
from curator.state import plain_json

if TYPE_CHECKING:
    from curator.backends.base import LabellerSpec
    from curator.learners.mace import MaceModel

Model = Annotated[
    str,
    typer.Option("--model", help="mini-halides, mace:<name>, or the path of a model; with #<head> if it has several."),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")]
Structure = Annotated[str, typer.Argument(help="A structure file, or a shipped builder such as lif-interstitial.")]


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


def labeller_named(reference: str, trust: bool) -> "LabellerSpec":
    """Labeller, or model in the part of one, that a user names."""
    from curator.backends.base import LabellerSpec
    from curator.backends.labellers import make_labeller

    spec = LabellerSpec("classical" if reference == "lif-fumi-tosi" else "pseudolabel", reference, trust=trust)
    with bad_input():
        make_labeller(spec)
    return spec


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
