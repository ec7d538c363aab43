"""Labels that were calculated elsewhere, into a data set: all of what was asked for, or nothing."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from curator.dataset import dataset_of, open_dataset
from curator.datasets.alike import SAME_A, same_frames
from curator.datasets.codes import format_of, read_output
from curator.datasets.extxyz import GROUP_KEY, MissingLabelError, own_provenance
from curator.datasets.frame import frame_from_atoms
from curator.datasets.isolated import charge_problem, is_isolated
from curator.datasets.label import Label, Provenance, Record, Split, Theory
from curator.datasets.output import MAX_FORCE_eV_PER_A, Output, Step, flaw_of
from curator.datasets.work import Work, mismatch, work_of
from curator.errors import BadInput
from curator.import_runs import continued_group, name_of, new_groups, splits_of, trajectory_of
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
        Of every frame; if None what files of curator's own say of theirs, and drawn for each other file with the shares
        below.
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
        Of its frames; several, separated by commas, where a file of curator's own says so; None if none was imported.
    """

    file: str
    kind: str
    n_steps: int
    n_imported: int
    left_out: Mapping[str, int]
    work: Work | None
    split: str | None


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

    A file is a trajectory group of its own, or continues that of a run which it goes on with; one of curator's own is
    as many as it tells of. A frame that has a label of this level of theory already, be it with other decimals, is left
    as it is.

    Raises
    ------
    BadInput
        If a file cannot be read, holds labels in units or with signs of its own, contradicts another file or what the
        data set says of the level of theory, has another label for a frame than there is, or goes on with frames of
        another split than is asked for. Nothing is imported then.
    """
    outputs = [_read(path, settings) for path in paths]
    with open_dataset(into) as journal:
        held = dataset_of(journal)
        theories, notes = theories_of(paths, [o for _, o in outputs], held, settings.theory, settings.code)
        files = [
            _sound(path, output, theory.key, settings)
            for path, (_, output), theory in zip(paths, outputs, theories, strict=True)
        ]
        same = same_frames(
            (record.frame for record in held.records), [[found.record.frame for found in file.found] for file in files]
        )
        known = {r.frame.hash: r.label for r in held.records if r.label.theory == theories[0].key}
        groups: dict[str, str] = {}
        for record in held.records:
            groups.setdefault(record.frame.hash, trajectory_of(record.provenance.group))
        new = [_new(file, same, known, groups) for file in files]
        records = _placed(new, journal.splits, settings)
        each = [theory for theory, part in zip(theories, records, strict=True) for _ in part]
        journal.publish_many([record for part in records for record in part], each)
    reports = tuple(
        FileReport(str(file.path), kind, len(output.steps), len(part), dict(file.left_out), file.work, _splits_in(part))
        for file, (kind, output), part in zip(files, outputs, records, strict=True)
    )
    n_isolated = sum(record.provenance.group == ISOLATED_GROUP for part in records for record in part)
    return ImportReport(theories[0], reports, n_isolated, (*notes, *_notes(files, same, settings)))


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """A step that may be a label."""

    idx: int
    step: Step
    record: Record


@dataclass(frozen=True, slots=True, eq=False)
class _File:
    """What a file holds: steps that may be labels, and how many may not."""

    path: Path
    found: Sequence[_Found]
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


def _sound(path: Path, output: Output, theory: str, settings: ImportSettings) -> _File:
    """Tell labels from what is left out."""
    left_out: Counter[str] = Counter()
    found: list[_Found] = []
    for idx, step in enumerate(output.steps):
        if is_isolated(step.atoms):
            step = replace(step, forces=np.zeros((1, 3)))
        flaw = flaw_of(step, settings.max_force_eV_per_A)
        if flaw is None:
            found.append(_Found(idx, step, _record(path, idx, step, theory, settings)))
        else:
            left_out[flaw] += 1
    trajectory = [each.step for each in found if not is_isolated(each.step.atoms)]
    work = work_of(trajectory)
    if (problem := mismatch(work, len(trajectory[0].atoms) if trajectory else 0)) is not None:
        raise BadInput(f"{path}: {problem}")
    return _File(path, found, left_out, work)


def _new(file: _File, same: Mapping[str, str], known: dict[str, Label], groups: dict[str, str]) -> list[_Found]:
    """What of a file is new, in groups; ``known`` labels and ``groups`` of frames grow by it."""
    contents = [same.get(each.record.frame.hash, each.record.frame.hash) for each in file.found]
    runs: dict[str, list[str]] = {}
    for each, content in zip(file.found, contents, strict=True):
        if not is_isolated(each.step.atoms):
            runs.setdefault(_run_of(each.step), []).append(content)
    of_run = {run: continued_group(runs[run], groups) or group for run, group in new_groups(file.path, runs).items()}
    new = []
    for each, content in zip(file.found, contents, strict=True):
        if content in known:
            _check_same(f"{file.path}, step {each.idx}", known[content], each.record.label)
            file.left_out["duplicate"] += 1
            continue
        known[content] = each.record.label
        origin = replace(each.record.provenance, source=f"{name_of(file.path)}#{each.idx}")
        if not is_isolated(each.step.atoms):
            # A frame that has a label of another level of theory stays where it is.
            origin = replace(origin, group=groups.setdefault(content, of_run[_run_of(each.step)]))
            if (mark := each.step.atoms.info.get(GROUP_KEY)) is not None:
                origin = replace(origin, group=f"{origin.group}#{mark}", reason="group")
        new.append(replace(each, record=replace(each.record, provenance=origin)))
    return new


def _run_of(step: Step) -> str:
    """Trajectory that a frame of curator's own tells it is of; empty for others, which are of one in each file."""
    own = own_provenance(step.atoms)
    return "" if own is None else trajectory_of(own.group)


