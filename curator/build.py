"""From the campaign file to the plan: every path resolved, every name looked up, every default filled in."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from ase.geometry import find_mic

from curator.backends.base import LabellerSpec
from curator.backends.labellers import make_labeller
from curator.barriers.hops import NamedHop, default_supercell, enumerate_hops
from curator.config import CampaignFile, HopFiles, HopSearch, read_campaign_file
from curator.datasets.extxyz import read_frames
from curator.datasets.frame import Frame, atoms_from_frame, frame_from_atoms
from curator.datasets.sources import Hop, build_seed, rocksalt
from curator.errors import BadInput, bad_input
from curator.labelling import key_of, labeller_of, pseudolabeller, resolve
from curator.learners.strategies import E0_POLICIES, E0Choice, Strategy, UnusedOverrideError, strategy
from curator.state import CampaignFolder
from curator.verdict.rule import StopRule

MAX_STRAIN = 0.05
"""Largest difference between the cells of a structure and of its hop, relative to the longest lattice vector."""
MIN_HOP_A = 0.3
"""A hop moves the mobile species by more than this."""
BUILDER_SUPERCELL = (2, 2, 2)
FILE_SUPERCELL = (1, 1, 1)
N_EXAM_FRAMES = 10
"""Fresh frames of the measuring MD that are labelled when the campaign has ended."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A campaign, ready to run.

    Attributes
    ----------
    file
        The campaign file it was built from, with every default filled in.
    structure
        Name of a shipped builder, or the structure read from a file.
    supercell
        Repeats of the conventional cell or of the file's cell.
    mobile
        Symbol of the diffusing element.
    search
        Which hops of the crystal to look for, or None if the hop is known. The one that is followed is chosen once the
        lattice is known; until then it is the shortest.
    hop
        Hop given by the user's files, or that of a shipped builder, which is made anew once the lattice is known.
    follows_barrier
        Whether the barrier of the hop is followed.
    heldout_hop
        Hop that examines the model at the end, given by the user's files or of a shipped builder.
    starts
        Further structures to explore from.
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
    structure: str | Frame
    supercell: tuple[int, int, int]
    mobile: str
    search: HopSearch | None
    hop: Hop | None
    follows_barrier: bool
    heldout_hop: Hop | None
    starts: tuple[Frame, ...]
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
    return build_plan(read_campaign_file(path), path.resolve().parent, trust=trust)


