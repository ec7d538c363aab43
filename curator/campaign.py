"""The campaign: rounds until the verdict is in or the budget is spent, from wherever an earlier run stopped."""

import importlib.metadata
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import yaml
from rich.console import Console

import curator
from curator.anchor import N_ANCHOR_LABELS, anchor_frames, measure_anchor
from curator.backends.executor import open_executor
from curator.backends.labellers import make_labeller
from curator.build import Plan, build_plan, naming
from curator.config import read_campaign_file
from curator.context import Context, count_labels
from curator.convergence import barrier_has_settled, judge
from curator.datasets.atomic import write_atomically
from curator.datasets.fence import acquire
from curator.datasets.journal import Journal, open_store
from curator.datasets.label import Theory
from curator.errors import BadInput
from curator.measure import (
    Diffusion,
    diffusion_json,
    figure_arrays,
    fresh_errors,
    measure_diffusion_of,
    measure_errors,
    round_numbers,
    save_evidence,
)
from curator.progress import Display
from curator.report import write_report
from curator.round import (
    calibration_before,
    choose,
    explore,
    explore_for_test,
    label_chosen,
    label_test_frames,
    train,
)
from curator.setup import Setup, foundation_hash, gather_inputs, has_inputs, keep_inputs, set_up
from curator.state import CampaignFolder, Json, campaign_folder, log_event, plain_json, read_json, write_json
from curator.summary import campaign_json, exploration_runs, round_cost, verdict_json

FIXED_KEYS = ("system", "foundation", "label", "seed")
"""Keys that may not change once a campaign has begun: they would mix two campaigns' labels."""
RECORDED_PACKAGES = (
    "ase",
    "chgnet",
    "kinisi",
    "mace-torch",
    "matscipy",
    "numpy",
    "parsl",
    "pymatgen",
    "scikit-learn",
    "torch",
)


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
    base = folder.campaign_file.resolve().parent
    plan = build_plan(read_campaign_file(folder.campaign_file), base, trust=trust)
    with naming("label.model"):
        theory = make_labeller(plan.labeller).theory
    _refuse_other_campaign(folder, plan)
    inputs = None if has_inputs(folder) else gather_inputs(plan, base, trust=trust)
    folder.path.mkdir(parents=True, exist_ok=True)
    with acquire(folder.journal) as fence:
        journal = Journal(folder.journal, fence)
        if inputs is not None:
            keep_inputs(inputs, folder)
        _write_resolved(folder, plan, theory)
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
            _run_round(context, setup, rounds)
        rounds.append(read_json(done))
        _say_round(context, rounds[-1])
        if rounds[-1]["verdict"] == "converged":
            ended = "converged"
            break
    campaign = _write_campaign(context, setup, rounds, finished=True)
    log_event(folder, "verdict", verdict=campaign["verdict"], ended=ended)
    write_report(folder.path, folder.report)
    display.say(f"  ended: {ended}; report: {folder.report}")
    return campaign


def _why_over(context: Context, rounds: Sequence[Json]) -> str | None:
    """Why no further round may begin, or None."""
    stop = context.plan.file.stop
    if len(rounds) >= stop.max_rounds:
        return f"all {stop.max_rounds} rounds are done"
    if _affordable(context, len(rounds)) < 1:
        return f"the budget of {stop.max_labels} labels is spent"
    return None


def _affordable(context: Context, round_: int) -> int:
    """Labels that a round may still buy for training, its anchor and the test frames put aside."""
    file = context.plan.file
    bought = count_labels(context)
    reserved = N_ANCHOR_LABELS if file.measure.barrier else 0
    if round_ == 0:
        reserved += max(0, file.select.test_frames - bought["test"])
    return file.stop.max_labels - bought.total() - reserved


def _run_round(context: Context, setup: Setup, rounds: Sequence[Json]) -> None:
    round_, file = len(rounds), context.plan.file
    folder = context.folder.round(round_)
    earlier = context.folder.setup if round_ == 0 else context.folder.round(round_ - 1) / "measure"
    starts = [*(anchor_frames(earlier, setup.frame) or [setup.frame]), *context.plan.starts]
    candidates = explore(context, round_, starts)
    if round_ == 0:
        label_test_frames(context, explore_for_test(context, starts[:1]))
    chosen = choose(context, round_, candidates, min(file.select.labels_per_round, _affordable(context, round_)))
    label_chosen(context, round_, candidates, chosen)
    members = train(context, round_)

    fresh = fresh_errors(context, round_, chosen, calibration_before(context, round_))
    errors = measure_errors(context, round_)
    anchor = None if setup.hop is None else measure_anchor(context, round_, setup.hop, folder / "measure")
    content = round_numbers(context, round_, members, anchor) | errors.numbers | fresh.numbers
    diffusion = Diffusion((), None, 0, 0.0)
    if file.measure.diffusion is not None and _md_is_due(context, [*rounds, content]):
        start = (anchor_frames(folder / "measure", setup.frame) or [setup.frame])[0]
        diffusion = measure_diffusion_of(context, round_, start, setup.hop)
    content |= diffusion_json(diffusion)
    explosions = [run for run in exploration_runs(context.folder, round_) if run["status"] != "completed"]
    content["n_explosions"] = len(explosions) + diffusion.n_exploded
    content["cost"] = round_cost(context, round_, members, anchor, diffusion.cpu_s)
    content |= verdict_json(judge([*rounds, content], context.plan.rule))
    save_evidence(
        folder / "evidence.npz",
        errors.arrays,
        fresh.arrays,
        figure_arrays(context, round_, members, diffusion.measured),
    )
    write_json(folder / "round.json", content)


def _md_is_due(context: Context, rounds: Sequence[Json]) -> bool:
    """Whether this round's MD is worth its price: the barrier has settled, or there will be no other round."""
    file = context.plan.file
    assert file.measure.diffusion is not None
    return (
        file.measure.diffusion.every_round
        or barrier_has_settled(rounds, context.plan.rule)
        or _why_over(context, rounds) is not None
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
        write_report(context.folder.path, context.folder.report)
    return content


def _refuse_other_campaign(folder: CampaignFolder, plan: Plan) -> None:
    """Refuse to mix two campaigns in one folder, and record which keys changed."""
    if not folder.resolved.exists():
        return
    before = yaml.safe_load(folder.resolved.read_text(encoding="utf-8"))["campaign"]
    now = plan.file.model_dump(mode="json")
    for key in FIXED_KEYS:
        if before.get(key) != now[key]:
            raise BadInput(
                f"{folder.campaign_file}: {key} has changed since this campaign began, and would mix two campaigns; "
                "start a new one in another folder from this one's frames: curator export"
            )
    changed = sorted(key for key in now if before.get(key) != now[key])
    if changed:
        log_event(folder, "settings_changed", keys=changed)


def _write_resolved(folder: CampaignFolder, plan: Plan, theory: Theory) -> None:
    """Write the campaign file with every default, and where everything comes from."""
    versions = {name: importlib.metadata.version(name) for name in RECORDED_PACKAGES}
    content = {
        "campaign": plan.file.model_dump(mode="json"),
        "strategy": asdict(plan.strategy),
        "theory": {"key": theory.key, **asdict(theory)},
        "foundation": {"hash": foundation_hash(folder)},
        "provenance": {
            "file": str(folder.campaign_file.resolve()),
            "curator": curator.__version__,
            "python": platform.python_version(),
            "versions": versions,
        },
    }
    write_atomically(folder.resolved, yaml.safe_dump(plain_json(content), sort_keys=False, allow_unicode=True))
