"""A running campaign: its plan, its folder and its tools, and the two ways in which it gets work done."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from curator.backends.base import FailureReason, LabelFailed, LabellerSpec
from curator.backends.executor import Done, Executor, Failed, Outcome, Role, Task
from curator.backends.labellers import label_frame, make_labeller, publish_outcome
from curator.build import Plan
from curator.datasets.frame import Frame
from curator.datasets.journal import Journal
from curator.datasets.label import Label, Provenance, Record, Theory
from curator.datasets.store import Store
from curator.errors import BadInput, CuratorError
from curator.progress import Display, told
from curator.state import CampaignFolder, log_event, read_json
from curator.tasks import ModelAt

FOUNDATION = "foundation"


@dataclass(frozen=True, slots=True)
class Context:
    """What every stage of a running campaign is given.

    Attributes
    ----------
    plan
        The campaign.
    folder
        Where it lives.
    theory
        Level of theory of its labels.
    journal
        Labels as they arrive; held by this driver alone.
    executor
        Where tasks run.
    display
        What the user sees.
    """

    plan: Plan
    folder: CampaignFolder
    theory: Theory
    journal: Journal
    executor: Executor
    display: Display

    @property
    def labeller(self) -> LabellerSpec:
        """The plan's labeller; programs that it runs do so in the campaign's folder."""
        return self.plan.labeller.run_in(self.folder.calculations)

    @property
    def foundation(self) -> ModelAt:
        """The campaign's own copy of the foundation."""
        return ModelAt(self.folder.setup / FOUNDATION, self.plan.file.run.device)

    def members(self, round_: int) -> list[ModelAt]:
        """The committee that a round trained; the foundation alone before round 0."""
        if round_ < 0:
            return [self.foundation]
        n_members = len(read_json(self.training_file(round_))["members"])
        return [self.member(round_, i) for i in range(n_members)]

    def member(self, round_: int, index: int) -> ModelAt:
        """One member of a round's committee, trained or still to be trained."""
        return ModelAt(self.folder.round(round_) / "model" / f"member-{index}", self.plan.file.run.device)

    def training_file(self, round_: int) -> Path:
        """What is told of the training of a round; it is there once every member is."""
        return self.folder.round(round_) / "model" / "training.json"


