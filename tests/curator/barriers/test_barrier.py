"""Barriers with known answers: a model potential solved by hand, and the Fumi-Tosi potential of LiF."""

from functools import cache

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from curator.backends.classical import FumiTosiLiF
from curator.barriers.barrier import find_barrier
from curator.barriers.modes import softest_modes
from curator.datasets.frame import Frame, frame_from_atoms
from curator.datasets.sources import Hop, build_seed


class TwoWells(Calculator):
    """Two atoms bound by ``V = h (x² - 1)² + c x + k(x) y²/2 + y⁴/4 + 2 z² - d exp(-20 x²)`` of their distance vector.

    The hop goes from x = -1 to x = 1 over x = 0. With a ridge r, ``k(x) = (s + r) x² - r``: the path along y = 0 is
    unstable at its top. ``d`` digs a well there.
    """

    implemented_properties = ("energy", "forces")

    def __init__(self, height=0.3, tilt=0.0, stiffness=1.0, ridge=0.0, noise=0.0, dip=0.0, nonsense=False):
        super().__init__()
        self.p = (height, tilt, stiffness, ridge, dip)
        self.noise = noise
        self.nonsense = nonsense
        self.rng = np.random.default_rng(0)

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        h, c, stiff, ridge, dip = self.p
        x, y, z = self.atoms.positions[1] - self.atoms.positions[0] - (0, 0, 3)
        k = (stiff + ridge) * x**2 - ridge if ridge else stiff
        slope_k = 2 * (stiff + ridge) * x if ridge else 0.0
        energy = h * (x**2 - 1) ** 2 + c * x + k * y**2 / 2 + y**4 / 4 + 2 * z**2 - dip * np.exp(-20 * x**2)
        gradient = np.array(
            [
                4 * h * x * (x**2 - 1) + c + slope_k * y**2 / 2 + 40 * x * dip * np.exp(-20 * x**2),
                k * y + y**3,
                4 * z,
            ]
        )
        forces = np.array([gradient, -gradient]) + self.noise * self.rng.standard_normal((2, 3))
        self.results = {"energy": np.nan if self.nonsense else energy, "forces": forces}


def pair(x, y=0.0, periodic=True):
    atoms = Atoms("LiF", positions=[(5, 5, 5), (5 + x, 5 + y, 8)], cell=[14, 15, 16], pbc=periodic)
    return frame_from_atoms(atoms)


def two_wells(periodic=True):
    return Hop(pair(-0.9, periodic=periodic), pair(0.9, periodic=periodic), pair(0.0, periodic=periodic))


@pytest.mark.parametrize("method", ["symmetric", "ci-neb"])
@pytest.mark.parametrize("noise", [0.0, 1e-5])
def test_two_wells(method, noise):
    barrier = find_barrier(two_wells(), TwoWells(height=0.3, noise=noise), method=method)
    assert barrier.barrier_eV == pytest.approx(0.3, abs=1e-3)
    assert barrier.reverse_eV == pytest.approx(0.3, abs=1e-3)
    assert barrier.method == method
    assert barrier.negative_modes == 1
    assert barrier.mode_overlap > 0.99
    assert barrier.converged
    assert barrier.reasons == ()


def test_a_tilted_hop_is_not_taken_for_a_symmetric_one():
    tilt = 0.1
    barrier = find_barrier(two_wells(), TwoWells(height=0.3, tilt=tilt), fmax_eV_per_A=0.002)
    # Stationary points of h (x² - 1)² + c x.
    x = np.sort(np.roots([4 * 0.3, 0, -4 * 0.3, tilt]).real)
    energy = 0.3 * (x**2 - 1) ** 2 + tilt * x
    assert barrier.method == "ci-neb"
    assert barrier.barrier_eV == pytest.approx(energy[1] - energy[0], abs=1e-3)
    assert barrier.reverse_eV == pytest.approx(energy[1] - energy[2], abs=1e-3)
    assert "end points differ by" in barrier.reasons[0]


def test_a_second_order_saddle_is_refused_and_the_real_one_found_beside_it():
    ridge = 0.5
    calculator = TwoWells(height=0.3, ridge=ridge)
    straight = find_barrier(two_wells(), calculator, method="symmetric")
    assert straight.barrier_eV is None
    assert straight.negative_modes == 2
    assert straight.energies_eV[1] == pytest.approx(0.3, abs=1e-3)
    assert "2 negative modes" in straight.reasons[0]
    # At x = 0 the energy h - r y²/2 + y⁴/4 has its minimum h - r²/4 at y² = r.
    beside = find_barrier(two_wells(), calculator, fmax_eV_per_A=0.003)
    assert beside.barrier_eV == pytest.approx(0.3 - ridge**2 / 4, abs=1e-3)
    assert beside.negative_modes == 1
    assert beside.reasons[0].startswith("symmetric route refused")


def test_a_start_on_a_ridge_is_no_minimum():
    hop = Hop(pair(-1.0), pair(1.0), pair(0.0))
    barrier = find_barrier(hop, TwoWells(stiffness=-0.5))
    assert barrier.barrier_eV is None
    assert "no minimum" in barrier.reasons[0]


