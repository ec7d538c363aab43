"""Labelled frames to train on that a user names: a file, or one level of theory of a data set."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from curator.dataset import is_dataset, read_labelled
from curator.datasets.extxyz import MissingLabelError, read_isolated_atoms, read_own_theories, read_records
from curator.datasets.label import Record, Theory
from curator.errors import BadInput
from curator.learners.e0 import is_isolated_atom, isolated_atom


def training_records(
    train: Path, valid: Path | None, theory: str | None, keys: Mapping[str, Any]
) -> tuple[list[Record], list[Record]]:
    """Records to train on, isolated atoms among them, and to validate with.

    Parameters
    ----------
    train
        File of labelled frames, or a data set, whose test frames are left alone.
    valid
        File or data set to validate with; if None, the validation frames of ``train``, which a file has none of.
    theory
        Level of theory of a data set, by name or key.
    keys
        Of files: ``energy_key``, ``forces_key``, ``use_calculator``.

    Raises
    ------
    BadInput, ValueError
        If there are no such labels.
    """
    training = _records(train, theory, keys)
    validation = [] if valid is None else [r for r in _records(valid, theory, keys) if not is_isolated_atom(r)]
    if is_dataset(train):
        validation = validation or [record for record in training if record.provenance.split == "valid"]
        training = [record for record in training if record.provenance.split == "train"]
        if not training:
            raise BadInput(f"{train}: has no frames to train on, only to validate and test with")
    if valid is not None and is_dataset(valid):
        validation = [record for record in validation if record.provenance.split == "valid"]
    return training, validation


def _records(path: Path, theory: str | None, keys: Mapping[str, Any]) -> list[Record]:
    if is_dataset(path):
        return read_labelled(path, theory)
    if theory is not None:
        raise BadInput(f"--theory: chooses from a data set; {path} is a file, whose labels are all taken")
    own = read_own_theories(path)
    if len(own) > 1:
        raise BadInput(f"{path}: labels of several levels of theory: {', '.join(own)}; give each a file of its own")
    file = Theory(method="file", code="unknown", settings={"file": path.name})
    try:
        records = read_records(path, theory=file, **keys)
    except MissingLabelError as error:
        option = "--use-calculator" if error.calculated else f"--{error.what}-key"
        raise BadInput(
            f"{error.finding}; say which one it is with {option}, or label the frames first: curator label"
        ) from error
    atoms = read_isolated_atoms(path, energy_key=keys["energy_key"], use_calculator=keys["use_calculator"])
    records += [isolated_atom(number, energy, file.key) for number, energy in atoms.items()]
    return [replace(record, label=replace(record.label, theory=own[0])) for record in records] if own else records
