"""The migration barrier of one hop: relaxed end points and a saddle point that is proved to be one.

A hop whose middle is fixed by symmetry needs no band: the guess of the saddle point is relaxed with its symmetry
kept, and accepted only if the Hessian there has exactly one negative mode and that mode points along the hop. Any
other hop, or one that fails the proof, is relaxed as a climbing-image nudged elastic band. A band that climbed to a
ridge is relaxed once more, pushed off it.

Bands move by ASE's adaptive ODE solver: for five hops in LiF and Cu it took 3 to 13 times fewer force calls than FIRE,
FIRE2, LBFGS and BFGS. Images are calculated one after the other. Of the 300 to 350 calls of a hop the band takes about
100; most of the others belong to the proof, where each waits for the one before, so that images in parallel would save
a quarter of the time at most. Hops do not wait for one another: it is these that run in parallel.
"""

import time
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.constraints import FixSymmetry
from ase.geometry import find_mic
from ase.mep import NEB
from ase.mep.neb import NEBOptimizer
from ase.optimize import BFGS
from numpy.typing import NDArray

from curator.backends.calculator import WholeCalculator
from curator.barriers.modes import (
    MIN_OVERLAP,
    N_MODES_MAX,
    NEGATIVE_EV_PER_A2,
    Softest,
    UnusableForces,
    lowest_mode,
    softest_modes,
)
from curator.datasets.frame import Frame, atoms_from_frame, frame_from_atoms
from curator.datasets.sources import Hop

Method = Literal["symmetric", "ci-neb"]
Floats = NDArray[np.float64]

SAME_ENERGY_EV = 0.005
"""End points closer in energy than this count as equivalent."""
PUSH_A = 0.2
"""Norm of the push off a path that is a ridge."""


@dataclass(frozen=True, slots=True, eq=False)
class Barrier:
    """A migration barrier, or why there is none.

    Attributes
    ----------
    barrier_eV, reverse_eV
        Energy of the saddle point over the initial and over the final minimum in eV; None unless everything it rests
        on converged and was found to be what it should be.
    minimum, saddle
        Relaxed initial state, and the saddle point; if the search failed, the highest point it reached, or None.
    path
        Initial state, images, final state. From symmetry there is one image, the saddle point: energies along a
        straight line in between would not be those of the path.
    energies_eV
        Energies along the path relative to the minimum, eV.
    end_energies_eV
        Total energies of the relaxed initial and final states in eV; None if they could not be calculated.
    method
        ``symmetric`` or ``ci-neb``.
    negative_modes
        Number of negative curvatures at the saddle point, counted to 3 at most; None if not examined.
    mode_overlap
        Cosine between the lowest mode at the saddle point and the path there, 0 to 1; None if not examined.
    converged
        Whether all optimisations met the force criterion.
    reasons
        What a reader should know: why a route was refused, what is odd about the path. Empty if nothing is.
    n_calls, cpu_s
        Force calls, and CPU seconds of this process.
    """

    barrier_eV: float | None
    reverse_eV: float | None
    minimum: Frame
    saddle: Frame | None
    path: tuple[Frame, ...]
    energies_eV: tuple[float, ...]
    end_energies_eV: tuple[float, float] | None
    method: Method
    negative_modes: int | None
    mode_overlap: float | None
    converged: bool
    reasons: tuple[str, ...]
    n_calls: int
    cpu_s: float


