"""Files of `mini-halides` as they ship, and the frames of its editions as records.

Three editions of one architecture, so that what a better foundation is worth can be studied with no download:
``mini-halides`` itself, and two that were trained on a fifth of its frames, labelled by two versions of CHGNet.
"""

import json
from pathlib import Path

from curator.datasets.label import Record, Theory
from curator.datasets.store import Store

NAME = "mini-halides"
FOLDER: Path = Path(__file__).parent
"""Holds the model (``model.safetensors``, ``model.json``), the frames (``frames.h5``) and the card."""
FRAMES: Path = FOLDER / "frames.h5"
CARD: Path = FOLDER / "card.json"
GENERATIONS: dict[str, Path] = {
    f"{NAME}:0.2.0-small": FOLDER / "0.2.0-small",
    f"{NAME}:0.3.0-small": FOLDER / "0.3.0-small",
}
"""Folders of the smaller editions, which hold the same files."""


def folder_of(name: str) -> Path:
    """Folder of an edition.

    Raises
    ------
    ValueError
        If there is none of this name.
    """
    folder = (GENERATIONS | {NAME: FOLDER}).get(name)
    if folder is None:
        raise ValueError(f"no edition {name!r} of {NAME}; there are {', '.join([NAME, *GENERATIONS])}")
    return folder


def theory(name: str = NAME) -> Theory:
    """Level of theory of every label of an edition: a version of CHGNet, 0.3.0 for `mini-halides` itself."""
    return Theory(**json.loads((folder_of(name) / CARD.name).read_text())["theory"])


def replay_records(name: str = NAME) -> list[Record]:
    """Frames that an edition was trained on (split ``train``), and those of ``valid``, in a fixed order.

    ``provenance.source`` is the kind of configuration, such as ``md-65``; energies are total energies in eV.
    """
    return [record for record in _records(name) if record.provenance.split != "test"]


def probe_records(name: str = NAME) -> list[Record]:
    """Frames that no training ever saw (split ``test``), to measure what a fine-tuned model has forgotten.

    They are the same ones for all editions, labelled by the edition's own teacher.
    """
    return [record for record in _records(name) if record.provenance.split == "test"]


def _records(name: str) -> list[Record]:
    with Store(folder_of(name) / FRAMES.name, "r") as store:
        return store.records()
