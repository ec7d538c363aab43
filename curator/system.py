"""What a campaign is of: its structures, the element that moves, and the hops that are followed."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from ase.geometry import find_mic

from curator.barriers.hops import NamedHop, default_supercell, enumerate_hops
from curator.config import CampaignFile, HopFiles, HopSearch
from curator.datasets.extxyz import read_frames
from curator.datasets.frame import Frame, atoms_from_frame, frame_from_atoms
from curator.datasets.sources import Hop, build_seed, rocksalt
from curator.errors import BadInput, bad_input
from curator.labelling import resolve

MAX_STRAIN = 0.05
"""Largest difference between the cells of a structure and of its hop, relative to the longest lattice vector."""
MIN_HOP_A = 0.3
"""A hop moves the mobile species by more than this."""
BUILDER_SUPERCELL = (2, 2, 2)
FILE_SUPERCELL = (1, 1, 1)


@dataclass(frozen=True, slots=True)
class System:
    """The section ``system`` of a campaign file and the structures to explore from, read and checked.

    Attributes
    ----------
    structure
        Name of a shipped builder, or the structure read from a file.
    supercell
        Repeats of the conventional cell or of the file's cell.
    mobile
        Symbol of the diffusing element.
    search
        Which hops of the crystal to look for, or None if the hop is known.
    hop, heldout_hop
        The hop that is followed and the one that examines the model, of a shipped builder, of files, or the first two
        that ``search`` finds.
    starts
        Further structures to explore from.
    symbols
        Elements of all of them.
    """

    structure: str | Frame
    supercell: tuple[int, int, int]
    mobile: str
    search: HopSearch | None
    hop: Hop | None
    heldout_hop: Hop | None
    starts: tuple[Frame, ...]
    symbols: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Crystal:
    """The structure, by its unit cell and as a whole, and what a shipped builder says of it beside."""

    structure: str | Frame
    unit: Frame
    whole: Frame
    supercell: tuple[int, int, int]
    mobile: str | None = None
    hop: Hop | None = None
    heldout: Hop | None = None


def read_system(file: CampaignFile, folder: Path) -> System:
    """Read the structures that a campaign file names; paths are relative to ``folder``.

    Raises
    ------
    BadInput
        If one cannot be read, lacks the mobile species, or does not go with the others.
    """
    search = file.system.hop if isinstance(file.system.hop, HopSearch) else None
    crystal = _of_builder(file, search) if is_builder(file.system.structure, folder) else _of_file(file, folder, search)
    mobile = _mobile(file, crystal)
    hop, heldout, whole = _hops(file, folder, crystal, mobile, search)
    for key, each in (("system.hop", hop), ("system.heldout_hop", heldout)):
        if each is not None:
            _check_hop(key, each, whole, mobile)
    with bad_input("explore.structures"):
        starts = tuple(_read_one(folder, path, file) for path in file.explore.structures)
    for start, path in zip(starts, file.explore.structures, strict=True):
        if atomic_numbers[mobile] not in start.numbers:
            raise BadInput(f"explore.structures: {path} holds no {mobile}")
    return System(
        structure=crystal.structure,
        supercell=crystal.supercell,
        mobile=mobile,
        search=search,
        hop=hop,
        heldout_hop=heldout,
        starts=starts,
        symbols=frozenset().union(*(_symbols(frame) for frame in (whole, *starts))),
    )


def _of_builder(file: CampaignFile, search: HopSearch | None) -> _Crystal:
    name, supercell = file.system.structure, file.system.supercell or BUILDER_SUPERCELL
    with bad_input("system.structure"):
        seed = build_seed(name, None, supercell)
    if search is not None and seed.defect is not None:
        perfect = seed.host_formula.lower()
        raise BadInput(f"system.hop: {name} brings its own hop; give {perfect}, or leave the hop out")
    unit = rocksalt(seed.host_formula, seed.lattice_constant_A)
    return _Crystal(name, unit, seed.frame, supercell, seed.mobile, seed.hop, seed.heldout)


def _of_file(file: CampaignFile, folder: Path, search: HopSearch | None) -> _Crystal:
    with bad_input("system.structure"):
        unit = _read_one(folder, file.system.structure, file)
    by_default = FILE_SUPERCELL if search is None else default_supercell(unit.cell)
    supercell = file.system.supercell or by_default
    return _Crystal(unit, unit, frame_from_atoms(atoms_from_frame(unit).repeat(supercell)), supercell)


def _mobile(file: CampaignFile, crystal: _Crystal) -> str:
    symbols = sorted(_symbols(crystal.whole))
    mobile = file.system.mobile or crystal.mobile
    if mobile is None:
        raise BadInput(f"system.mobile: is missing; name the diffusing element, one of {', '.join(symbols)}")
    if not atomic_numbers.get(mobile):
        raise BadInput(f"system.mobile: {mobile!r} is not the symbol of an element")
    if mobile not in symbols:
        raise BadInput(
            f"system.mobile: {file.system.structure} holds no {mobile}; its elements are {', '.join(symbols)}"
        )
    return mobile


def _hops(
    file: CampaignFile, folder: Path, crystal: _Crystal, mobile: str, search: HopSearch | None
) -> tuple[Hop | None, Hop | None, Frame]:
    """The hop that is followed, the one that is held out, and the structure that they are of."""
    system = file.system
    hop, heldout, whole = crystal.hop, crystal.heldout, crystal.whole
    if isinstance(system.hop, HopFiles):
        with bad_input("system.hop"):
            hop = _read_hop(system.hop, file, folder)
    elif search is not None:
        with bad_input("system.hop"):
            found = [each.hop for each in search_hops(crystal.unit, mobile, search, crystal.supercell)]
        hop, heldout, whole = found[0], next(iter(found[1:]), None), found[0].initial
        if system.heldout_hop is not None:
            raise BadInput(
                "system.heldout_hop: the next of the hops that system.hop finds is held out; leave this one out"
            )
    if system.heldout_hop is not None:
        with bad_input("system.heldout_hop"):
            heldout = _read_hop(system.heldout_hop, file, folder)
    return hop, heldout, whole


def _symbols(frame: Frame) -> set[str]:
    return {chemical_symbols[number] for number in frame.numbers}


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


def search_hops(unit: Frame, mobile: str, search: HopSearch, supercell: tuple[int, int, int]) -> tuple[NamedHop, ...]:
    """Hops that a campaign file asks to look for in a crystal, by its unit cell."""
    return enumerate_hops(unit, mobile, search.mechanism, supercell, search.max_length_A)[: search.at_most]


def is_builder(structure: str, folder: Path) -> bool:
    """Whether a structure is named after a shipped builder rather than a file."""
    return not (Path(structure).suffix or "/" in structure or (folder / structure).exists())


def _read_one(folder: Path, path: str, file: CampaignFile) -> Frame:
    frame = read_frames(Path(resolve(path, folder)))[-1]
    if not frame.pbc.any() or abs(np.linalg.det(frame.cell)) < 1.0:
        raise ValueError(f"{path}: has no periodic cell; write the lattice into the file")
    return replace(frame, charge=file.system.charge, multiplicity=file.system.multiplicity)


def _read_hop(files: HopFiles, file: CampaignFile, folder: Path) -> Hop:
    initial = _read_one(folder, files.initial, file)
    final = _read_one(folder, files.final, file)
    saddle = None if files.saddle is None else _read_one(folder, files.saddle, file)
    for name, frame in (("final", final), ("saddle", saddle)):
        if frame is not None and not np.array_equal(frame.numbers, initial.numbers):
            raise ValueError(f"{name} must hold the atoms of {files.initial} in the same order")
    return Hop(initial, final, saddle)