def find_barrier(
    hop: Hop,
    calculator: Calculator,
    *,
    fmax_eV_per_A: float = 0.01,
    method: Literal["auto", "symmetric", "ci-neb"] = "auto",
    n_images: int = 5,
    max_steps: int = 300,
) -> Barrier:
    """Find the barrier of a hop on the potential energy surface of a calculator, in a fixed cell.

    Parameters
    ----------
    hop
        End points and, if symmetry fixes it, a guess of the saddle point.
    calculator
        Gives energy and forces. It is used for all images in turn.
    fmax_eV_per_A
        Force left at convergence: norm on an atom for end points and saddle point, largest component for the band.
    method
        ``auto`` tries the symmetric route where there is a guess and falls back on the band.
    n_images
        Images of the band between its ends.
    max_steps
        Most steps of each optimisation.

    Returns
    -------
    Barrier
        Also where none was found: its reasons say why.

    Raises
    ------
    ValueError
        If the symmetric route is asked for and the hop has no guess of its saddle point, or ``n_images`` is below 1.

    References
    ----------
    G. Henkelman, B. P. Uberuaga, H. Jónsson, J. Chem. Phys. 113, 9901 (2000): climbing image.
    G. Henkelman, H. Jónsson, J. Chem. Phys. 113, 9978 (2000): improved tangent.
    S. Makri, C. Ortner, J. R. Kermode, J. Chem. Phys. 150, 094109 (2019): the ODE solver.
    """
    if method == "symmetric" and hop.saddle is None:
        raise ValueError("this hop has no guess of its saddle point; use method 'auto' or 'ci-neb'")
    if n_images < 1:
        raise ValueError(f"a band needs at least one image; got n_images={n_images}")
    counted = _Counted(calculator)
    began = time.process_time()
    minimum = hop.initial
    ends: tuple[float, float] | None = None
    routes: list[_Route] = []
    faults: list[str] = []
    try:
        initial, final = (_relax(frame, counted, fmax_eV_per_A, max_steps) for frame in (hop.initial, hop.final))
        minimum, ends = frame_from_atoms(initial.atoms), (initial.energy_eV, final.energy_eV)
        faults = _end_point_faults(hop, initial, final)
        if not faults and method != "ci-neb" and hop.saddle is not None:
            routes.append(_from_symmetry(hop.saddle, initial, final, counted, fmax_eV_per_A, max_steps))
        if not faults and (method == "ci-neb" or (method == "auto" and (not routes or routes[-1].faults))):
            for _ in range(2):
                push = routes[-1].side_mode if routes else None
                routes.append(_band(initial, final, counted, fmax_eV_per_A, max_steps, n_images, push))
                if routes[-1].side_mode is None:
                    break
    except UnusableForces as error:
        faults.append(str(error))

    wanted: Method = "symmetric" if method != "ci-neb" and hop.saddle is not None else "ci-neb"
    route = routes[-1] if routes else _Route(wanted, (minimum,), (0.0,), None, converged=False)
    reasons = [f"{earlier.method} route refused: {fault}" for earlier in routes[:-1] for fault in earlier.faults]
    reasons += [*faults, *route.faults, *route.notes]
    found = not faults and not route.faults and route.saddle is not None
    top = route.energies_eV[route.saddle] if route.saddle is not None else 0.0
    return Barrier(
        barrier_eV=top if found else None,
        reverse_eV=top - route.energies_eV[-1] if found else None,
        minimum=minimum,
        saddle=None if route.saddle is None else route.path[route.saddle],
        path=route.path,
        energies_eV=route.energies_eV,
        end_energies_eV=ends,
        method=route.method,
        negative_modes=None if route.modes is None else len(route.modes.negative),
        mode_overlap=None if route.modes is None else route.modes.overlap,
        converged=route.converged and not faults,
        reasons=tuple(reasons),
        n_calls=counted.n_calls,
        cpu_s=time.process_time() - began,
    )