def test_an_end_point_that_slides_into_the_next_well_is_told():
    """From x = 0.3 down to 1: another hop than the one that was asked for."""
    barrier = find_barrier(Hop(pair(-0.9), pair(0.3)), TwoWells())
    assert barrier.barrier_eV is None
    assert any(reason.startswith("the final state left its site: atom ") for reason in barrier.reasons)


def test_end_points_without_a_hill_between_them_have_no_barrier():
    barrier = find_barrier(Hop(pair(-0.9), pair(0.9)), TwoWells(height=-0.3), method="ci-neb")
    assert barrier.barrier_eV is None
    assert barrier.reasons


def test_an_end_point_that_runs_out_of_steps_is_told():
    barrier = find_barrier(two_wells(), TwoWells(), max_steps=1)
    assert barrier.barrier_eV is None
    assert any(reason.startswith("the initial state did not relax: ") for reason in barrier.reasons)


def test_end_points_that_fall_together_give_no_barrier():
    barrier = find_barrier(Hop(pair(0.5), pair(0.9)), TwoWells())
    assert barrier.barrier_eV is None
    assert not barrier.converged
    assert any("same place" in reason for reason in barrier.reasons)


def test_an_intermediate_minimum_below_the_ends_is_told():
    barrier = find_barrier(two_wells(), TwoWells(height=0.1, dip=0.3), method="ci-neb", n_images=9)
    assert any("below both end points" in reason for reason in barrier.reasons)


def test_a_guess_that_is_a_minimum_is_refused():
    barrier = find_barrier(two_wells(), TwoWells(height=0.3, dip=0.1), method="symmetric")
    assert barrier.barrier_eV is None
    assert barrier.negative_modes == 0


@pytest.mark.parametrize("method", ["symmetric", "ci-neb"])
def test_a_soft_saddle_is_told_from_noise(method):
    """A curvature of -0.015 eV/Å² could be noise over 0.02 Å, and is none over 0.2 Å."""
    soft = find_barrier(two_wells(), TwoWells(height=0.0019, noise=2e-5), method=method)
    assert soft.negative_modes == 1
    assert soft.barrier_eV == pytest.approx(0.0019 * (1 - 0.19**2), abs=2e-5)
    flat = find_barrier(two_wells(), TwoWells(height=5e-5, noise=2e-5), method=method)
    assert flat.barrier_eV is None
    assert any("0 negative modes (lowest curvature " in reason for reason in flat.reasons)


def test_running_out_of_steps_is_told_and_gives_no_number():
    barrier = find_barrier(two_wells(), TwoWells(height=0.3, ridge=0.5), method="ci-neb", max_steps=2)
    assert barrier.barrier_eV is None
    assert not barrier.converged
    assert barrier.reasons


def test_forces_that_are_not_numbers_give_no_barrier():
    barrier = find_barrier(two_wells(), TwoWells(nonsense=True))
    assert barrier.barrier_eV is None
    assert "not a number" in barrier.reasons[0]
    assert barrier.n_calls == 1


def test_without_a_periodic_cell_the_band_does_it():
    barrier = find_barrier(two_wells(periodic=False), TwoWells())
    assert barrier.method == "ci-neb"
    assert barrier.barrier_eV == pytest.approx(0.3, abs=1e-3)


def test_bad_requests_are_named():
    hop = two_wells()
    with pytest.raises(ValueError, match="no guess"):
        find_barrier(Hop(hop.initial, hop.final), TwoWells(), method="symmetric")
    with pytest.raises(ValueError, match="n_images=0"):
        find_barrier(hop, TwoWells(), n_images=0)


LATTICE_A = 4.0314
"""Lattice constant of the Fumi-Tosi potential with the lowest energy."""


def lif(defect):
    return build_seed(f"lif-{defect}", LATTICE_A).hop


@cache
def interstitial(method):
    return find_barrier(lif("interstitial"), FumiTosiLiF(), method=method)


def test_interstitialcy_of_lif():
    symmetric, band = interstitial("symmetric"), interstitial("ci-neb")
    # 0.107 eV was found with LAMMPS's form of the potential and another optimizer.
    assert symmetric.barrier_eV == pytest.approx(0.107, abs=0.005)
    assert band.barrier_eV == pytest.approx(symmetric.barrier_eV, abs=0.002)
    assert symmetric.reasons == band.reasons == ()
    assert symmetric.mode_overlap > 0.9
    assert symmetric.n_calls < band.n_calls
    assert band.energies_eV == pytest.approx(band.energies_eV[::-1], abs=1e-3)


def test_anchor_frames_measure_the_barrier():
    barrier = interstitial("symmetric")
    calculator = FumiTosiLiF()
    energies = []
    for frame in (barrier.minimum, barrier.saddle):
        atoms = Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc, calculator=calculator)
        energies.append(atoms.get_potential_energy())
        assert np.abs(atoms.get_forces()).max() < 0.011
    assert energies[1] - energies[0] == pytest.approx(barrier.barrier_eV, abs=1e-6)


