"""The elementary hops of a mobile species in a perfect crystal, each once, whatever its symmetry.

A hop is a chain of sites: a vacancy and the neighbour that jumps into it; two voids, for an interstitial that jumps
from one to the other; or a void, a lattice site and another void, for an interstitial that takes the place of a
lattice atom and pushes it on (interstitialcy, or knock-off). Two hops are one if an operation of the space group takes
one chain to the other or to its reverse, since a saddle point is the same from both sides.

If an operation reverses a hop, so that it exchanges the end points and takes the path to itself, the middle of the
path is fixed by symmetry and is a guess of the saddle point.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.geometry import find_mic
from numpy.typing import NDArray
from pymatgen.core import Lattice, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from curator.backends.geometry import geometry_problem
from curator.barriers.voids import find_voids
from curator.datasets.frame import Frame, atoms_from_frame, frame_from_atoms
from curator.datasets.sources import Hop, Mechanism
from curator.positions import widths_A

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Point = tuple[int, int, int, int]
"""A site: its index in the cell, and the cell it is in."""
Path = tuple[Point, ...]

SYMPREC_A = 0.01
"""Atoms closer than this to where an operation puts them are where they should be; as for a relaxation."""
SAME_SITE_A = 0.25
"""The same for voids, which move more than the atoms around them; half the least distance between two."""
NEAREST = 1.1
"""Sites up to this times the distance of the nearest one are its neighbours."""
MIN_WIDTH_A = 8.0
"""A supercell is at least this wide by default, so that a defect is as far from its images."""


@dataclass(frozen=True, slots=True, eq=False)
class NamedHop:
    """One of the symmetry-distinct hops of a crystal.

    Attributes
    ----------
    name
        Mechanism and number, such as ``vacancy-1``; shorter hops come first.
    kind
        ``vacancy``, ``interstitial`` or ``interstitialcy``.
    sites
        The chain of sites, one name for all that symmetry makes equivalent: ``Li1`` is a lattice site, ``void1`` a
        void.
    length_A
        How far the defect moves in Å, as the sum of the displacements of all atoms does.
    deflection_deg
        Angle between the two steps of an interstitialcy in degrees, 0 if it is collinear; None for the others.
    multiplicity, reverse_multiplicity
        Number of equivalent hops out of one initial site, and of their reverses out of one final site.
    hop
        End points in the supercell, unrelaxed, an atom at the same index in both; and a guess of the saddle point if
        symmetry fixes it.
    """

    name: str
    kind: Mechanism
    sites: tuple[str, ...]
    length_A: float
    deflection_deg: float | None
    multiplicity: int
    reverse_multiplicity: int
    hop: Hop


def enumerate_hops(
    crystal: Frame,
    mobile: str,
    mechanism: Mechanism,
    supercell: tuple[int, int, int] | None = None,
    max_length_A: float | None = None,
) -> tuple[NamedHop, ...]:
    """Find the symmetry-distinct hops of a species.

    Parameters
    ----------
    crystal
        The perfect crystal, of any cell: its hops are those of its primitive cell.
    mobile
        Symbol of the element that moves. An interstitial may be of an element that the crystal does not hold.
    mechanism
        What kind of hop.
    supercell
        Repeats of the cell in which the hops are built; by default those that make it at least 8 Å wide.
    max_length_A
        Longest way of one atom in Å; by default an atom goes to the nearest of the sites it can go to, or to one that
        is at most a tenth farther.

    Returns
    -------
    tuple of NamedHop
        Shorter hops first.

    Raises
    ------
    ValueError
        If the crystal is not periodic, lacks the species or has no void for it, no hop is short enough, or the
        supercell is too small for one.
    """
    if not crystal.pbc.all():
        raise ValueError("hops are those of a crystal; its cell must be periodic in three directions")
    primitive = _primitive(crystal)
    sites = _sites(primitive, mobile, mechanism)
    actions = _actions(primitive, sites)
    names = _names(sites, actions, mobile)
    n = default_supercell(crystal.cell) if supercell is None else supercell
    whole = atoms_from_frame(crystal).repeat(n)
    paths = {path: _positions(path, sites) for path in _paths(sites, mechanism, max_length_A)}

    hops: list[NamedHop] = []
    seen: set[Path] = set()
    for path in sorted(paths, key=lambda path: (*_lengths(paths[path]), path)):
        if path in seen:
            continue
        forward = {_moved(path, action) for action in actions}
        backward = {_moved(path[::-1], action) for action in actions}
        seen |= forward | backward
        points = paths[path]
        hops.append(
            NamedHop(
                name=f"{mechanism}-{len(hops) + 1}",
                kind=mechanism,
                sites=tuple(names[point[0]] for point in path),
                length_A=float(np.linalg.norm(points[-1] - points[0])),
                deflection_deg=_deflection_deg(points) if len(points) > 2 else None,
                multiplicity=sum(other[0][0] == path[0][0] for other in forward),
                reverse_multiplicity=sum(other[0][0] == path[-1][0] for other in backward),
                hop=_hop(whole, sites, path, mechanism, symmetric=_is_reversed(path, actions, sites, whole)),
            )
        )
    if not hops:
        limit = "" if max_length_A is None else f" within {max_length_A:g} Å; allow a longer way"
        raise ValueError(f"no {mobile} of the crystal can hop by {mechanism}{limit}")
    return tuple(hops)


def default_supercell(cell: Floats) -> tuple[int, int, int]:
    """Repeats of a cell, vectors as rows in Å, that make it at least 8 Å wide."""
    a, b, c = (int(n) for n in np.ceil(MIN_WIDTH_A / widths_A(cell) - 1e-6))
    return a, b, c


@dataclass(frozen=True, slots=True, eq=False)
class _Sites:
    """Where the species can be in the primitive cell: first its ``n_own`` lattice sites, then voids."""

    lattice: Lattice
    number: int
    n_own: int
    fractional: Floats


def _structure(crystal: Frame) -> Structure:
    return Structure(crystal.cell, crystal.numbers.tolist(), crystal.positions, coords_are_cartesian=True)


def _primitive(crystal: Frame) -> Frame:
    """Primitive cell of a crystal, which stays where it is."""
    found = _structure(crystal).get_primitive_structure(tolerance=SYMPREC_A)
    return Frame(np.array(found.atomic_numbers), found.cart_coords, found.lattice.matrix, crystal.pbc)


def _sites(crystal: Frame, mobile: str, mechanism: Mechanism) -> _Sites:
    number, lattice = atomic_numbers[mobile], Lattice(crystal.cell)
    own = np.flatnonzero(crystal.numbers == number)
    if not len(own) and mechanism != "interstitial":
        raise ValueError(f"the crystal holds no {mobile}, which can then only hop as an interstitial")
    voids = np.empty((0, 3)) if mechanism == "vacancy" else find_voids(crystal, number)
    if not len(voids) and mechanism != "vacancy":
        raise ValueError(f"the crystal has no void with room for {mobile}, which can then only hop into a vacancy")
    fractional = np.concatenate([lattice.get_fractional_coords(crystal.positions[own]), voids])
    return _Sites(lattice, number, len(own), fractional)


@dataclass(frozen=True, slots=True, eq=False)
class _Action:
    """What an operation of the space group does to sites: which one it takes each to, and in which cell."""

    rotation: Integers
    site: Integers
    cell: Integers


def _actions(crystal: Frame, sites: _Sites) -> list[_Action]:
    rows = np.arange(len(sites.fractional))
    actions = []
    for operation in SpacegroupAnalyzer(_structure(crystal), symprec=SYMPREC_A).get_symmetry_operations():
        difference = operation.operate_multi(sites.fractional)[:, None] - sites.fractional
        cells = np.rint(difference)
        apart = np.linalg.norm((difference - cells) @ crystal.cell, axis=-1)
        site = apart.argmin(axis=1)
        # Voids that an operation takes nowhere are noise of the search for them; it is left out.
        if (apart[rows, site] < SAME_SITE_A).all():
            rotation = np.rint(operation.rotation_matrix).astype(np.int64)
            actions.append(_Action(rotation, site, cells[rows, site].astype(np.int64)))
    return actions


def _names(sites: _Sites, actions: Sequence[_Action], mobile: str) -> list[str]:
    """Names of sites, the same for all of an orbit."""
    first = np.min([action.site for action in actions], axis=0)
    names = []
    for kind, part in ((mobile, first[: sites.n_own]), ("void", first[sites.n_own :])):
        names += [f"{kind}{k + 1}" for k in np.unique(part, return_inverse=True)[1]]
    return names


def _paths(sites: _Sites, mechanism: Mechanism, max_length_A: float | None) -> Iterator[Path]:
    """Paths that begin in the home cell; many of them are equivalent."""
    own, voids = range(sites.n_own), range(sites.n_own, len(sites.fractional))
    if mechanism != "interstitialcy":
        which = own if mechanism == "vacancy" else voids
        yield from _steps(sites, which, which, max_length_A)
        return
    around: dict[int, list[Point]] = {}
    for (void, *_), (atom, i, j, k) in _steps(sites, voids, own, max_length_A):
        around.setdefault(atom, []).append((void, -i, -j, -k))
    for atom, neighbours in around.items():
        for start, end in permutations(neighbours, 2):
            yield _from_home([start, (atom, 0, 0, 0), end])


def _steps(
    sites: _Sites, starts: Sequence[int], ends: Sequence[int], max_length_A: float | None
) -> Iterator[tuple[Point, Point]]:
    """Steps from sites of the home cell to their neighbours."""
    reach_A = max(sites.lattice.abc) if max_length_A is None else max_length_A
    targets = sites.fractional[list(ends)]
    for start in starts:
        centre = sites.lattice.get_cartesian_coords(sites.fractional[start])
        places, distances, idx, _ = sites.lattice.get_points_in_sphere(
            targets, centre, reach_A + SYMPREC_A, zip_results=False
        )
        elsewhere = distances > SAME_SITE_A
        if elsewhere.any():
            limit_A = NEAREST * distances[elsewhere].min() if max_length_A is None else max_length_A
            for k in np.flatnonzero(elsewhere & (distances <= limit_A + SYMPREC_A)):
                a, b, c = (int(x) for x in np.rint(places[k] - targets[idx[k]]))
                yield (start, 0, 0, 0), (ends[int(idx[k])], a, b, c)


def _moved(path: Path, action: _Action) -> Path:
    return _from_home(
        [(action.site[site], *(action.rotation @ np.array(cell) + action.cell[site])) for site, *cell in path]
    )


def _from_home(points: Sequence[Sequence[int]]) -> Path:
    """The path, with its first site in the home cell."""
    _, i, j, k = points[0]
    return tuple((int(site), int(a - i), int(b - j), int(c - k)) for site, a, b, c in points)


def _positions(path: Path, sites: _Sites) -> Floats:
    """Cartesian positions of the sites of a path in Å, shape ``(n_sites, 3)``."""
    fractional = np.array([sites.fractional[site] + cell for site, *cell in path])
    return np.asarray(sites.lattice.get_cartesian_coords(fractional))


def _lengths(points: Floats) -> tuple[float, float]:
    """To order paths by: those of shorter steps first, then the straighter ones."""
    longest_A = float(np.linalg.norm(np.diff(points, axis=0), axis=1).max())
    return round(longest_A, 2), -round(float(np.linalg.norm(points[-1] - points[0])), 2)


def _deflection_deg(points: Floats) -> float:
    first, second = np.diff(points, axis=0)
    cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))


def _is_reversed(path: Path, actions: Sequence[_Action], sites: _Sites, whole: Atoms) -> bool:
    """Whether an operation that the supercell has as well takes the path to its reverse."""
    reverse = _from_home(path[::-1])
    basis = whole.cell.array @ np.linalg.inv(sites.lattice.matrix)

    def keeps_supercell(action: _Action) -> bool:
        moved = basis @ action.rotation.T @ np.linalg.inv(basis)
        return bool(np.allclose(moved, np.rint(moved), atol=1e-3))

    return any(_moved(path, action) == reverse for action in actions if keeps_supercell(action))


def _hop(whole: Atoms, sites: _Sites, path: Path, mechanism: Mechanism, *, symmetric: bool) -> Hop:
    """End points and guess of the saddle point in the middle of the supercell."""
    points, cell = _positions(path, sites), sites.lattice.matrix
    to_middle = np.linalg.solve(cell.T, whole.cell.array.sum(axis=0) / 2 - points[0])
    points += np.rint(to_middle) @ cell
    steps = np.diff(points, axis=0)
    longest_A, width_A = np.linalg.norm(steps, axis=1).max(), widths_A(whole.cell.array).min()
    if longest_A >= width_A / 2:
        raise ValueError(
            f"the supercell is {width_A:.2f} Å wide, too small for a hop of {longest_A:.2f} Å; take more cells"
        )

    def atom(place: Floats) -> int:
        return int(np.argmin(find_mic(whole.positions - place, whole.cell)[1]))

    numbers, start = whole.numbers, whole.positions
    keep = np.ones(len(start) + (mechanism != "vacancy"), dtype=bool)
    if mechanism == "vacancy":
        movers, steps = [atom(points[1])], -steps
        keep[atom(points[0])] = False
    else:
        numbers, start = np.append(numbers, sites.number), np.vstack([start, points[0]])
        movers = [len(start) - 1, *(atom(place) for place in points[1:-1])]
    end = start.copy()
    end[movers] += steps

    def frame(positions: Floats) -> Frame:
        return frame_from_atoms(Atoms(numbers[keep], positions[keep], cell=whole.cell, pbc=True, info=whole.info))

    middle = frame((start + end) / 2)
    # Where the path is bent, two atoms may meet in its middle; a band leads them past each other.
    usable = symmetric and geometry_problem(atoms_from_frame(middle), width_A) is None
    return Hop(frame(start), frame(end), middle if usable else None)
