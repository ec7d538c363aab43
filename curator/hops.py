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
from typing import Literal

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray
from pymatgen.core import Lattice, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from curator.backends.labellers import geometry_problem
from curator.datasets.frame import Frame, atoms_from_frame
from curator.datasets.sources import Hop
from curator.voids import find_voids

Mechanism = Literal["vacancy", "interstitial", "interstitialcy"]
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
        The perfect crystal, of any cell.
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
    number = atomic_numbers[mobile]
    lattice = Lattice(crystal.cell)
    own = np.flatnonzero(crystal.numbers == number)
    if not len(own) and mechanism != "interstitial":
        raise ValueError(f"the crystal holds no {mobile}, so that no {mobile} can hop by {mechanism}")
    voids = find_voids(crystal, number) if mechanism != "vacancy" else np.empty((0, 3))
    if not len(voids) and mechanism != "vacancy":
        raise ValueError(f"the crystal has no void with room for {mobile}; its hops are those of a vacancy")
    sites = np.concatenate([lattice.get_fractional_coords(crystal.positions[own]), voids])
    actions = _actions(crystal, sites)
    names = _names(actions, len(own), len(sites), mobile)
    repeats = _default_supercell(lattice) if supercell is None else supercell

    hops: list[NamedHop] = []
    seen: set[Path] = set()
    for path in sorted(_paths(lattice, sites, len(own), mechanism, max_length_A), key=lambda p: _order(p, sites, lattice)):
        if path in seen:
            continue
        forward = {_moved(path, action) for action in actions}
        backward = {_moved(path[::-1], action) for action in actions}
        seen |= forward | backward
        points = _positions(path, sites, lattice)
        hops.append(
            NamedHop(
                name=f"{mechanism}-{len(hops) + 1}",
                kind=mechanism,
                sites=tuple(names[point[0]] for point in path),
                length_A=float(np.linalg.norm(points[-1] - points[0])),
                deflection_deg=_deflection_deg(points) if len(points) > 2 else None,
                multiplicity=sum(other[0][0] == path[0][0] for other in forward),
                reverse_multiplicity=sum(other[0][0] == path[-1][0] for other in backward),
                hop=_hop(crystal, number, mechanism, path, sites, own, repeats, _reversing(path, actions, repeats)),
            )
        )
    if not hops:
        raise ValueError(f"no hop of {mobile} is shorter than {max_length_A:g} Å; allow a longer one")
    return tuple(hops)


@dataclass(frozen=True, slots=True, eq=False)
class _Action:
    """What an operation of the space group does to sites: which one it takes each to, and in which cell."""

    rotation: Integers
    site: Integers
    cell: Integers


def _actions(crystal: Frame, sites: Floats) -> list[_Action]:
    lattice = Lattice(crystal.cell)
    structure = Structure(lattice, crystal.numbers.tolist(), crystal.positions, coords_are_cartesian=True)
    actions = []
    for operation in SpacegroupAnalyzer(structure, symprec=SYMPREC_A).get_symmetry_operations():
        moved = operation.operate_multi(sites)
        difference = moved[:, None] - sites
        cells = np.rint(difference)
        apart = np.linalg.norm((difference - cells) @ crystal.cell, axis=-1)
        site = apart.argmin(axis=1)
        rows = np.arange(len(sites))
        # A void that is nowhere to be found under an operation is no more than noise of the search for it.
        if (apart[rows, site] < SAME_SITE_A).all():
            rotation = np.rint(operation.rotation_matrix).astype(np.int64)
            actions.append(_Action(rotation, site, cells[rows, site].astype(np.int64)))
    return actions


def _names(actions: Sequence[_Action], n_own: int, n_sites: int, mobile: str) -> list[str]:
    """Names of sites, the same for all of an orbit."""
    first = np.min([action.site for action in actions], axis=0)
    names = []
    for kind, part in ((mobile, first[:n_own]), ("void", first[n_own:n_sites])):
        names += [f"{kind}{k + 1}" for k in np.unique(part, return_inverse=True)[1]]
    return names


def _paths(
    lattice: Lattice, sites: Floats, n_own: int, mechanism: Mechanism, max_length_A: float | None
) -> Iterator[Path]:
    own, voids = range(n_own), range(n_own, len(sites))
    if mechanism != "interstitialcy":
        which = own if mechanism == "vacancy" else voids
        yield from _steps(lattice, sites, which, which, max_length_A)
        return
    onto: dict[int, list[Integers]] = {}
    for (void, *_), (atom, *cell) in _steps(lattice, sites, voids, own, max_length_A):
        onto.setdefault(atom, []).append(np.array([void, *(-np.array(cell))]))
    for atom, around in onto.items():
        for start in around:
            for end in around:
                if (start != end).any():
                    yield _from_home([tuple(start), (atom, 0, 0, 0), tuple(end)])