def test_vacancy_jump_of_lif_agrees_by_both_routes():
    symmetric = find_barrier(lif("vacancy"), FumiTosiLiF(), method="symmetric")
    band = find_barrier(lif("vacancy"), FumiTosiLiF(), method="ci-neb")
    assert symmetric.barrier_eV == pytest.approx(band.barrier_eV, abs=0.002)
    assert symmetric.barrier_eV > 0.3


def displaced(frame, moves):
    positions = frame.positions.copy()
    for atom, position in moves.items():
        positions[atom] = position
    return Frame(frame.numbers, positions, frame.cell, frame.pbc)


def test_direct_hop_through_the_face_centre_is_a_ridge_with_a_saddle_beside_it():
    start = lif("interstitial").initial
    last = len(start) - 1
    step = np.array([LATTICE_A / 4, 0, 0])
    end, face = (displaced(start, {last: start.positions[last] + k * step}) for k in (2, 1))
    barrier = find_barrier(Hop(start, end, face), FumiTosiLiF())
    assert barrier.method == "ci-neb"
    assert barrier.negative_modes == 1
    assert "2 negative modes" in barrier.reasons[0]
    assert barrier.barrier_eV == pytest.approx(0.316, abs=0.006)


@pytest.mark.parametrize(("axis", "message"), [((1, 0, 0), "negative modes"), ((1, 1, 0), "along the hop")])
def test_wrong_dumbbells_are_refused(axis, message):
    hop = lif("interstitial")
    last = len(hop.initial) - 1
    moved = np.linalg.norm(hop.final.positions - hop.initial.positions, axis=1)
    site = int(np.argmax(moved[:last]))
    half = 1.1 * np.array(axis) / np.linalg.norm(axis)
    centre = hop.initial.positions[site]
    guess = displaced(hop.saddle, {last: centre + half, site: centre - half})
    barrier = find_barrier(Hop(hop.initial, hop.final, guess), FumiTosiLiF(), method="symmetric")
    assert barrier.barrier_eV is None
    assert message in barrier.reasons[0]


class Noisy(FumiTosiLiF):
    """Forces with the noise of a single-precision model, and ten times that."""

    def __init__(self, noise):
        super().__init__()
        self.noise = noise
        self.rng = np.random.default_rng(0)

    def calculate(self, *arguments, **keywords):
        super().calculate(*arguments, **keywords)
        self.results["forces"] = self.results["forces"] + self.noise * self.rng.standard_normal((len(self.atoms), 3))


@pytest.mark.parametrize("noise", [4e-6, 4e-5])
def test_noise_of_single_precision_does_not_matter(noise):
    barrier = find_barrier(lif("interstitial"), Noisy(noise))
    assert barrier.method == "symmetric"
    assert barrier.barrier_eV == pytest.approx(interstitial("symmetric").barrier_eV, abs=1e-3)


def test_lowest_modes_agree_with_the_full_hessian():
    frame = interstitial("symmetric").saddle
    atoms = Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc, calculator=FumiTosiLiF())
    origin = atoms.positions.copy()
    rows = []
    for k in range(3 * len(atoms)):
        forces = []
        for sign in (1, -1):
            shift = np.zeros(3 * len(atoms))
            shift[k] = sign * 0.005
            atoms.positions = origin + shift.reshape(-1, 3)
            forces.append(atoms.get_forces().ravel())
        rows.append((forces[1] - forces[0]) / 0.01)
    values, vectors = np.linalg.eigh((np.array(rows) + np.array(rows).T) / 2)
    atoms.positions = origin
    assert np.count_nonzero(values < -0.02) == 1
    found = softest_modes(atoms, vectors[:, 0].reshape(-1, 3))
    assert len(found.negative) == 1
    assert found.curvature_eV_per_A2 == pytest.approx(values[0], abs=0.03)
    assert found.overlap > 0.995


def test_both_of_a_degenerate_pair_are_counted():
    """On the axis of a hat-shaped potential two negative modes have the same curvature."""

    class Hat(Calculator):
        implemented_properties = ("energy", "forces")

        def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
            super().calculate(atoms, properties, system_changes)
            x, y, z = self.atoms.positions[1] - self.atoms.positions[0]
            gradient = np.array([-x, -y, 4 * (z - 3)])
            self.results = {"energy": (-(x**2) - y**2 + 4 * (z - 3) ** 2) / 2, "forces": [gradient, -gradient]}
            self.results["forces"] = np.array(self.results["forces"])

    atoms = Atoms("LiF", positions=[(5, 5, 5), (5, 5, 8)], cell=[14, 15, 16], pbc=True, calculator=Hat())
    modes = softest_modes(atoms, np.array([[0, 0, 0], [1.0, 0, 0]])).negative
    assert len(modes) == 2
    assert abs(np.vdot(modes[0], modes[1])) < 1e-6
