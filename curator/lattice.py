"""The structure of a campaign and its hops, once the lattice is known."""

import numpy as np

from curator.barriers.hops import NamedHop
from curator.build import Plan
from curator.datasets.frame import Frame, atoms_from_frame, frame_from_atoms
from curator.datasets.sources import Hop, build_seed, rocksalt
from curator.system import search_hops


def seed_structure(
    plan: Plan, lattice_constant_A: float | None, relaxed: Frame | None
) -> tuple[Frame, Hop | None, Hop | None]:
    """Structure the campaign explores, its hop and its held-out hop, once the lattice is known.

    Of hops that are searched for it is the shortest that is returned; see `curator.followed`.

    Parameters
    ----------
    lattice_constant_A
        Lattice constant of a shipped builder's conventional cell.
    relaxed
        The user's structure with its final cell, before it is repeated.
    """
    system, asked = plan.system, plan.file.system
    hop, heldout = system.hop, system.heldout_hop
    if system.search is not None:
        assert hop is not None
        return with_charge(plan, hop.initial), hop, heldout
    if isinstance(system.structure, str):
        seed = build_seed(
            system.structure,
            lattice_constant_A,
            system.supercell,
            charge=asked.charge,
            multiplicity=asked.multiplicity,
        )
        frame = seed.frame
        hop = hop if asked.hop is not None else seed.hop
        heldout = heldout if asked.heldout_hop is not None else seed.heldout
    else:
        assert relaxed is not None
        frame = with_charge(plan, frame_from_atoms(atoms_from_frame(relaxed).repeat(system.supercell)))
    return frame, _hop_in(hop, frame), _hop_in(heldout, frame)


def hops_of(plan: Plan, unit: Frame) -> tuple[NamedHop, ...]:
    """Hops that a plan asks to look for in a crystal, by its unit cell."""
    system = plan.system
    assert system.search is not None
    return search_hops(with_charge(plan, unit), system.mobile, system.search, system.supercell)


def _hop_in(hop: Hop | None, frame: Frame) -> Hop | None:
    """The hop in the cell of a frame."""
    if hop is None:
        return None
    saddle = None if hop.saddle is None else _strained_to(hop.saddle, frame)
    return Hop(_strained_to(hop.initial, frame), _strained_to(hop.final, frame), saddle)


def _strained_to(frame: Frame, like: Frame) -> Frame:
    """The frame in the cell of another, at the same fractional coordinates."""
    if np.array_equal(frame.cell, like.cell):
        return frame
    fractional = np.linalg.solve(frame.cell.T, frame.positions.T).T
    return Frame(frame.numbers, fractional @ like.cell, like.cell, frame.pbc, frame.charge, frame.multiplicity)


def with_charge(plan: Plan, frame: Frame) -> Frame:
    """The frame with the campaign's charge and multiplicity."""
    system = plan.file.system
    return Frame(frame.numbers, frame.positions, frame.cell, frame.pbc, system.charge, system.multiplicity)


def unit_cell(plan: Plan) -> Frame:
    """Conventional cell of a shipped builder with textbook lattice constant, or the user's structure."""
    structure = plan.system.structure
    if isinstance(structure, Frame):
        return structure
    seed = build_seed(structure)
    return rocksalt(seed.host_formula, seed.lattice_constant_A)
