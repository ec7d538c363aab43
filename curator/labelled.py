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


def training_records(
    train: Path, valid: Path | None, theory: str | None, keys: Mapping[str, Any]
) -> tuple[list[Record], list[Record]]:
    """Records to train on, isolated atoms among them, and to validate with.

    Parameters
    ----------
    train
        File of labelled frames, or a data set. Test frames, of which a file of curator's own tells as a data set does,
        are left alone.
    valid
        File or data set all of whose frames are validated with; if None, the validation frames of ``train``.
    theory
        Level of theory of a data set, by name or key.
    keys
        Of files: ``energy_key``, ``forces_key``, ``use_calculator``.

    Raises
    ------
    BadInput, ValueError
        If there are no such labels, or those to validate with are of frames that are trained on, or of another level
        of theory.
    """
    records = _records(train, theory, keys)
    training, validation, test = (
        [record for record in records if record.provenance.split == split] for split in ("train", "valid", "test")
    )
    if all(is_isolated_atom(record) for record in training):
        raise BadInput(f"{train}: has no frames to train on, only to validate and test with")
    if not is_dataset(train) and (validation or test):
        warnings.warn(
            f"{train} tells which of its frames are for what: {len(validation)} to validate and {len(test)} to test "
            "with are not trained on",
            Notice,
            stacklevel=2,
        )
    if valid is not None:
        validation = [record for record in _records(valid, theory, keys) if not is_isolated_atom(record)]
        if not validation:
            raise BadInput(f"{valid}: holds isolated atoms only; give frames to validate with, or leave out --valid")
        _check_same_theory(training, validation, valid, train)
        _check_apart(training, validation, valid, train)
    return training, validation


def held_out_records(
    train: Path,
    valid: Path | None,
    test: Path | None,
    theory: str | None,
    keys: Mapping[str, Any],
    seen: tuple[Sequence[Record], Sequence[Record]],
) -> list[Record]:
    """Records to test a model with, none of which its training sees.

    Parameters
    ----------
    train, valid, theory, keys
        As `training_records` takes them.
    test
        File of labelled frames, or a data set, whose test frames are taken, all of its frames if it has none; if None,
        the test frames of ``train``.
    seen
        What `training_records` has returned.

    Raises
    ------
    BadInput, ValueError
        If there are no such labels, or they are of frames that are trained on or validated with, or of another level of
        theory.
    """
    path, (training, validation) = test or train, seen
    records = [record for record in _records(path, theory, keys) if not is_isolated_atom(record)]
    held_out = [record for record in records if record.provenance.split == "test"]
    if test is not None:
        held_out = held_out or records
        if not held_out:
            raise BadInput(f"{test}: holds isolated atoms only; give frames to test with, or leave out --test")
        _check_same_theory(training, held_out, test, train)
        _check_apart(training, held_out, test, train)
    _check_apart(validation, held_out, path, valid or train)
    return held_out


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
