"""The campaign: rounds until the verdict is in or the budget is spent, from wherever an earlier run stopped."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

import curator
from curator.anchor import anchor_frames, measure_anchor
from curator.backends.base import one_line
from curator.backends.executor import open_executor
from curator.backends.labellers import make_labeller
from curator.build import build_plan, n_anchor_labels, n_exam_labels, read_plan
from curator.choose import calibration_before, choose
from curator.config import checked
from curator.config_measure import Diffusion as DiffusionSettings
from curator.context import Context, count_labels
from curator.datasets.fence import acquire
from curator.datasets.frame import Frame
from curator.datasets.journal import Journal, open_store
from curator.datasets.notice import Notice
from curator.errors import bad_input, is_disk_full
from curator.exam import take_exam
from curator.labelling import key_of
from curator.measure import (
    NOT_MEASURED,
    Diffusion,
    diffusion_json,
    figure_arrays,
    fresh_errors,
    measure_diffusion_of,
    measure_errors,
    msd_arrays,
    round_numbers,
    save_evidence,
)
from curator.probes import probe_round
from curator.progress import Display
from curator.report.page import write_report
from curator.resolved import check_same_campaign, write_resolved
from curator.round import (
    explore,
    explore_for_test,
    label_chosen,
    label_contacts,
    label_test_frames,
    train,
)
from curator.setup import Setup, check_kept_replay, gather_inputs, has_inputs, keep_inputs, set_up
from curator.state import Json, campaign_folder, log_event, plain_json, read_json, write_json
from curator.summary import campaign_json, exploration_runs, round_cost, verdict_json
from curator.verdict.convergence import has_settled, judge
from curator.verdict.purchase import in_words, measured_again, more_md, summed_up
from curator.verdict.rule import StopRule

ROUND_KEYS = ("explore", "select", "learn", "measure")
"""Sections that a round keeps as they were when it began; a change holds from the next round on."""


def run(target: Path, console: Console, *, trust: bool = False) -> Json:
    """Run a campaign, or continue it, to its verdict or the end of its budget.

    Returns
    -------
    dict
        What ``campaign.json`` holds.

    Raises
    ------
    BadInput
        If something in the campaign file cannot be used.
    CuratorError
        If the work failed; what is done is kept.
    """
    folder = campaign_folder(target)
    plan = read_plan(folder, trust=trust)
    with bad_input(key_of(plan.file.label)):
        theory = make_labeller(plan.labeller).theory
    check_same_campaign(folder, plan, theory)
    inputs = None if has_inputs(folder) else gather_inputs(plan)
    if inputs is None:
        check_kept_replay(plan, folder)
    folder.path.mkdir(parents=True, exist_ok=True)
    with acquire(folder.journal) as fence:
        # Again, for another driver may have begun it meanwhile.
        changed = check_same_campaign(folder, plan, theory)
        journal = Journal(folder.journal, fence)
        if inputs is not None:
            keep_inputs(inputs, folder)
        if changed:
            log_event(folder, "settings_changed", keys=changed)
        write_resolved(folder, plan, theory)
        open_store(folder.store, journal).close()
        settings = plan.file.run
        with open_executor(settings.executor, settings.workers, folder.workers) as executor:
            context = Context(plan, folder, theory, journal, executor, Display(folder, console))
            log_event(folder, "resumed" if folder.evidence.exists() else "started", version=curator.__version__)
            return _run_rounds(context)


def _run_rounds(context: Context) -> Json:
    file, folder, display = context.plan.file, context.folder, context.display
    display.say(f"[bold]{file.name}[/bold]: {file.stop.max_rounds} rounds and {file.stop.max_labels} labels at most")
    setup = set_up(context)
    rounds: list[Json] = []
    while True:
        round_ = len(rounds)
        done = folder.round(round_) / "round.json"
        if not done.exists():
            _write_campaign(context, setup, rounds, finished=False)
            ended = _why_over(context, rounds)
            # A round that has chosen its frames goes on, though its labels count already.
            if ended and not (folder.round(round_) / "selection.json").exists():
                break
            _run_round(_as_it_began(context, round_), setup, rounds)
        rounds.append(read_json(done))
        if not context.folder.round(round_ + 1).exists():
            rounds[-1] = _brought_up_to_date(context, setup, rounds)
        _say_round(context, rounds[-1])
        if rounds[-1]["verdict"] == "converged":
            ended = "converged"
            break
    if rounds:
        round_ = len(rounds) - 1
        take_exam(_as_it_began(context, round_), setup, round_)
    campaign = _write_campaign(context, setup, rounds, finished=True)
    log_event(folder, "verdict", verdict=campaign["verdict"], ended=ended)
    display.say(f"  ended: {ended}; report: {folder.report}")
    return campaign


def _why_over(context: Context, rounds: Sequence[Json]) -> str | None:
    """Why no further round may begin, or None."""
    stop = context.plan.file.stop
    if len(rounds) >= stop.max_rounds:
        return f"all {stop.max_rounds} rounds are done"
    if _affordable(context, reserve_test=not rounds) < 1:
        return f"the budget of {stop.max_labels} labels is spent"
    return None


def _affordable(context: Context, *, reserve_test: bool) -> int:
    """Labels that a round may still buy for training, those of its anchor (and test and contacts) put aside."""
    file = context.plan.file
    bought = count_labels(context)
    reserved = n_anchor_labels(context.plan) + n_exam_labels(context.plan)
    if reserve_test:
        reserved += max(0, file.select.test_frames - bought["test"])
        reserved += max(0, file.select.contact_labels - bought["contact"])
    return file.stop.max_labels - bought.total() - reserved


def _run_round(context: Context, setup: Setup, rounds: Sequence[Json]) -> None:
    round_, file = len(rounds), context.plan.file
    folder = context.folder.round(round_)
    earlier = context.folder.setup if round_ == 0 else context.folder.round(round_ - 1) / "measure"
    anchors = _anchor_frames(earlier, setup)
    starts = [*(anchors or [setup.frame]), *context.plan.system.starts]
    hop = (anchors[0], anchors[1]) if len(anchors) > 1 and file.select.hop_share > 0 else None
    candidates = explore(context, round_, starts, hop)
    if round_ == 0:
        label_test_frames(context, explore_for_test(context, starts[:1]))
        label_contacts(context, candidates)
    n_select = min(file.select.labels_per_round, _affordable(context, reserve_test=False))
    chosen = choose(context, round_, candidates, n_select)
    label_chosen(context, round_, candidates, chosen)
    members = train(context, round_)

    fresh = fresh_errors(context, round_, chosen, calibration_before(context, round_))
    errors = measure_errors(context, round_)
    probes = probe_round(context, round_, setup.frame)
    follows = setup.hop is not None and context.plan.follows_barrier
    anchor = measure_anchor(context, round_, setup.hop, folder / "measure") if setup.hop and follows else None
    content = round_numbers(context, round_, members, anchor) | errors.numbers | fresh.numbers
    content["probes"] = probes
    settings = file.measure.diffusion if _md_is_due(context, [*rounds, content]) else None
    diffusion = NOT_MEASURED if settings is None else _measure_diffusion(context, setup, round_, settings)
    content |= _about_diffusion(context, round_, diffusion, settings)
    content |= verdict_json(judge([*rounds, content], context.plan.rule))
    save_evidence(
        folder / "evidence.npz",
        errors.arrays,
        fresh.arrays,
        figure_arrays(context, round_, members, diffusion.measured),
    )
    write_json(folder / "round.json", content)


def _measure_diffusion(context: Context, setup: Setup, round_: int, settings: DiffusionSettings) -> Diffusion:
    start = (_anchor_frames(context.folder.round(round_) / "measure", setup) or [setup.frame])[0]
    return measure_diffusion_of(context, round_, settings, start, setup.hop)


def _about_diffusion(context: Context, round_: int, diffusion: Diffusion, settings: DiffusionSettings | None) -> Json:
    """What a round's JSON says of diffusion, and of explosions and costs, which go with it."""
    explosions = [run for run in exploration_runs(context.folder, round_) if run["status"] != "completed"]
    return diffusion_json(diffusion, settings) | {
        "n_explosions": len(explosions) + diffusion.n_exploded,
        "cost": round_cost(context, round_, diffusion.cpu_s),
    }