def build_plan(file: CampaignFile, folder: Path, *, trust: bool = False) -> Plan:
    """Look up everything a campaign file names; paths are relative to ``folder``.

    Raises
    ------
    BadInput
        If a structure cannot be read, lacks the mobile species, or a name is not known.
    """
    system = file.system
    structure: str | Frame = system.structure
    supercell = system.supercell or BUILDER_SUPERCELL
    search = system.hop if isinstance(system.hop, HopSearch) else None
    hop: Hop | None = None
    heldout: Hop | None = None
    if is_builder(system.structure, folder):
        with bad_input("system.structure"):
            seed = build_seed(system.structure, None, supercell)
        if search is not None and seed.defect is not None:
            perfect = seed.host_formula.lower()
            raise BadInput(f"system.hop: {system.structure} brings its own hop; give {perfect}, or leave the hop out")
        hop, heldout, whole = seed.hop, seed.heldout, seed.frame
        unit = rocksalt(seed.host_formula, seed.lattice_constant_A)
        symbols = set(atoms_from_frame(seed.frame).get_chemical_symbols())
        mobile = system.mobile or seed.mobile
    else:
        with bad_input("system.structure"):
            structure = _read_one(folder, system.structure, system.charge, system.multiplicity)
        symbols = set(atoms_from_frame(structure).get_chemical_symbols())
        unit = structure
        if search is not None:
            supercell = system.supercell or default_supercell(unit.cell)
        else:
            supercell = system.supercell or FILE_SUPERCELL
        whole = frame_from_atoms(atoms_from_frame(structure).repeat(supercell))
        if system.mobile is None:
            raise BadInput(
                f"system.mobile: is missing; name the diffusing element, one of {', '.join(sorted(symbols))}"
            )
        mobile = system.mobile
    if mobile not in chemical_symbols or not atomic_numbers[mobile]:
        raise BadInput(f"system.mobile: {mobile!r} is not the symbol of an element")
    if mobile not in symbols:
        raise BadInput(
            f"system.mobile: {system.structure} holds no {mobile}; its elements are {', '.join(sorted(symbols))}"
        )
    if isinstance(system.hop, HopFiles):
        with bad_input("system.hop"):
            hop = _read_hop(system.hop, file, folder)
    elif search is not None:
        with bad_input("system.hop"):
            found = [each.hop for each in search_hops(unit, mobile, search, supercell)]
        hop, heldout, whole = found[0], next(iter(found[1:]), None), found[0].initial
    if search is not None and system.heldout_hop is not None:
        raise BadInput("system.heldout_hop: the next of the hops that system.hop finds is held out; leave this one out")
    if file.system.heldout_hop is not None:
        with bad_input("system.heldout_hop"):
            heldout = _read_hop(file.system.heldout_hop, file, folder)
    for key, each in (("system.hop", hop), ("system.heldout_hop", heldout)):
        if each is not None:
            _check_hop(key, each, whole, mobile)
    with bad_input("explore.structures"):
        starts = tuple(_read_one(folder, path, system.charge, system.multiplicity) for path in file.explore.structures)
    for start, path in zip(starts, file.explore.structures, strict=True):
        if atomic_numbers[mobile] not in start.numbers:
            raise BadInput(f"explore.structures: {path} holds no {mobile}")
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
    barrier = _follows_barrier(file, hop)
    _check_budget(file, barrier, heldout)
    _check_charge(file)
    if file.label.kind == "semiempirical" and file.label.code != "ase":
        _check_gamma_point(file, isinstance(structure, Frame) and supercell == (1, 1, 1))
    everything = {symbol for frame in (whole, *starts) for symbol in atoms_from_frame(frame).get_chemical_symbols()}
    with bad_input(key_of(file.label)):
        labeller = labeller_of(
            file.label,
            everything,
            folder,
            charge=system.charge,
            multiplicity=system.multiplicity,
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
        structure=structure,
        supercell=supercell,
        mobile=mobile,
        search=search,
        hop=hop,
        follows_barrier=barrier,
        heldout_hop=heldout,
        starts=starts,
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
    return system.carriers or (1 if hop else int(np.sum(frame.numbers == atomic_numbers[plan.mobile])))


def n_exam_labels(plan: Plan) -> int:
    """Labels that the exam at the end costs at most: minimum and saddle of the held-out hop, and fresh frames."""
    return _n_exam_labels(plan.file, plan.heldout_hop)


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


def _follows_barrier(file: CampaignFile, hop: Hop | None) -> bool:
    if hop is None and file.measure.barrier:
        raise BadInput("measure.barrier: no hop is known for this structure; give system.hop, or leave barrier out")
    return hop is not None and file.measure.barrier is not False


def _check_hop(key: str, hop: Hop, whole: Frame, mobile: str) -> None:
    """Refuse a hop that cannot be one of the structure."""
    if sorted(whole.numbers) != sorted(hop.initial.numbers):
        raise BadInput(
            f"{key}: its {len(hop.initial)} atoms are not those of the structure with its supercell, "
            f"which has {len(whole)}; give end points of the same cell"
        )
    if np.abs(hop.initial.cell - whole.cell).max() > MAX_STRAIN * np.abs(whole.cell).max():
        raise BadInput(f"{key}: its cell differs from that of the structure by more than 5 %; give the same cell")
    moves = find_mic(hop.final.positions - hop.initial.positions, hop.initial.cell, hop.initial.pbc)[1]
    if moves[hop.initial.numbers == atomic_numbers[mobile]].max(initial=0.0) < MIN_HOP_A:
        raise BadInput(f"system.mobile: the hop does not move {mobile}; name the element that it moves")


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


def search_hops(unit: Frame, mobile: str, search: HopSearch, supercell: tuple[int, int, int]) -> tuple[NamedHop, ...]:
    """Hops that a campaign file asks to look for in a crystal, by its unit cell."""
    return enumerate_hops(unit, mobile, search.mechanism, supercell, search.max_length_A)[: search.at_most]


def is_builder(structure: str, folder: Path) -> bool:
    """Whether a structure is named after a shipped builder rather than a file."""
    return not (Path(structure).suffix or "/" in structure or (folder / structure).exists())


def _read_one(folder: Path, path: str, charge: int, multiplicity: int) -> Frame:
    frame = read_frames(Path(resolve(path, folder)))[-1]
    if not frame.pbc.any() or abs(np.linalg.det(frame.cell)) < 1.0:
        raise ValueError(f"{path}: has no periodic cell; curator needs a crystal or a liquid in a box")
    return Frame(frame.numbers, frame.positions, frame.cell, frame.pbc, charge, multiplicity)


def _read_hop(files: HopFiles, file: CampaignFile, folder: Path) -> Hop:
    charge, multiplicity = file.system.charge, file.system.multiplicity
    initial = _read_one(folder, files.initial, charge, multiplicity)
    final = _read_one(folder, files.final, charge, multiplicity)
    saddle = None if files.saddle is None else _read_one(folder, files.saddle, charge, multiplicity)
    for name, frame in (("final", final), ("saddle", saddle)):
        if frame is not None and not np.array_equal(frame.numbers, initial.numbers):
            raise ValueError(f"{name} must hold the atoms of {files.initial} in the same order")
    return Hop(initial, final, saddle)