def run_tasks(
    context: Context,
    role: Role,
    tasks: Sequence[Task],
    *,
    round_: int,
    stage: str,
    progress: Sequence[Path] = (),
    on_outcome: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Run tasks and return their outcomes in the order of ``tasks``, whatever the order they end in.

    Parameters
    ----------
    round_
        Round they belong to; -1 for the set-up.
    stage
        What the user is told they do.
    progress
        File in which each task tells how far it is.
    on_outcome
        Called with each outcome as soon as it is there.

    Raises
    ------
    BadInput
        If what is to calculate cannot work as it is set up, so that no task would succeed.
    """
    place = "set-up" if round_ < 0 else f"round {round_}"
    outcomes: dict[int, Outcome] = {}
    files: list[Path | None] = list(progress) or [None] * len(tasks)

    def tick() -> None:
        fraction, text = told(files, outcomes.keys())
        context.display.update(fraction, context.executor.running(), text)

    log_event(context.folder, "stage_started", round=round_, stage=stage, n_tasks=len(tasks))
    with context.display.stage(place, stage):
        for outcome in context.executor.run(role, tasks, tick=tick):
            outcomes[outcome.index] = outcome
            about = {"round": round_, "stage": stage, "role": role, "task": tasks[outcome.index].name}
            if isinstance(outcome, Done):
                cpu_s = getattr(outcome.value, "cpu_s", None)
                log_event(context.folder, "task_finished", **about, seconds=outcome.seconds, cpu_s=cpu_s)
            else:
                log_event(context.folder, "task_failed", **about, kind=outcome.kind, error=outcome.error)
                if outcome.kind == "setup":
                    raise BadInput(outcome.error)
            if on_outcome is not None:
                on_outcome(outcome)
            tick()
    log_event(context.folder, "stage_finished", round=round_, stage=stage)
    return [outcomes[index] for index in range(len(tasks))]


def values_of(outcomes: Sequence[Outcome], what: str) -> list[object]:
    """Values of tasks none of which may fail.

    Raises
    ------
    CuratorError
        If one of them failed, with its reason.
    """
    for outcome in outcomes:
        if isinstance(outcome, Failed):
            raise CuratorError(f"{what} failed: {outcome.error}. What is done is kept; run again to continue")
    return [outcome.value for outcome in outcomes if isinstance(outcome, Done)]


def buy_labels(
    context: Context, wanted: Sequence[tuple[Frame, Provenance]], *, round_: int, stage: str
) -> list[Label | LabelFailed]:
    """Labels of frames, in their order; published to the journal as they arrive, then folded into the store.

    A frame whose label is published already is not calculated again, nor one whose calculation is known to fail. Where
    the campaign asks for labels of another source beside, those are made as well; nothing is trained on them.

    Raises
    ------
    CuratorError
        If tasks died, which says nothing about their frames: what came is kept, and the next run buys the rest.
    """
    labels = _buy(context, context.labeller, context.theory, wanted, round_, stage)
    if context.plan.also is not None:
        theory = make_labeller(context.plan.also).theory
        _buy(context, context.plan.also, theory, wanted, round_, f"{stage} with {theory.method} too")
    return labels


def _buy(
    context: Context,
    spec: LabellerSpec,
    theory: Theory,
    wanted: Sequence[tuple[Frame, Provenance]],
    round_: int,
    stage: str,
) -> list[Label | LabelFailed]:
    known: dict[str, Label | LabelFailed] = {
        frame: LabelFailed(cast(FailureReason, failure.reason), failure.message, failure.theory)
        for frame, failure in context.journal.failures(theory.key).items()
    }
    known |= context.journal.labels(theory.key)
    unknown: dict[str, tuple[Frame, Provenance]] = {}
    for frame, origin in wanted:
        if frame.hash not in known:
            unknown.setdefault(frame.hash, (frame, origin))
    missing = list(unknown.values())
    died: list[str] = []

    def publish(outcome: Outcome) -> None:
        if isinstance(outcome, Failed):
            # A task that died says nothing about its frame; a labeller's own word is final.
            died.append(outcome.error)
            return
        frame, provenance = missing[outcome.index]
        result = known[frame.hash] = outcome.value
        publish_outcome(context.journal, frame, result, provenance, theory)
        if isinstance(result, LabelFailed):
            about = {"round": round_, "stage": stage, "frame": frame.hash, "reason": result.reason}
            log_event(context.folder, "label_failed", **about, message=result.message)

    if missing:
        tasks = [Task(label_frame, (spec, frame), f"label {origin.source}") for frame, origin in missing]
        run_tasks(context, "label", tasks, round_=round_, stage=stage, on_outcome=publish)
    _fold(context, [(each, known[each[0].hash]) for each in wanted if each[0].hash in known])
    if died:
        raise CuratorError(
            f"{stage}: {len(died)} of {len(missing)} calculations died, the first of: {died[0]}. The other labels are "
            "kept; run again to try these once more, with fewer run.workers if memory is short"
        )
    return [known[frame.hash] for frame, _ in wanted]


def _fold(context: Context, bought: Sequence[tuple[tuple[Frame, Provenance], Label | LabelFailed]]) -> None:
    """Append labels to the store in the order of their frames, so that the store never depends on who was first."""
    records = [Record(frame, label, origin) for (frame, origin), label in bought if isinstance(label, Label)]
    with Store(context.folder.store) as store:
        store.append(records)


def labelled(context: Context) -> list[Record]:
    """Every label of the campaign's theory, in an order that does not depend on which arrived first."""
    with Store(context.folder.store, "r") as store:
        records = store.records(theory=context.theory.key)
    return sorted(records, key=lambda record: (record.provenance.round, record.provenance.source, record.frame.hash))


def count_labels(context: Context) -> Counter[str]:
    """Labels by reason; the sum is what the budget counts."""
    return Counter(record.provenance.reason for record in labelled(context))
