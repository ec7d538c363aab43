"""The stages of a round that spend labels: explore, label, train. Each is skipped where its output exists."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import cast

import numpy as np
from ase.data import atomic_numbers

from curator.backends.executor import Done, Task
from curator.barriers.hop import plan_hop
from curator.choose import Chosen
from curator.context import Context, buy_labels, labelled, run_tasks, values_of
from curator.datasets.contacts import contacts
from curator.datasets.extxyz import write_records
from curator.datasets.frame import Frame
from curator.datasets.label import Label, Provenance, Record, Split
from curator.datasets.split import assign_splits
from curator.errors import CuratorError
from curator.explore import Candidate, plan_exploration, read_candidates, write_candidates
from curator.explore import candidates as candidates_from
from curator.state import Stage, read_json, write_json
from curator.tasks import (
    ModelAt,
    TrainedMember,
    TrainingJob,
    member_from_json,
    run_trajectory,
    train_member,
)
from curator.trajectory import Trajectory


def explore(context: Context, round_: int, starts: Sequence[Frame], hop: tuple[Frame, Frame] | None) -> list[Candidate]:
    """Candidates of a round: MD with the newest model, from several structures, at several temperatures.

    Around the hop from a minimum to a saddle point, if one is given, further runs sample what a barrier depends on.
    """
    return _explore(context, round_, starts, "candidates", "explore", hop)


def explore_for_test(context: Context, starts: Sequence[Frame]) -> list[Candidate]:
    """Candidates for test frames, from trajectories of their own in round 0."""
    return _explore(context, 0, starts, "test", "explore for test frames")


def _explore(
    context: Context,
    round_: int,
    starts: Sequence[Frame],
    kind: str,
    stage: str,
    hop: tuple[Frame, Frame] | None = None,
) -> list[Candidate]:
    folder = context.folder.round(round_) / "explore"
    out = folder / f"{kind}.extxyz"
    if out.exists():
        return read_candidates(out)
    settings = context.plan.file.explore
    test = kind == "test"
    # Test trajectories take seeds of their own.
    seed = context.plan.seed_of(round_, Stage.EXPLORE, int(test))
    plan = plan_exploration(
        starts,
        settings.temperatures_K,
        1 if test else settings.replicas,
        seed=seed,
        duration_ps=settings.duration_ps,
        timestep_fs=settings.timestep_fs,
        frame_interval_fs=1000 * settings.interval_ps,
    )
    if hop is not None:
        plan += plan_hop(
            *hop,
            settings.temperatures_K,
            seed=seed,
            first_index=len(plan),
            timestep_fs=settings.timestep_fs,
            frame_interval_fs=1000 * settings.interval_ps,
        )
    model = context.members(round_ - 1)[0]
    folders = [folder / kind / run.name for run in plan]
    tasks = [
        Task(run_trajectory, (model, run.start, run.settings, run.seed, where), f"MD {run.name}")
        for run, where in zip(plan, folders, strict=True)
    ]
    outcomes = run_tasks(
        context, "md", tasks, round_=round_, stage=stage, progress=[path / "progress.json" for path in folders]
    )
    values = values_of(outcomes, f"exploration in round {round_}")
    done = [(run, cast(Trajectory, value)) for run, value in zip(plan, values, strict=True)]
    found = candidates_from(done, interval_ps=settings.interval_ps, prefix=f"round-{round_}/{kind}")
    runs = [
        {"run": run.name, "status": trajectory.status, "reason": trajectory.reason, "cpu_s": trajectory.cpu_s}
        for run, trajectory in done
    ]
    if not found:
        raise CuratorError(
            f"round {round_}: no trajectory gave a sane frame; the first: {runs[0]['reason']}. "
            "Lower explore.temperatures_K, or choose another foundation"
        )
    write_json(folder / f"{kind}.json", {"runs": runs})
    write_candidates(out, found)
    return found


def label_test_frames(context: Context, candidates: Sequence[Candidate]) -> None:
    """Draw the test frames at random and label them, before anything else."""
    rng = np.random.default_rng(context.plan.seed_of(0, Stage.LABEL))
    n_test = min(context.plan.file.select.test_frames, len(candidates))
    idx = np.sort(rng.choice(len(candidates), size=n_test, replace=False))
    wanted = [
        (
            candidates[i].frame,
            Provenance(round=0, source=candidates[i].source, group=candidates[i].group, split="test", reason="test"),
        )
        for i in idx
    ]
    labels = buy_labels(context, wanted, round_=0, stage="label test frames")
    if not any(isinstance(label, Label) for label in labels):
        raise CuratorError(f"none of the {n_test} test frames could be labelled: {labels[0]}")


def label_contacts(context: Context, candidates: Sequence[Candidate]) -> None:
    """Label frames with two atoms pushed together, for training; once, in round 0."""
    found = contacts(
        [candidate.frame for candidate in candidates],
        context.plan.file.select.contact_labels,
        np.random.default_rng(context.plan.seed_of(0, Stage.LABEL, 2)),
        first=atomic_numbers[context.plan.system.mobile],
    )
    wanted = [(frame, Provenance(0, f"contact/{pair}", "contact", "train", "contact")) for pair, frame in found]
    if wanted:
        buy_labels(context, wanted, round_=0, stage="label contacts")


def label_chosen(context: Context, round_: int, candidates: Sequence[Candidate], chosen: Chosen) -> None:
    """Label the chosen frames; whole trajectories go to training or to validation."""
    out = context.folder.round(round_) / "labels.json"
    if out.exists():
        return
    valid_share = context.plan.file.select.valid_share
    splits = assign_splits(
        sorted({candidates[i].group for i in chosen.idx}),
        {"train": 1 - valid_share, "valid": valid_share},
        np.random.default_rng(context.plan.seed_of(round_, Stage.LABEL, 1)),
        fixed=_splits_before(context, round_),
    )
    # What is published keeps its split, though an earlier round may have got a label since that was drawn.
    splits |= {group: split for group, split in context.journal.splits.items() if group in splits}
    wanted = [
        (
            candidates[i].frame,
            Provenance(round_, candidates[i].source, candidates[i].group, splits[candidates[i].group], reason),
        )
        for i, reason in zip(chosen.idx, chosen.reasons, strict=True)
    ]
    labels = buy_labels(context, wanted, round_=round_, stage="label")
    results = [
        {
            "frame": frame.hash,
            "reason": origin.reason,
            "source": origin.source,
            "split": origin.split,
            "failed": None if isinstance(label, Label) else label.reason,
            "cpu_s": label.cpu_s if isinstance(label, Label) else None,
        }
        for (frame, origin), label in zip(wanted, labels, strict=True)
    ]
    if all(result["failed"] for result in results):
        raise CuratorError(
            f"round {round_}: every one of {len(results)} labels failed, the first with {results[0]['failed']!r}; "
            "see label.* in the campaign file"
        )
    write_json(out, {"theory": context.theory.key, "labels": results})


def _splits_before(context: Context, round_: int) -> dict[str, Split]:
    """Splits of the trajectories that earlier rounds explored, which count in the shares of training and validation."""
    return {
        record.provenance.group: record.provenance.split
        for record in labelled(context)
        if record.provenance.round < round_ and record.provenance.reason not in ("test", "anchor", "contact", "exam")
    }


def records_for_training(context: Context) -> tuple[list[Record], list[Record]]:
    """Training and validation records."""
    left_out = () if context.plan.file.learn.train_on_anchor else ("anchor",)
    records = [record for record in labelled(context) if record.provenance.reason not in left_out]
    train = [record for record in records if record.provenance.split == "train"]
    valid = [record for record in records if record.provenance.split == "valid"]
    return train, valid


def train(context: Context, round_: int) -> list[TrainedMember]:
    """Train the committee; member 0 sees every training frame, the others a bootstrap sample each."""
    folder = context.folder.round(round_) / "model"
    out = context.training_file(round_)
    if out.exists():
        return [member_from_json(member) for member in read_json(out)["members"]]
    learn = context.plan.file.learn
    folder.mkdir(parents=True, exist_ok=True)
    training, validation = records_for_training(context)
    write_records(folder / "train.extxyz", training)
    valid = folder / "valid.extxyz" if validation else None  # one trajectory alone is trained on whole
    if valid is not None:
        write_records(valid, validation)
    replays = context.plan.strategy.replay != "none"
    replay_valid = context.folder.setup / "replay-valid.extxyz"
    before = warm_bases(context, round_)
    jobs = []
    for member in range(learn.members):
        base = before[min(member, len(before) - 1)]
        jobs.append(
            TrainingJob(
                base=base,
                train=folder / "train.extxyz",
                valid=valid,
                replay_train=context.folder.setup / "replay-train.extxyz" if replays else None,
                replay_valid=replay_valid if replays and replay_valid.exists() else None,
                strategy=context.plan.strategy,
                e0=context.plan.e0,
                bootstrap=member > 0,
                seed=int(
                    np.random.SeedSequence(context.plan.seed_of(round_, Stage.TRAIN, member)).generate_state(1)[0]
                ),
                out=context.member(round_, member).folder,
            )
        )
    tasks = [Task(train_member, (job,), f"train member {member}") for member, job in enumerate(jobs)]
    outcomes = run_tasks(
        context,
        "train",
        tasks,
        round_=round_,
        stage=f"train {learn.members} members on {len(training)} frames",
        progress=[folder / f"member-{member}-progress.json" for member in range(learn.members)],
    )
    values_of(outcomes, f"training in round {round_}")
    members = [cast(TrainedMember, outcome.value) for outcome in outcomes if isinstance(outcome, Done)]
    write_json(out, {"members": [asdict(member) for member in members]})
    return members


def warm_bases(context: Context, round_: int) -> list[ModelAt]:
    """Models to start from: the last round's, unless they cannot be had or would not do.

    Those of another strategy may lack a head; those with other E0s than the foundation's cannot keep these.
    """
    learn = context.plan.file.learn
    if round_ == 0 or not learn.warm_start:
        return [context.foundation]
    earlier = read_json(context.folder.round(round_ - 1) / "settings.json")["learn"]
    same = earlier["strategy"] == learn.strategy and (learn.e0 != "foundation" or earlier["e0"] == learn.e0)
    return context.members(round_ - 1) if same else [context.foundation]