def _record(path: Path, idx: int, step: Step, theory: str, settings: ImportSettings) -> Record:
    assert step.energy is not None
    assert step.forces is not None
    if is_isolated(step.atoms):
        if (problem := charge_problem(step.atoms, settings.charge)) is not None:
            raise BadInput(f"{path}, step {idx}: {problem}")
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


def _placed(
    new: Sequence[Sequence[_Found]], settled: Mapping[str, Split], settings: ImportSettings
) -> list[list[Record]]:
    """Records of each file in their splits."""
    wanted: dict[str, list[Split | None]] = {}
    for found in new:
        for each in found:
            if each.record.provenance.group != ISOLATED_GROUP:
                wanted.setdefault(each.record.provenance.group, []).append(_asked(each.step, settings))
    fractions: dict[Split, float] = {"valid": settings.valid_share, "test": settings.test_share}
    try:
        splits = splits_of(wanted, settled, fractions, np.random.default_rng(settings.seed))
    except ValueError as error:
        raise BadInput(str(error)) from error
    return [[_in_split(each.record, splits) for each in found] for found in new]


def _in_split(record: Record, splits: Mapping[str, Split]) -> Record:
    if record.provenance.group == ISOLATED_GROUP:
        return record
    return replace(record, provenance=replace(record.provenance, split=splits[record.provenance.group]))


def _asked(step: Step, settings: ImportSettings) -> Split | None:
    """Split that the user asks for, or a frame of curator's own tells."""
    own = own_provenance(step.atoms)
    return settings.split or (None if own is None else own.split)


def _splits_in(records: Sequence[Record]) -> str | None:
    frames = (record.provenance for record in records if record.provenance.group != ISOLATED_GROUP)
    return ", ".join(dict.fromkeys(origin.split for origin in frames)) or None


def _notes(files: Sequence[_File], same: Mapping[str, str], settings: ImportSettings) -> list[str]:
    """What the user should know of frames that are told from others in another way than they may expect."""
    notes = []
    for file in files:
        if n_same := sum(each.record.frame.hash in same for each in file.found):
            notes.append(
                f"{file.path}: {n_same} frames are there already to within {SAME_A:g} Å, and count as the same"
            )
        drawn = settings.split is None and settings.valid_share + settings.test_share > 0
        if drawn and any(own_provenance(each.step.atoms) is not None for each in file.found):
            notes.append(f"{file.path}: tells itself which frames are for what; the shares are of other files")
    return notes
