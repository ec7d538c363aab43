"""Labels that were calculated elsewhere, into a data set: all of what was asked for, or nothing."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from curator.dataset import dataset_of, open_dataset
from curator.datasets.codes import format_of, read_output
from curator.datasets.extxyz import GROUP_KEY, MissingLabelError
from curator.datasets.frame import frame_from_atoms
from curator.datasets.isolated import is_isolated
from curator.datasets.label import Label, Provenance, Record, Split, Theory
from curator.datasets.output import MAX_FORCE_eV_PER_A, Output, Step, flaw_of
from curator.datasets.split import assign_splits
from curator.datasets.work import Work, mismatch, work_of
from curator.errors import BadInput
from curator.import_theory import theories_of
from curator.learners.e0 import ISOLATED_GROUP, isolated_atom

SAME_ENERGY_eV_PER_ATOM = 1e-3
SAME_FORCE_eV_PER_A = 1e-2
"""Two calculations of one frame at one level of theory agree within this, however far each was converged."""


@dataclass(frozen=True, slots=True)
class ImportSettings:
    """What a user says of files to import.

    Attributes
    ----------
    theory
        Name of the level of theory, or key of one that the data set holds already.
    code
        Program, where the files do not tell.
    kind
        Format; told from name and content if None.
    energy_key, forces_key, stress_key, use_calculator
        Keys of extended XYZ.
    charge, multiplicity
        Of every frame; what the files say if None.
    max_force_eV_per_A
        Frames with a larger force are left out.
    split
        Of every file; drawn by file, with the shares below, if None.
    valid_share, test_share
        Shares of the files.
    seed
        Of the draw.
    """

    theory: str
    code: str | None = None
    kind: str | None = None
    energy_key: str | None = None
    forces_key: str | None = None
    stress_key: str | None = None
    use_calculator: bool = False
    charge: int | None = None
    multiplicity: int | None = None
    max_force_eV_per_A: float = MAX_FORCE_eV_PER_A
    split: Split | None = None
    valid_share: float = 0.0
    test_share: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class FileReport:
    """What became of the steps of one file.

    Attributes
    ----------
    file
        Name.
    kind
        Format.
    n_steps
        Steps in it.
    n_imported
        New labels.
    left_out
        Steps that were left out, by reason: ``duplicate``, ``incomplete``, ``unconverged``, ``nonfinite``,
        ``absurd``.
    work
        How its energies go with its forces, where it is a trajectory.
    split
        Of its frames; None if none was imported.
    """

    file: str
    kind: str
    n_steps: int
    n_imported: int
    left_out: Mapping[str, int]
    work: Work | None
    split: Split | None


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did.

    Attributes
    ----------
    theory
        Level of theory of the labels.
    files
        One for each file.
    n_isolated
        Isolated atoms among the new labels.
    notes
        What the user should know though nothing failed.
    """

    theory: Theory
    files: tuple[FileReport, ...]
    n_isolated: int
    notes: tuple[str, ...] = ()

    @property
    def n_imported(self) -> int:
        """New labels."""
        return sum(file.n_imported for file in self.files)

    @property
    def left_out(self) -> dict[str, int]:
        """Steps that were left out, by reason."""
        total: Counter[str] = Counter()
        for file in self.files:
            total.update(file.left_out)
        return dict(total)


def import_files(paths: Sequence[Path], into: Path, settings: ImportSettings) -> ImportReport:
    """Import the labels of files into a data set, in one segment of its journal.

    A file is a trajectory group of its own, or continues the group of one that it shares frames with. A frame that
    has a label of this level of theory already is left as it is.

    Raises
    ------
    BadInput
        If a file cannot be read, holds labels in units or with signs of its own, contradicts another file or what the
        data set says of the level of theory, or has another label for a frame than there is. Nothing is imported then.
    """
    outputs = [_read(path, settings) for path in paths]
    with open_dataset(into) as journal:
        held = dataset_of(journal)
        theories, notes = theories_of(paths, [o for _, o in outputs], held, settings.theory, settings.code)
        known = {r.frame.hash: r.label for r in held.records if r.label.theory == theories[0].key}
        groups = {content: _trajectory(origin.group) for content, origin in held.provenances.items()}
        parts = [
            _sorted(path, output, theory.key, settings, known, groups)
            for path, (_, output), theory in zip(paths, outputs, theories, strict=True)
        ]
        splits = _splits([part.group for part in parts if part.records], journal.splits, settings)
        records = [_placed(record, part.group, splits) for part in parts for record in part.records]
        each = [theory for theory, part in zip(theories, parts, strict=True) for _ in part.records]
        journal.publish_many(records, each)
    files = tuple(
        FileReport(
            str(path),
            kind,
            len(output.steps),
            len(part.records),
            dict(part.left_out),
            part.work,
            splits.get(part.group) if part.records else None,
        )
        for path, (kind, output), part in zip(paths, outputs, parts, strict=True)
    )
    n_isolated = sum(record.provenance.group == ISOLATED_GROUP for record in records)
    return ImportReport(theories[0], files, n_isolated, tuple(notes))


@dataclass(frozen=True, slots=True, eq=False)
class _Sorted:
    """What is taken of one file."""

    group: str
    records: list[Record]
    left_out: Counter[str]
    work: Work | None


