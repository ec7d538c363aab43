"""What happens once, before round 0: the foundation is copied in and examined, the lattice and the hop are fixed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from ase.data import chemical_symbols

from curator.anchor import Anchor, measure_anchor
from curator.backends.executor import Task
from curator.backends.labellers import at_charge
from curator.build import Plan
from curator.context import FOUNDATION, Context, run_tasks, values_of
from curator.datasets.extxyz import write_records
from curator.datasets.frame import Frame
from curator.datasets.label import Record
from curator.datasets.sources import Hop
from curator.errors import BadInput, CuratorError, bad_input
from curator.followed import followed_hops, rank_hops
from curator.labelling import model_reference, resolve
from curator.lattice import seed_structure, unit_cell
from curator.learners.foundation import load_foundation
from curator.learners.mace import MaceModel, keep_head
from curator.learners.reference import own_frames
from curator.learners.replay import probe_records, replay_records
from curator.probes import probe_round
from curator.state import CampaignFolder, Json, Stage, read_json, write_json
from curator.tasks import RelaxedCell, relax_cell

INPUTS_KEPT = "inputs.json"
N_PROBE = 100
"""Frames on which forgetting is measured."""


@dataclass(frozen=True, slots=True, eq=False)
class Setup:
    """What every round starts from.

    Attributes
    ----------
    frame
        The structure in its final cell.
    hop
        The hop of the mobile species in the same cell, or None if none is known.
    heldout_hop
        Another hop in the same cell, which is never trained on and examines the model at the end, or None.
    anchor
        Barrier of the foundation and its reference, or None if no barrier is followed.
    probes
        What the probes of the foundation found, as JSON; None if none are wanted.
    """

    frame: Frame
    hop: Hop | None
    heldout_hop: Hop | None
    anchor: Anchor | None
    probes: Json | None = None


def set_up(context: Context) -> Setup:
    """Fix the lattice and examine the foundation; what is there already is used."""
    frame, hop, heldout = fix_cell(context)
    follows = hop is not None and context.plan.follows_barrier
    anchor = measure_anchor(context, -1, hop, context.folder.setup) if hop is not None and follows else None
    return Setup(frame, hop, heldout, anchor, probe_round(context, -1, frame))


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """What a campaign takes from outside, and keeps a copy of.

    Attributes
    ----------
    foundation
        The model to start from.
    replay
        Whether the frames to replay have their own labels or the foundation's.
    replay_train, replay_valid
        Frames to replay; empty without replay.
    probe
        Frames that measure forgetting; empty if the foundation brings none.
    """

    foundation: MaceModel
    replay: Literal["data", "pseudolabels"]
    replay_train: Sequence[Record]
    replay_valid: Sequence[Record]
    probe: Sequence[Record]


def gather_inputs(plan: Plan) -> Inputs:
    """Load everything the campaign file names; nothing is written.

    Raises
    ------
    BadInput
        If the model is not there, does not know an element of the system, or replay has nothing to replay.
    """
    pseudolabels = plan.strategy.replay == "pseudolabels"
    reference = model_reference(plan.file.foundation, plan.base)
    with bad_input("foundation"):
        model = load_foundation(reference, trust=plan.trust, device="cpu")
        if pseudolabels and len(model.heads) > 1:
            # What it replays is then its own, not that of the foundation it was once fine-tuned from.
            model = keep_head(model, model.head)
    check_elements(plan, model)
    check_replay(plan, reference)
    learn = plan.file.learn
    own = own_frames(reference) is not None
    rng = np.random.default_rng(plan.seed_of(-1, Stage.SETUP))
    probe = probe_records(reference)
    idx = np.sort(rng.permutation(len(probe))[:N_PROBE])
    replay: tuple[list[Record], list[Record]] = ([], [])
    # Kept whatever the strategy is now: another one may come with a later round.
    if own or learn.replay is not None:
        source = reference if learn.replay is None else resolve(learn.replay, plan.base)
        with bad_input("learn.replay"):
            replay = replay_records(
                source,
                model.elements,
                learn.replay_frames,
                rng,
                choose=learn.replay_choice,
                model=model,
                pseudolabels=pseudolabels,
            )
            if not replay[0]:
                raise BadInput(f"learn.replay: {source} holds no frame to train on that {plan.file.foundation} knows")
    return Inputs(model, "pseudolabels" if pseudolabels else "data", replay[0], replay[1], [probe[i] for i in idx])


def has_inputs(folder: CampaignFolder) -> bool:
    """Whether a campaign has its own copies already."""
    return (folder.setup / INPUTS_KEPT).exists()


def foundation_hash(folder: CampaignFolder) -> str:
    """Hash of the campaign's foundation."""
    return str(read_json(folder.setup / INPUTS_KEPT)["foundation"])