def _brought_up_to_date(context: Context, setup: Setup, rounds: Sequence[Json]) -> Json:
    """The newest round, judged by the ``stop`` of today, and measured longer where that is asked for or pays."""
    *earlier, content = rounds
    file, round_ = context.plan.file, content["round"]
    began = _as_it_began(context, round_)
    content = _judged(context, earlier, content, began.plan.rule)
    while (settings := more_md([*earlier, content], file.measure.diffusion, file.stop.max_md_ps)) is not None:
        _write_campaign(context, setup, [*earlier, content], finished=False)
        diffusion = _measure_diffusion(began, setup, round_, settings)
        arrays = context.folder.round(round_) / "evidence.npz"
        with np.load(arrays) as stored:
            kept = {name: stored[name] for name in stored if not name.startswith("msd_")}
        save_evidence(arrays, kept, msd_arrays(diffusion.measured))
        again = measured_again(content, _about_diffusion(began, round_, diffusion, settings))
        before, content = content, _judged(context, earlier, again, began.plan.rule)
        log_event(context.folder, "md_bought", round=round_, before=summed_up(before), after=summed_up(content))
        context.display.say(f"  round {round_}: measured again: {in_words(before)}; then {in_words(content)}")
    return content


def _judged(context: Context, earlier: Sequence[Json], content: Json, rule: StopRule) -> Json:
    """A round with its verdict, written down where it says something new."""
    path = context.folder.round(content["round"]) / "round.json"
    judged: Json = plain_json(content | verdict_json(judge([*earlier, content], rule)))
    if judged != read_json(path):
        write_json(path, judged)
    return judged