def _read(path: Path, settings: ImportSettings) -> tuple[str, Output]:
    try:
        kind = settings.kind or format_of(path)
        output = read_output(
            path,
            kind,
            energy_key=settings.energy_key,
            forces_key=settings.forces_key,
            stress_key=settings.stress_key,
            use_calculator=settings.use_calculator,
        )
    except MissingLabelError as error:
        option = "--use-calculator" if error.calculated else f"--{error.what}-key"
        raise BadInput(f"{error.finding}; say which one it is with {option}") from error
    except ValueError as error:
        raise BadInput(str(error)) from error
    if settings.code and output.code not in ("unknown", settings.code):
        raise BadInput(f"{path}: is of {output.code}, not of {settings.code}; leave --code out")
    return kind, output


def _sorted(
    path: Path, output: Output, theory: str, settings: ImportSettings, known: dict[str, Label], groups: dict[str, str]
) -> _Sorted:
    """Tell labels from what is left out; ``known`` labels and ``groups`` of frames grow by those of the file."""
    left_out: Counter[str] = Counter()
    sound: list[tuple[int, Step, Record]] = []
    for idx, step in enumerate(output.steps):
        if is_isolated(step.atoms):
            step = replace(step, forces=np.zeros((1, 3)))
        flaw = flaw_of(step, settings.max_force_eV_per_A)
        if flaw is None:
            sound.append((idx, step, _record(path, idx, step, theory, settings)))
        else:
            left_out[flaw] += 1
    trajectory = [step for _, step, _ in sound if not is_isolated(step.atoms)]
    work = work_of(trajectory)
    if (problem := mismatch(work, len(trajectory[0].atoms) if trajectory else 0)) is not None:
        raise BadInput(f"{path}: {problem}")
    name = f"import/{path.resolve().parent.name}/{path.name}"
    shared = next(
        (groups[r.frame.hash] for _, s, r in sound if r.frame.hash in groups and not is_isolated(s.atoms)), None
    )
    group = shared or f"{name}@{_digest(path)}"
    records = []
    for idx, step, record in sound:
        content = record.frame.hash
        if content in known:
            _check_same(f"{path}, step {idx}", known[content], record.label)
            left_out["duplicate"] += 1
            continue
        known[content] = record.label
        origin = replace(record.provenance, source=f"{name}#{idx}")
        if not is_isolated(step.atoms):
            groups[content] = group
            origin = replace(origin, group=group)
            if (mark := step.atoms.info.get(GROUP_KEY)) is not None:
                origin = replace(origin, group=f"{group}#{mark}", reason="group")
        records.append(replace(record, provenance=origin))
    return _Sorted(group, records, left_out, work)


def _record(path: Path, idx: int, step: Step, theory: str, settings: ImportSettings) -> Record:
    assert step.energy is not None
    assert step.forces is not None
    if is_isolated(step.atoms):
        return isolated_atom(int(step.atoms.numbers[0]), step.energy, theory)
    for name, given in (("charge", settings.charge), ("multiplicity", settings.multiplicity)):
        told = step.atoms.info.get(name)
        if given is not None and told is not None and int(told) != given:
            raise BadInput(f"{path}, step {idx}: its {name} is {told}, not {given}; leave --{name} out")
    try:
        frame = frame_from_atoms(step.atoms, settings.charge, settings.multiplicity)
    except ValueError as error:
        raise BadInput(f"{path}, step {idx}: {error}") from error
    return Record(
        frame, Label(step.energy, step.forces, step.stress, theory), Provenance(-1, "", "", "train", "import")
    )


def _check_same(where: str, known: Label, found: Label) -> None:
    """Raise unless two labels of one frame are those of one level of theory."""
    energy = abs(known.energy - found.energy) / len(known.forces)
    force = float(np.abs(known.forces - found.forces).max())
    if energy > SAME_ENERGY_eV_PER_ATOM or force > SAME_FORCE_eV_PER_A:
        raise BadInput(
            f"{where}: the frame has another label of this level of theory already, {1000 * energy:.1f} meV/atom and "
            f"{1000 * force:.0f} meV/Å off; import it under another --theory, or leave it out"
        )


def _splits(groups: Sequence[str], settled: Mapping[str, Split], settings: ImportSettings) -> dict[str, Split]:
    """Split of each file; frames that go on with a group keep its split."""
    fractions: dict[Split, float] = {"valid": settings.valid_share, "test": settings.test_share}
    if settings.split is not None:
        fractions = {"valid": 0.0, "test": 0.0, "train": 0.0, settings.split: 1.0}
    fractions.setdefault("train", 1.0 - sum(fractions.values()))
    known = {_trajectory(group): split for group, split in settled.items()}
    return assign_splits(groups, fractions, np.random.default_rng(settings.seed), known)


def _trajectory(group: str) -> str:
    """Group of a whole file, of which frames that were marked as a group of their own are a part."""
    return re.sub(r"(?<=@[0-9a-f]{8})#.*$", "", group, flags=re.DOTALL)


def _placed(record: Record, group: str, splits: Mapping[str, Split]) -> Record:
    if record.provenance.group == ISOLATED_GROUP:
        return record
    return replace(record, provenance=replace(record.provenance, split=splits[group]))


def _digest(path: Path) -> str:
    """First digits of the SHA-256 of a file, or of all files of a folder: two ``vasprun.xml`` are two groups."""
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(part for part in path.rglob("*") if part.is_file()):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:8]