class _Counted(WholeCalculator):
    """Passes calls on, counts them, and refuses numbers that are not finite."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def __init__(self, calculator: Calculator) -> None:
        super().__init__()
        self.inner = calculator
        self.n_calls = 0

    def evaluate(self, atoms: Atoms) -> dict[str, Any]:
        self.n_calls += 1
        energy = self.inner.get_potential_energy(atoms)
        forces = self.inner.get_forces(atoms)
        if not (np.isfinite(energy) and np.isfinite(forces).all()):
            raise UnusableForces("the model gave an energy or a force that is not a number; it needs more training")
        return {"energy": energy, "forces": forces}


@dataclass(frozen=True, slots=True, eq=False)
class _Relaxed:
    atoms: Atoms
    energy_eV: float
    converged: bool
    fmax_eV_per_A: float


@dataclass(frozen=True, slots=True, eq=False)
class _Route:
    """What one way of looking for the saddle point found.

    ``saddle`` is its index on the path, ``modes`` are those there.
    """

    method: Method
    path: tuple[Frame, ...]
    energies_eV: tuple[float, ...]
    saddle: int | None
    converged: bool
    modes: Softest | None = None
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def side_mode(self) -> Floats | None:
        """A second negative mode: downhill, away from the path."""
        return self.modes.negative[1] if self.modes is not None and len(self.modes.negative) > 1 else None


def _relax(frame: Frame, calculator: _Counted, fmax: float, max_steps: int, *, keep_symmetry: bool = False) -> _Relaxed:
    atoms = atoms_from_frame(frame)
    atoms.calc = calculator
    if keep_symmetry:
        atoms.set_constraint(FixSymmetry(atoms))
    with BFGS(atoms, logfile=None) as optimizer:
        converged = bool(optimizer.run(fmax=fmax, steps=max_steps))
    atoms.set_constraint()
    forces = atoms.get_forces()
    return _Relaxed(atoms, float(atoms.get_potential_energy()), converged, float(np.linalg.norm(forces, axis=1).max()))


def _end_point_faults(hop: Hop, initial: _Relaxed, final: _Relaxed) -> list[str]:
    hop_length = _longest_move(hop.initial, hop.final.positions - hop.initial.positions)[1]
    faults = []
    for name, guess, relaxed in (("initial", hop.initial, initial), ("final", hop.final, final)):
        if not relaxed.converged:
            faults.append(f"the {name} state did not relax: {relaxed.fmax_eV_per_A:.3g} eV/Å left on an atom")
        atom, length = _longest_move(guess, relaxed.atoms.positions - guess.positions)
        if length > hop_length / 2:
            faults.append(f"the {name} state left its site: atom {atom} relaxed by {length:.2f} of {hop_length:.2f} Å")
    apart = _longest_move(hop.initial, final.atoms.positions - initial.atoms.positions)[1]
    if apart <= hop_length / 2:
        faults.append(f"both end points relax to the same place, {apart:.2f} Å apart (hop {hop_length:.2f} Å)")
    if not faults:
        equivalent = abs(final.energy_eV - initial.energy_eV) <= SAME_ENERGY_EV
        for name, state in (("initial", initial),) if equivalent else (("initial", initial), ("final", final)):
            curvature, _ = lowest_mode(state.atoms, [])
            if curvature < NEGATIVE_EV_PER_A2:
                faults.append(f"the {name} state is no minimum: a mode of it has curvature {curvature:.2f} eV/Å²")
    return faults


def _from_symmetry(
    guess: Frame, initial: _Relaxed, final: _Relaxed, calculator: _Counted, fmax: float, max_steps: int
) -> _Route:
    difference = final.energy_eV - initial.energy_eV
    start = frame_from_atoms(initial.atoms)
    if not guess.pbc.all():
        fault = "the symmetry of a cell that is not periodic in three directions is not kept; use a band"
        return _Route("symmetric", (start,), (0.0,), None, converged=True, faults=(fault,))
    if abs(difference) > SAME_ENERGY_EV:
        fault = f"the end points differ by {1000 * difference:.0f} meV, so symmetry does not fix the saddle point"
        return _Route("symmetric", (start,), (0.0,), None, converged=True, faults=(fault,))
    top = _relax(guess, calculator, fmax, max_steps, keep_symmetry=True)
    height = top.energy_eV - initial.energy_eV
    faults: list[str] = []
    modes: Softest | None = None
    if not top.converged:
        faults.append(f"the guess of the saddle point did not relax: {top.fmax_eV_per_A:.3g} eV/Å left on an atom")
    elif height <= 0:
        faults.append(f"the guess of the saddle point relaxes to {1000 * height:.0f} meV relative to the minimum")
    else:
        modes = softest_modes(top.atoms, _moves(top.atoms, final.atoms.positions - initial.atoms.positions))
        if len(modes.negative) != 1:
            faults.append(f"the symmetric point, at {height:.3f} eV, has {_count(modes)}, a saddle point has one")
        elif modes.overlap < MIN_OVERLAP:
            faults.append(f"the negative mode does not point along the hop (overlap {modes.overlap:.2f})")
    return _Route(
        "symmetric",
        tuple(frame_from_atoms(x.atoms) for x in (initial, top, final)),
        (0.0, height, difference),
        1,
        top.converged,
        modes,
        faults=tuple(faults),
    )


def _band(
    initial: _Relaxed,
    final: _Relaxed,
    calculator: _Counted,
    fmax: float,
    max_steps: int,
    n_images: int,
    push: Floats | None,
) -> _Route:
    images = [initial.atoms.copy() for _ in range(n_images + 1)] + [final.atoms.copy()]
    for image in images:
        image.calc = calculator
    neb = NEB(images, method="improvedtangent", allow_shared_calculator=True)
    neb.interpolate("idpp", mic=True)
    if push is not None:
        # A straight band would climb to the same point again and balance there.
        for k in range(1, n_images + 1):
            images[k].positions += PUSH_A * np.sin(np.pi * k / (n_images + 1)) * push
    # Climbing starts once the band knows which way is up.
    for climb, target in ((False, 10 * fmax), (True, fmax)):
        neb.climb = climb
        NEBOptimizer(neb, logfile=None).run(fmax=target, steps=max_steps)
    # The optimizer calls a band that ran out of steps converged: ask the band itself.
    left = float(neb.get_residual())
    converged = left <= fmax

    energies = np.array([image.get_potential_energy() for image in images]) - initial.energy_eV
    top = int(np.argmax(energies))
    faults: list[str] = []
    modes: Softest | None = None
    if not converged:
        faults.append(
            f"the band did not converge: {left:.3g} eV/Å left; its highest image is at {energies[top]:.3f} eV"
        )
    elif top in (0, len(images) - 1):
        faults.append("the energy has no maximum between the end points")
    else:
        along = _moves(images[top], images[top + 1].positions - images[top].positions)
        along += _moves(images[top], images[top].positions - images[top - 1].positions)
        modes = softest_modes(images[top], along)
        if len(modes.negative) != 1:
            faults.append(f"the climbing image, at {energies[top]:.3f} eV, has {_count(modes)}, a saddle point has one")
    inner = range(1, len(images) - 1)
    dips = [k for k in inner if energies[k] < min(energies[:k].max(), energies[k + 1 :].max()) - SAME_ENERGY_EV]
    dips = [k for k in dips if energies[k] == energies[max(k - 1, 0) : k + 2].min()]
    notes = []
    for k in dips:
        depth = energies[k] - min(0.0, energies[-1])
        deeper = depth < -SAME_ENERGY_EV
        below = ", below both end points: the hop does not start from the ground state" if deeper else ""
        notes.append(f"the path has an intermediate minimum at image {k}, {energies[k]:.3f} eV{below}")
    return _Route(
        "ci-neb",
        tuple(frame_from_atoms(image) for image in images),
        tuple(energies.tolist()),
        top if top in inner else None,
        converged,
        modes,
        faults=tuple(faults),
        notes=tuple(notes),
    )


def _moves(frame: Frame | Atoms, displacement: Floats) -> Floats:
    """Displacements by the nearest image, less the translation of everything."""
    nearest: Floats = find_mic(displacement, frame.cell, frame.pbc)[0]
    return np.asarray(nearest - nearest.mean(axis=0))


def _longest_move(frame: Frame, displacement: Floats) -> tuple[int, float]:
    lengths = np.linalg.norm(_moves(frame, displacement), axis=1)
    return int(np.argmax(lengths)), float(np.max(lengths))


def _count(modes: Softest) -> str:
    n = len(modes.negative)
    if n == 0:
        return f"0 negative modes (lowest curvature {modes.curvature_eV_per_A2:.3f} eV/Å²)"
    return f"{n} or more negative modes" if n == N_MODES_MAX else f"{n} negative modes"
