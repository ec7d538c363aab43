"""From the campaign file to the plan: every path resolved, every name looked up, every default filled in."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from ase.data import atomic_numbers

from curator.backends.base import LabellerSpec
from curator.backends.labellers import make_labeller
from curator.config import CampaignFile, HopFiles, read_campaign_file
from curator.datasets.frame import Frame
from curator.datasets.sources import Hop
from curator.errors import BadInput, bad_input
from curator.labelling import key_of, labeller_of, pseudolabeller
from curator.learners.strategies import E0_POLICIES, E0Choice, Strategy, UnusedOverrideError, strategy
from curator.positions import hop_length
from curator.state import CampaignFolder
from curator.system import MIN_HOP_A, System, read_system
from curator.verdict.rule import StopRule

N_EXAM_FRAMES = 10
"""Fresh frames of the measuring MD that are labelled when the campaign has ended."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A campaign, ready to run.

    Attributes
    ----------
    file
        The campaign file it was built from, with every default filled in.
    system
        Its structures and hops. A hop that is searched for is the shortest, until the lattice is known and the one that
        is followed is chosen; that of a shipped builder is made anew then.
    follows_barrier
        Whether the barrier of the hop is followed.
    labeller
        What makes labels.
    also
        What labels the same frames beside it, for comparison only; None for nothing.
    strategy
        Row of the strategy table, with the user's overrides.
    e0
        Policy of the energies of isolated atoms, or values in eV by atomic number.
    rule
        When to stop.
    base
        Folder that the paths in the file are relative to.
    trust
        Whether pickled models that the file names may be loaded.
    """

    file: CampaignFile
    system: System
    follows_barrier: bool
    labeller: LabellerSpec
    also: LabellerSpec | None
    strategy: Strategy
    e0: E0Choice
    rule: StopRule
    base: Path
    trust: bool

    def seed_of(self, round_: int, stage: int, index: int = 0) -> tuple[int, int, int, int]:
        """Entropy of one task's ``numpy.random.SeedSequence``; the set-up is round -1."""
        return (self.file.seed, round_ + 1, stage, index)


def read_plan(folder: CampaignFolder, *, trust: bool = False) -> Plan:
    """Plan of the campaign file in a campaign's folder.

    Raises
    ------
    BadInput
        As for `build_plan`, or if the file cannot be read.
    """
    path = folder.campaign_file
    file = read_campaign_file(path)
    try:
        return build_plan(file, path.resolve().parent, trust=trust)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error


def build_plan(file: CampaignFile, folder: Path, *, trust: bool = False) -> Plan:
    """Look up everything a campaign file names; paths are relative to ``folder``.

    Raises
    ------
    BadInput
        If a structure cannot be read, lacks the mobile species, or a name is not known.
    """
    system = read_system(file, folder)
    if file.measure.diffusion is not None and system.symbols == {system.mobile}:
        raise BadInput(
            f"measure.diffusion: every atom is {system.mobile}, and diffusion is measured against atoms that stay; set "
            "it to null, and the barrier alone is followed"
        )
    chosen, e0 = _strategy(file)
    barrier = _follows_barrier(file, system.hop)
    _check_budget(file, barrier, system.heldout_hop)
    _check_charge(file)
    if file.label.kind == "semiempirical" and file.label.code != "ase":
        _check_gamma_point(file, isinstance(system.structure, Frame) and system.supercell == (1, 1, 1))
    with bad_input(key_of(file.label)):
        labeller = labeller_of(
            file.label,
            set(system.symbols),
            folder,
            charge=file.system.charge,
            multiplicity=file.system.multiplicity,
            device=file.run.device,
            trust=trust,
        )
    also = None
    if file.label.also is not None:
        with bad_input("label.also"):
            also = pseudolabeller(file.label.also, folder, file.run.device, trust)
            make_labeller(also)
    if file.run.device == "cuda":
        from curator.learners.device import device_of

        with bad_input("run.device"):
            device_of(file.run.device)
    return Plan(
        file=file,
        system=system,
        follows_barrier=barrier,
        labeller=labeller,
        also=also,
        strategy=chosen,
        e0=e0,
        rule=_stop_rule(file, barrier),
        base=folder,
        trust=trust,
    )


def e0_choice(given: str | Mapping[str, float]) -> E0Choice:
    """Policy of E0s, or values in eV by atomic number from values by element.

    Raises
    ------
    ValueError
        If a symbol or the policy is unknown.
    """
    if isinstance(given, str):
        if given not in E0_POLICIES:
            raise ValueError(f"no policy {given!r}; there are {', '.join(E0_POLICIES)}, or values such as Li: -1.9")
        return cast(E0Choice, given)
    unknown = [symbol for symbol in given if not atomic_numbers.get(symbol)]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not the symbol of an element; give values in eV such as Li: -1.9")
    return {int(atomic_numbers[symbol]): float(value) for symbol, value in given.items()}


def n_anchor_labels(plan: Plan) -> int:
    """Labels that one anchor costs: minimum, saddle and images between them, or none."""
    return _n_anchor_labels(plan.file, plan.follows_barrier)