def keep_inputs(inputs: Inputs, folder: CampaignFolder) -> None:
    """Copy the inputs into the campaign, so that it can never change underneath."""
    target = folder.setup / FOUNDATION
    target.mkdir(parents=True, exist_ok=True)
    inputs.foundation.save(target)
    for name, records in (
        ("replay-train", inputs.replay_train),
        ("replay-valid", inputs.replay_valid),
        ("probe", inputs.probe),
    ):
        if records:
            write_records(folder.setup / f"{name}.extxyz", records)
    write_json(folder.setup / INPUTS_KEPT, {"foundation": inputs.foundation.hash, "replay": inputs.replay})


def check_kept_replay(plan: Plan, folder: CampaignFolder) -> None:
    """Raise :class:`BadInput` if a campaign that has begun did not keep what its strategy is to replay."""
    wanted, kept = plan.strategy.replay, read_json(folder.setup / INPUTS_KEPT)["replay"]
    if wanted == "none":
        return
    if not (folder.setup / "replay-train.extxyz").exists():
        raise BadInput(f"learn.strategy: {plan.strategy.name} needs replay frames, and this campaign began without any")
    if wanted != kept:
        raise BadInput(
            f"learn.strategy: {plan.strategy.name} replays {wanted}, and this campaign began with {kept}; "
            "start a new campaign from its frames"
        )


def check_elements(plan: Plan, model: MaceModel) -> None:
    """Raise :class:`BadInput` if the foundation lacks an element of the system, or one that E0s are given for."""
    if not isinstance(plan.e0, str) and (unknown := set(plan.e0) - set(model.elements)):
        symbols = ", ".join(chemical_symbols[number] for number in sorted(unknown))
        raise BadInput(f"learn.e0: {plan.file.foundation} does not know {symbols}; leave it out")
    frames = [unit_cell(plan), *plan.system.starts]
    missing = {int(number) for frame in frames for number in frame.numbers} - set(model.elements)
    if missing:
        symbols = ", ".join(chemical_symbols[number] for number in sorted(missing))
        raise BadInput(f"foundation: {plan.file.foundation} does not know {symbols}; choose one that does")


def check_replay(plan: Plan, reference: str) -> None:
    """Raise :class:`BadInput` if the strategy replays and the foundation (name or path) brings nothing to replay."""
    if plan.strategy.replay != "none" and plan.file.learn.replay is None and own_frames(reference) is None:
        raise BadInput(
            f"learn.replay: {plan.strategy.name} needs frames to replay and {plan.file.foundation} brings none; "
            "name an extxyz file with labels of the foundation's level of theory, or, for pseudolabel_replay, of any "
            "structures; or use strategy naive"
        )


def structure_in_cell(plan: Plan, folder: CampaignFolder) -> tuple[Frame, Hop | None, Hop | None]:
    """Structure, hop and held-out hop in the cell that the set-up has fixed."""
    if plan.system.search is not None:
        followed = followed_hops(folder)
        return followed.hop.initial, followed.hop, followed.heldout
    frame = _frame_of_cell(folder)
    return seed_structure(plan, float(frame.cell[0, 0]) if isinstance(plan.system.structure, str) else None, frame)


def _frame_of_cell(folder: CampaignFolder) -> Frame:
    content = read_json(folder.setup / "cell.json")
    return Frame(content["numbers"], content["positions"], content["cell_A"], content["pbc"])


def fix_cell(context: Context) -> tuple[Frame, Hop | None, Hop | None]:
    """Structure, hop and held-out hop in the cell that all rounds share, relaxed once and stretched as asked for."""
    plan = context.plan
    out = context.folder.setup / "cell.json"
    cell = plan.file.system.cell
    builder = isinstance(plan.system.structure, str)
    template = unit_cell(plan)
    if not out.exists():
        relaxed = RelaxedCell(template, 0, 0.0, True)
        if cell != "given":
            charged = at_charge(context.labeller, template.charge, template.multiplicity)
            source = charged if cell == "labeller" else context.foundation
            tasks = [Task(relax_cell, (source, template, builder), f"relax the cell with the {cell}")]
            outcomes = run_tasks(context, "label", tasks, round_=-1, stage=f"relax the cell with the {cell}")
            relaxed = cast(RelaxedCell, values_of(outcomes, "relaxation of the cell")[0])
        if not relaxed.converged:
            raise CuratorError(
                f"system.cell: the cell did not relax in {relaxed.n_calls} steps with the {cell}; "
                "check the structure, or relax it yourself and use cell: given"
            )
        stretch = 1 + plan.file.system.expansion
        content: Json = {
            "cell": cell,
            "numbers": relaxed.frame.numbers,
            "positions": stretch * relaxed.frame.positions,
            "cell_A": stretch * relaxed.frame.cell,
            "pbc": relaxed.frame.pbc,
            "n_calls": relaxed.n_calls,
            "cpu_s": relaxed.cpu_s,
        }
        write_json(out, content)
    if plan.system.search is not None:
        rank_hops(context, _frame_of_cell(context.folder))
    return structure_in_cell(plan, context.folder)
