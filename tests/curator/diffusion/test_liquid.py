"""Liquids: Brownian motion of known diffusivity, and the size of the cell."""

import numpy as np
import pytest

from curator.diffusion import refusals
from curator.diffusion.coefficient import Coefficient
from curator.diffusion.liquid import (
    correct_for_finite_size,
    finite_size_correction,
    liquid_diffusivity_of_positions,
)
from curator.diffusion.measurement import as_json

LENGTH_A = 18.6


def brownian(rng: np.random.Generator, D: float, n_frames: int = 600, n_atoms: int = 40) -> np.ndarray:
    steps = rng.normal(scale=np.sqrt(2 * D * 0.1), size=(n_frames, n_atoms, 3))
    return 9.0 + np.cumsum(steps, axis=0)


def measure(positions: np.ndarray, numbers: np.ndarray | None = None, cell: np.ndarray | None = None, **options):
    n_atoms = positions.shape[1]
    return liquid_diffusivity_of_positions(
        positions,
        np.full(n_atoms, 3) if numbers is None else numbers,
        np.eye(3) * LENGTH_A if cell is None else cell,
        100.0,
        mobile="Li",
        unwrapped=True,
        hop_length_A=2.5,
        equilibration_ps=0.0,
        **options,
    )


def test_the_correction_of_water():
    # 2.837297 x 1.380649e-23 x 298 / (6 pi x 0.896e-3 x 18.6e-10) = 3.716e-10 m2/s.
    assert finite_size_correction(298, 0.896, 18.6) == pytest.approx(3.716e-2, rel=1e-3)
    # It vanishes with the size of the cell.
    assert finite_size_correction(298, 0.896, 186) == pytest.approx(3.716e-3, rel=1e-3)


def test_a_liquid_of_one_element_has_a_diffusivity_without_a_host():
    rng = np.random.default_rng(0)
    ratio, covered = [], 0
    for _ in range(40):
        found = measure(brownian(rng, 0.4))
        # Less by the part of each atom in the centre of mass.
        known = 0.4 * (1 - 1 / 40)
        ratio.append(found.D_A2_per_ps / known)
        low, high = found.tracer.ci95_A2_per_ps
        covered += low < known < high
    assert np.mean(ratio) == pytest.approx(1, abs=4 * np.std(ratio) / np.sqrt(40) + 0.01)
    assert covered >= 34
    assert found.status == "measured"
    assert found.collective is None


@pytest.mark.parametrize("gate", ["exploded", "not_diffusive", "not_stationary"])
def test_what_a_gate_says_refuses(gate: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(refusals, gate, lambda *_: "why")
    found = measure(brownian(np.random.default_rng(0), 0.4))
    assert (found.status, found.reasons, found.main) == ("refused", ("why",), None)


def test_it_is_measured_against_the_centre_of_mass():
    rng = np.random.default_rng(1)
    positions = brownian(rng, 0.4)
    drift = np.linspace(0, 50, len(positions))[:, None, None] * np.array([1.0, -0.5, 0.2])
    assert measure(positions + drift).D_A2_per_ps == pytest.approx(measure(positions).D_A2_per_ps, rel=1e-6)


def test_without_a_viscosity_or_a_cube_it_is_said_that_the_size_is_not_corrected():
    positions = brownian(np.random.default_rng(2), 0.4)
    plain = measure(positions, temperature_K=298)
    assert plain.reasons[-1].startswith("finite size: not corrected, for the viscosity is not given")
    corrected = measure(positions, temperature_K=298, viscosity_mPa_s=0.896)
    assert not any(reason.startswith("finite size") for reason in corrected.reasons)
    assert corrected.D_A2_per_ps - plain.D_A2_per_ps == pytest.approx(3.716e-2, rel=1e-3)
    assert as_json(corrected)["finite_size_A2_per_ps"] == pytest.approx(3.716e-2, rel=1e-3)
    assert as_json(plain)["finite_size_A2_per_ps"] is None
    oblong = measure(positions, cell=np.diag([18.6, 18.6, 30.0]), temperature_K=298, viscosity_mPa_s=0.896)
    assert oblong.reasons[-1].startswith("finite size: not corrected, for the cell is not cubic")
    assert oblong.D_A2_per_ps == plain.D_A2_per_ps
    for cell, pbc in ((np.zeros((3, 3)), False), (np.eye(3) * 18.6, [True, True, False])):
        drop = measure(positions, cell=cell, pbc=np.broadcast_to(pbc, 3), temperature_K=298, viscosity_mPa_s=0.896)
        assert drop.reasons[-1] == "finite size: not corrected, for the cell is not periodic in all directions"
        assert drop.D_A2_per_ps == plain.D_A2_per_ps


def test_the_interval_moves_with_the_correction():
    found, added, reason = correct_for_finite_size(
        Coefficient(1.0, 0.1, (0.8, 1.2)), np.eye(3) * 18.6, np.ones(3, dtype=bool), 298, 0.896
    )
    assert reason == ""
    assert found == Coefficient(1 + added, 0.1, (0.8 + added, 1.2 + added))


def test_a_melt_is_a_liquid_and_a_frozen_one_has_a_bound():
    rng = np.random.default_rng(3)
    numbers = np.array([3] * 20 + [9] * 20)
    positions = brownian(rng, 0.4)
    assert measure(positions, numbers).status == "measured"
    frozen = measure(9.0 + rng.normal(scale=0.1, size=positions.shape), numbers)
    assert frozen.status == "bound"
    assert frozen.bound_A2_per_ps < 0.01
