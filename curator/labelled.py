"""Labelled frames to train on, and to test with, that a user names: a file, or one level of theory of a data set."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from curator.dataset import is_dataset, read_labelled
from curator.datasets.extxyz import MissingLabelError, read_isolated_atoms, read_own_theory, read_records
from curator.datasets.label import Record, Theory
from curator.datasets.notice import Notice
from curator.datasets.theories import method_of
from curator.errors import BadInput
from curator.learners.e0 import is_isolated_atom, isolated_atom

UNKNOWN = "file"
"""Name of the level of theory of a file that tells none."""


def labelled_records(
    train: Path,
    keys: Mapping[str, Any],
    *,
    valid: Path | None = None,
    test: Path | None = None,
    theory: str | None = None,
) -> tuple[list[Record], list[Record], list[Record]]:
    """Records to train on, isolated atoms among them, to validate with, and to test with.

    Parameters
    ----------
    train
        File of labelled frames, or a data set. Where it tells what its frames are for, as a data set does and a file
        that curator wrote, those to validate and to test with are not trained on.
    keys
        Of files: ``energy_key``, ``forces_key``, ``use_calculator``.
    valid
        File or data set all of whose frames are validated with; if None, the validation frames of ``train``.
    test
        File or data set whose test frames are tested with, all of its frames if it has none; if None, the test frames
        of ``train``.
    theory
        Level of theory of a data set, by name or key.

    Raises
    ------
    BadInput, ValueError
        If there are no such labels, or those to validate and to test with are of frames that the training sees, or of
        another level of theory.
    """
    training, validation, held_out = _parts(_records(train, theory, keys))
    if all(is_isolated_atom(record) for record in training):
        raise BadInput(f"{train}: has no frames to train on, only to validate and test with")
    if not is_dataset(train) and (validation or held_out):
        warnings.warn(
            f"{train} tells which of its frames are for what: {len(validation)} to validate and {len(held_out)} to "
            "test with are not trained on",
            Notice,
            stacklevel=2,
        )
    if valid is not None:
        validation = _frames(valid, theory, keys, "validate", "--valid")
        _check_same_theory(training, validation, valid, train)
        _check_apart(training, validation, valid, train)
    if test is not None:
        frames = _frames(test, theory, keys, "test", "--test")
        held_out = _parts(frames)[2] or frames
        _check_same_theory(training, held_out, test, train)
        _check_apart(training, held_out, test, train)
    _check_apart(validation, held_out, test or train, valid or train)
    return training, validation, held_out


def _parts(records: Sequence[Record]) -> list[list[Record]]:
    """Records to train on, to validate with and to test with."""
    return [[r for r in records if r.provenance.split == split] for split in ("train", "valid", "test")]


def _frames(path: Path, theory: str | None, keys: Mapping[str, Any], use: str, option: str) -> list[Record]:
    """Records of a file or data set without isolated atoms."""
    found = [record for record in _records(path, theory, keys) if not is_isolated_atom(record)]
    if not found:
        raise BadInput(f"{path}: holds isolated atoms only; give frames to {use} with, or leave out {option}")
    return found


def _check_same_theory(training: Sequence[Record], validation: Sequence[Record], valid: Path, train: Path) -> None:
    """Raise :class:`BadInput` if two levels of theory are known to differ, and tell if only one of them is known."""
    one, other = (next((r.label.theory for r in part), "") for part in (training, validation))
    if not other or one == other:
        return
    known = {key for key in (one, other) if method_of(key) != UNKNOWN}
    if len(known) == 2:
        raise BadInput(f"{valid}: labels of {other}, and {train} has labels of {one}; give the same theory")
    if known:
        warnings.warn(
            f"only one of {train} and {valid} tells its level of theory, {known.pop()}; the other is taken to be the "
            "same",
            Notice,
            stacklevel=2,
        )


def _check_apart(seen: Sequence[Record], held_out: Sequence[Record], path: Path, seen_path: Path) -> None:
    """Raise :class:`BadInput` if the training sees frames that are to judge it."""
    hashes = {record.frame.hash for record in seen}
    shared = [record for record in held_out if record.frame.hash in hashes]
    if shared:
        raise BadInput(
            f"{path}: {len(shared)} of its {len(held_out)} frames are in {seen_path} too, where the training sees "
            "them; take them out of one of the two"
        )


def _records(path: Path, theory: str | None, keys: Mapping[str, Any]) -> list[Record]:
    if is_dataset(path):
        return read_labelled(path, theory)
    if theory is not None:
        raise BadInput(f"--theory: chooses from a data set; {path} is a file, whose labels are all taken")
    own = read_own_theory(path)
    key = own or Theory(method=UNKNOWN, code="unknown", settings={"file": path.name}).key
    try:
        records = read_records(path, theory=Theory(UNKNOWN, "unknown"), **keys)
    except MissingLabelError as error:
        raise BadInput(
            f"{error.finding}; {remedy_of(error, keys)}, or label the frames first: curator label"
        ) from error
    atoms = read_isolated_atoms(path, energy_key=keys["energy_key"], use_calculator=keys["use_calculator"])
    records = [replace(record, label=replace(record.label, theory=key)) for record in records]
    return records + [isolated_atom(number, energy, key) for number, energy in atoms.items()]


def remedy_of(error: MissingLabelError, keys: Mapping[str, Any]) -> str:
    """What a user can do about a missing label on the command line."""
    if keys["use_calculator"]:
        return "drop --use-calculator"
    return f"say which one it is with {'--use-calculator' if error.calculated else f'--{error.what}-key'}"