def _as_it_began(context: Context, round_: int) -> Context:
    """The context with the sections of the campaign file that held when the round began."""
    path = context.folder.round(round_) / "settings.json"
    file = context.plan.file
    if not path.exists():
        write_json(path, file.model_dump(mode="json", include=set(ROUND_KEYS)))
        return context
    kept = read_json(path)
    today = file.measure.diffusion
    if today is not None and kept["measure"]["diffusion"] is not None:
        # What counts as converged holds at once.
        kept["measure"]["diffusion"]["tolerance_eV"] = today.tolerance_eV
    if not context.training_file(round_).exists() and kept["learn"] != (
        learn := file.model_dump(mode="json", include={"learn"})["learn"]
    ):
        # A training that was refused is mended in the file.
        kept["learn"] = learn
        write_json(path, kept)
    if kept == file.model_dump(mode="json", include=set(ROUND_KEYS)):
        return context
    began = checked(file.model_dump(mode="json") | kept, path)
    return replace(context, plan=build_plan(began, context.plan.base, trust=context.plan.trust))


def _anchor_frames(folder: Path, setup: Setup) -> list[Frame]:
    return [] if setup.hop is None else anchor_frames(folder, setup.hop)


def _md_is_due(context: Context, rounds: Sequence[Json]) -> bool:
    """Whether this round's MD is worth its price: the barrier has settled, or there will be no other round."""
    diffusion = context.plan.file.measure.diffusion
    return diffusion is not None and (
        diffusion.every_round or has_settled(rounds, context.plan.rule) or _why_over(context, rounds) is not None
    )


def _say_round(context: Context, content: Json) -> None:
    """One line a round: what it bought and what it brought."""
    force = content["force_rmse_eV_per_A"]
    parts = [
        f"{content['n_labels_total']} labels",
        f"test forces {1000 * force['model']:.0f} meV/Å (foundation {1000 * force['foundation']:.0f})",
    ]
    if content["barrier_eV"] is not None:
        reference = content["barrier_reference_eV"]
        beside = "" if reference is None else f" (reference {reference:.3f})"
        parts.append(f"barrier {content['barrier_eV']:.3f} eV{beside}")
    context.display.say(f"[bold]round {content['round']}[/bold]: {', '.join(parts)}; {content['verdict']}")


def _write_campaign(context: Context, setup: Setup, rounds: Sequence[Json], *, finished: bool) -> Json:
    content = campaign_json(context, setup, rounds, finished=finished)
    write_json(context.folder.evidence, content)
    if rounds:
        try:
            write_report(context.folder.path, context.folder.report)
        except Exception as error:  # a figure that cannot be drawn must not stop a campaign
            if is_disk_full(error):
                raise
            warnings.warn(f"the report could not be written: {one_line(error)}", Notice, stacklevel=2)
    return content
