"""Files of `mini-halides` as they ship, and its training frames as records."""

import json
from pathlib import Path

from curator.datasets.label import Record, Theory
from curator.datasets.store import Store

FOLDER: Path = Path(__file__).parent
"""Holds the model (``model.safetensors``, ``model.json``), the frames (``frames.h5``) and the card."""
FRAMES: Path = FOLDER / "frames.h5"
CARD: Path = FOLDER / "card.json"


def theory() -> Theory:
    """Level of theory of every label: CHGNet 0.3.0."""
    return Theory(**json.loads(CARD.read_text())["theory"])


def replay_records() -> list[Record]:
    """Frames that `mini-halides` was trained on (split ``train``) and validated on (``valid``), in a fixed order.

    ``provenance.source`` is the kind of configuration, such as ``md-65``; energies are total energies in eV.
    """
    return [record for record in _records() if record.provenance.split != "test"]


def probe_records() -> list[Record]:
    """Frames that no training ever saw (split ``test``), to measure what a fine-tuned model has forgotten."""
    return [record for record in _records() if record.provenance.split == "test"]


def _records() -> list[Record]:
    with Store(FRAMES, "r") as store:
        return store.records()
