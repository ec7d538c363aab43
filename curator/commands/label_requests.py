"""Labels that are asked for: which are there already, which are to be calculated, and what became of each."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.commands.arguments import progress_bar
from curator.datasets.frame import Frame
from curator.datasets.journal import Failure, Journal
from curator.datasets.label import Label, Provenance, Record, Theory
from curator.errors import BadInput, bad_input

if TYPE_CHECKING:
    from curator.backends.base import LabellerSpec

Published = tuple[dict[tuple[str, str], Label], dict[tuple[str, str], Failure]]
"""Labels and failures by frame hash and theory key."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A label that is asked for: of which frame, by whom, and at which level of theory."""

    frame: Frame
    origin: Provenance
    spec: "LabellerSpec"
    theory: Theory

    @property
    def key(self) -> tuple[str, str]:
        """Frame hash and theory key, as the journal has them."""
        return self.frame.hash, self.theory.key


@dataclass(frozen=True, slots=True)
class Given:
    """What became of the labels that one source was asked for, one for each frame.

    Attributes
    ----------
    theory
        Key of the level of theory; where theories differ by their elements alone, of what they are together: those of
        the frames for a file, of the whole data set for a data set.
    method
        Name of the level of theory.
    records
        The labels.
    failed
        Why there is none, by index of the frame; first the kind of failure.
    died
        What the task died of, by index of the frame.
    n_new
        Labels that were not there before.
    """

    theory: str
    method: str
    records: list[Record]
    failed: dict[int, tuple[str, str]]
    died: dict[int, str]
    n_new: int

    @property
    def n_remedied(self) -> int:
        """Labels that a remedy helped to."""
        return sum(bool(record.label.remedy) for record in self.records)


def origins_of(path: Path, frames: Sequence[Frame], known: Mapping[str, Provenance]) -> list[Provenance]:
    """Provenance of each frame: that which it came with, so that it stays in its group and split."""
    from curator.dataset import is_dataset
    from curator.datasets.extxyz import read_group_marks

    marks = [None] * len(frames) if is_dataset(path) else read_group_marks(path)
    source = f"label/{path.name}"
    new = [
        Provenance(-1, source, f"{path.name}/{i}", "train", "import")
        if mark is None
        else Provenance(-1, source, f"{path.name}#{mark}", "train", "group")
        for i, mark in enumerate(marks)
    ]
    return [known.get(frame.hash, origin) for frame, origin in zip(frames, new, strict=True)]


def with_theories(specs: "Sequence[LabellerSpec]") -> "list[tuple[LabellerSpec, Theory]]":
    """Each labeller with the level of theory of its labels."""
    from curator.backends.labellers import make_labeller

    with bad_input():
        theories = {spec: make_labeller(spec).theory for spec in dict.fromkeys(specs)}
    return [(spec, theories[spec]) for spec in specs]


def theories_held(journal: Journal, frames: Sequence[Frame], theories: Sequence[Theory]) -> list[Theory]:
    """Theory of each frame's label: one of the same level of theory, if there is a label of it, is not bought again."""
    _, alike = level_held(journal, theories)
    return [
        next((each for each in (theory, *alike) if (frame.hash, each.key) in journal.published), theory)
        for frame, theory in zip(frames, theories, strict=True)
    ]


def level_held(journal: Journal, theories: Iterable[Theory]) -> tuple[Theory, list[Theory]]:
    """Level of theory of one source with what a journal holds of it, and which theories that are."""
    from curator.dataset import dataset_of
    from curator.datasets.theories import united

    level, alike = level_of(theories), []
    for other in dataset_of(journal).theories.values():
        both = united((level, other))
        if both is not None:
            level = both
            alike.append(other)
    return level, alike


def level_of(theories: Iterable[Theory]) -> Theory:
    """Level of theory of one source."""
    from curator.datasets.theories import united

    level = united({theory.key: theory for theory in theories}.values())
    assert level is not None, "the theories of one source differ by elements alone"
    return level


def published_in(journal: Journal) -> Published:
    """Labels and last failures by frame hash and theory key; what has a label has not failed."""
    labels: dict[tuple[str, str], Label] = {}
    failures: dict[tuple[str, str], Failure] = {}
    for content in journal.read():
        if isinstance(content, Record):
            labels[content.frame.hash, content.label.theory] = content.label
        else:
            failures[content.frame.hash, content.theory] = content
    return labels, {key: failure for key, failure in failures.items() if key not in labels}


def given_of(
    published: Published,
    asked: Sequence[Asked],
    whole: Theory,
    died: Mapping[tuple[str, str], str],
    before: Collection[tuple[str, str]],
) -> Given:
    """What became of the labels of one source.

    Parameters
    ----------
    published
        Labels and failures that there are now.
    asked
        Labels that were asked for.
    whole
        Level of theory that they are told under.
    died
        What tasks died of, by frame hash and theory key.
    before
        Frame hash and theory key of the labels that there were before.
    """
    labels, failures = published
    return Given(
        whole.key,
        whole.method,
        [
            Record(one.frame, replace(labels[one.key], theory=whole.key), one.origin)
            for one in asked
            if one.key in labels
        ],
        {
            i: (failures[one.key].reason, failures[one.key].message)
            for i, one in enumerate(asked)
            if one.key in failures
        },
        {i: died[one.key] for i, one in enumerate(asked) if one.key in died},
        len({one.key for one in asked if one.key in labels} - set(before)),
    )


def label_missing(journal: Journal, asked: Sequence[Asked], retry: bool, workers: int) -> dict[tuple[str, str], str]:
    """Label what has no label and, unless ``retry``, no failure either; what died by frame and theory, and of what."""
    from curator.backends.executor import Failed, Task, open_executor
    from curator.backends.labellers import label_frame, publish_outcome

    settled = journal.published if retry else journal.published | journal.quarantined
    first: dict[tuple[str, str], Asked] = {}
    for one in asked:
        if one.key not in settled:
            first.setdefault(one.key, one)
    todo = list(first.values())
    tasks = [Task(label_frame, (one.spec, one.frame), f"label {i}") for i, one in enumerate(todo)]
    died: dict[tuple[str, str], str] = {}
    kind: Any = "serial" if workers == 1 else "local"
    with (
        open_executor(kind, workers, journal.folder / "workers") as executor,
        progress_bar() as bar,
    ):
        row = bar.add_task("label", total=len(asked), completed=len(asked) - len(todo))
        for outcome in executor.run("label", tasks):
            one = todo[outcome.index]
            if isinstance(outcome, Failed):
                # Says nothing about the frame, which may be tried again.
                if outcome.kind == "setup":
                    raise BadInput(outcome.error)
                died[one.key] = outcome.error
            else:
                publish_outcome(journal, one.frame, outcome.value, one.origin, one.theory)
            bar.advance(row)
    return died