def _n_anchor_labels(file: CampaignFile, barrier: bool) -> int:
    return 2 + file.measure.path_images if barrier else 0


def n_carriers(plan: Plan, frame: Frame, hop: Hop | None) -> int | None:
    """Carriers that share the summed displacement of a frame's mobile ions: the defect that was made, or all of them.

    None where files give the hop: how many defects there are in them, nobody has said.
    """
    system = plan.file.system
    if isinstance(system.hop, HopFiles):
        return system.carriers
    return system.carriers or (1 if hop else int(np.sum(frame.numbers == atomic_numbers[plan.system.mobile])))


def hop_length_A(plan: Plan, hop: Hop | None) -> float | None:
    """Length in Å of the summed displacement of the mobile ions in a hop.

    None where no hop is known, or the ions of one change places, so that their sum stays where it is.
    """
    length = hop_length(hop.initial, hop.final, plan.system.mobile) if hop else 0.0
    return length if length > MIN_HOP_A else None


def n_exam_labels(plan: Plan) -> int:
    """Labels that the exam at the end costs at most: minimum and saddle of the held-out hop, and fresh frames."""
    return _n_exam_labels(plan.file, plan.system.heldout_hop)


def _n_exam_labels(file: CampaignFile, heldout: Hop | None) -> int:
    if not file.measure.exam:
        return 0
    n_hop = 2 if heldout is not None and file.measure.barrier is not False else 0
    return n_hop + (N_EXAM_FRAMES if file.measure.diffusion is not None else 0)


def _stop_rule(file: CampaignFile, barrier: bool) -> StopRule:
    diffusion = file.measure.diffusion
    n_new = _n_anchor_labels(file, barrier) + min(2, file.select.labels_per_round)
    stop = file.stop
    rule = StopRule(
        window=stop.window,
        n_compare=stop.n_compare,
        diffusivity_factor=stop.diffusivity_factor,
        force_error_eV_per_A=stop.force_error_eV_per_A,
        force_error_fall=stop.force_error_fall,
        min_new_labels=n_new,
        barrier=barrier,
        diffusion=diffusion is not None,
        hottest_explored_K=max(file.explore.temperatures_K),
    )
    return rule if diffusion is None else replace(rule, tolerance_eV=diffusion.tolerance_eV)


def _strategy(file: CampaignFile) -> tuple[Strategy, E0Choice]:
    """Row of the strategy table with the user's overrides, and the policy of E0s that goes with it."""
    with bad_input("learn.strategy"):
        overrides = {
            "max_epochs": file.learn.epochs,
            "learning_rate": file.learn.learning_rate,
            "batch_size": file.learn.batch_size,
            "difference": file.learn.difference,
            "replay_per_epoch": file.learn.replay_per_epoch,
            "lora_rank": file.learn.lora_rank,
            "lora_alpha": file.learn.lora_alpha,
        }
        given = {key: value for key, value in overrides.items() if value is not None}
        try:
            chosen = strategy(file.learn.strategy, defaults=file.learn.defaults, **given)
        except UnusedOverrideError as error:
            raise BadInput(f"learn.{error.key}: {error}") from error
    with bad_input("learn.e0"):
        e0 = e0_choice(file.learn.e0)
    if not chosen.from_foundation and e0 == "foundation":
        raise BadInput(
            f"learn.e0: {chosen.name} starts from random weights and has no E0s of a foundation; use estimated"
        )
    return chosen, e0


def _follows_barrier(file: CampaignFile, hop: Hop | None) -> bool:
    if hop is None and file.measure.barrier:
        raise BadInput("measure.barrier: no hop is known for this structure; give system.hop, or leave barrier out")
    return hop is not None and file.measure.barrier is not False


def _check_budget(file: CampaignFile, barrier: bool, heldout: Hop | None) -> None:
    n_exam = _n_exam_labels(file, heldout)
    least = file.select.test_frames + file.select.contact_labels + 2 * _n_anchor_labels(file, barrier) + 1 + n_exam
    if file.stop.max_labels < least:
        raise BadInput(
            f"stop.max_labels: {file.stop.max_labels} do not pay for one round, which takes at least {least} "
            f"with {file.select.test_frames} test frames, {file.select.contact_labels} contacts and {n_exam} for the "
            "exam; raise it, or lower select.test_frames"
        )


def _check_gamma_point(file: CampaignFile, whole: bool) -> None:
    if file.system.cell == "labeller" and not whole:
        raise BadInput(
            f"system.cell: {file.label.model} is of the Gamma point alone, where a unit cell has another lattice than "
            "a supercell; give a structure that needs no supercell, or choose given or foundation"
        )


def _check_charge(file: CampaignFile) -> None:
    label = file.label
    for name, value in (("charge", file.system.charge), ("multiplicity", file.system.multiplicity)):
        if label.code == "ase":
            told = label.parameters.get(name, 0)
            if told != value:
                raise BadInput(
                    f"system.{name}: is {value}, but label.parameters, all that the calculator is told, gives {told}; "
                    "give both alike"
                )
        elif value and label.kind not in ("dft", "semiempirical"):
            raise BadInput(f"system.{name}: {label.model} knows no {name}; leave it out with label.kind {label.kind}")