def _steps(
    lattice: Lattice, sites: Floats, starts: range, ends: range, max_length_A: float | None
) -> Iterator[tuple[Point, Point]]:
    """Steps from the sites of the home cell to their neighbours."""
    reach_A = max(lattice.abc) if max_length_A is None else max_length_A
    for start in starts:
        centre = lattice.get_cartesian_coords(sites[start])
        places, distances, idx, _ = lattice.get_points_in_sphere(
            sites[list(ends)], centre, reach_A + SYMPREC_A, zip_results=False
        )
        far = distances > SAME_SITE_A
        if not far.any():
            continue
        limit_A = NEAREST * distances[far].min() if max_length_A is None else max_length_A
        for k in np.flatnonzero(far & (distances <= limit_A + SYMPREC_A)):
            end = ends[int(idx[k])]
            yield (start, 0, 0, 0), (end, *np.rint(places[k] - sites[end]).astype(int).tolist())


def _moved(path: Path, action: _Action) -> Path:
    return _from_home(
        [(action.site[site], *(action.rotation @ np.array(cell) + action.cell[site])) for site, *cell in path]
    )


def _from_home(points: Sequence[Sequence[int]]) -> Path:
    """The path, with its first site in the home cell."""
    _, *home = points[0]
    return tuple((int(site), *(int(a - b) for a, b in zip(cell, home, strict=True))) for site, *cell in points)  # type: ignore[misc]


def _positions(path: Path, sites: Floats, lattice: Lattice) -> Floats:
    return np.asarray(lattice.get_cartesian_coords(np.array([sites[site] + cell for site, *cell in path])))


def _order(path: Path, sites: Floats, lattice: Lattice) -> tuple[float, float, Path]:
    """Shorter steps first, straighter paths first among them."""
    points = _positions(path, sites, lattice)
    longest = np.linalg.norm(np.diff(points, axis=0), axis=1).max()
    return round(float(longest), 2), -round(float(np.linalg.norm(points[-1] - points[0])), 2), path


def _deflection_deg(points: Floats) -> float:
    first, second = np.diff(points, axis=0)
    cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))


def _reversing(path: Path, actions: Sequence[_Action], supercell: tuple[int, int, int]) -> bool:
    """Whether an operation that the supercell has as well takes the path to its reverse."""
    reverse = _from_home(path[::-1])
    n = np.array(supercell)
    return any(
        _moved(path, action) == reverse for action in actions if not (action.rotation * n % n[:, None]).any()
    )


def _default_supercell(lattice: Lattice) -> tuple[int, int, int]:
    a, b, c = (int(n) for n in np.ceil(MIN_WIDTH_A / _widths(lattice.matrix) - 1e-6))
    return a, b, c


def _widths(cell: Floats) -> Floats:
    """Distances between opposite faces in Å."""
    return np.asarray(1 / np.linalg.norm(np.linalg.inv(cell), axis=0))


def _hop(
    crystal: Frame,
    number: int,
    mechanism: Mechanism,
    path: Path,
    sites: Floats,
    own: NDArray[np.intp],
    supercell: tuple[int, int, int],
    symmetric: bool,
) -> Hop:
    """End points and guess of the saddle point in the middle of the supercell."""
    n = np.array(supercell)
    perfect = atoms_from_frame(crystal).repeat(supercell)
    points = _positions(path, sites, Lattice(crystal.cell)) + (n // 2) @ crystal.cell
    steps = np.diff(points, axis=0)
    longest, width = np.linalg.norm(steps, axis=1).max(), _widths(perfect.cell.array).min()
    if longest >= width / 2:
        raise ValueError(
            f"a supercell of {supercell} cells is {width:.2f} Å wide, too small for a hop of {longest:.2f} Å; "
            "take more cells"
        )

    def atom(point: Point) -> int:
        site, *cell = point
        return int(np.ravel_multi_index((np.array(cell) + n // 2) % n, supercell)) * len(crystal) + int(own[site])

    numbers, start = perfect.numbers, perfect.positions
    if mechanism == "vacancy":
        movers, steps = [atom(path[1])], -steps
    else:
        numbers, start = np.append(numbers, number), np.vstack([start, points[0]])
        movers = [len(start) - 1, *(atom(point) for point in path[1:-1])]
    end = start.copy()
    end[movers] += steps
    keep = np.ones(len(start), dtype=bool)
    if mechanism == "vacancy":
        keep[atom(path[0])] = False

    def frame(positions: Floats) -> Frame:
        return Frame(
            numbers[keep], positions[keep], perfect.cell.array, crystal.pbc, crystal.charge, crystal.multiplicity
        )

    middle = frame((start + end) / 2)
    # Where the path is bent, its middle may have two atoms in one place; a band goes around.
    usable = symmetric and geometry_problem(atoms_from_frame(middle), width) is None
    return Hop(frame(start), frame(end), middle if usable else None)
