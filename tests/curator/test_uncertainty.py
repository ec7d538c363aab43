import json
from dataclasses import asdict

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from curator.uncertainty import (
    Calibration,
    committee_spread,
    component_spread,
    fit_calibration,
    force_error,
    frame_score,
    reliability,
)


def test_zundel_committee(shared_data):
    data = np.load(shared_data / "zundel_committee" / "forces.npz")
    members = data["members_eV_per_A"]
    assert np.abs(members.mean(axis=1) - data["mean_eV_per_A"]).max() < 5.1e-6
    spread = np.array([component_spread(m) for m in members])
    assert spread.mean() == pytest.approx(9.95e-3, abs=5e-6)
    per_atom = np.array([committee_spread(m) for m in members])
    assert np.sqrt(np.mean(per_atom**2)) == pytest.approx(np.sqrt(np.mean(spread**2)))


def test_spread_of_two_members_is_half_their_distance_and_survives_rotation():
    rng = np.random.default_rng(0)
    forces = rng.standard_normal((2, 10, 3))
    spread = committee_spread(forces)
    assert spread == pytest.approx(np.linalg.norm(forces[0] - forces[1], axis=1) / 2 / np.sqrt(3))
    turned = forces @ Rotation.random(rng=1).as_matrix()
    assert committee_spread(turned) == pytest.approx(spread)


def test_committee_of_one_is_refused():
    with pytest.raises(ValueError, match="members: 2"):
        committee_spread(np.zeros((1, 4, 3)))
    with pytest.raises(ValueError, match="shape"):
        committee_spread(np.zeros((4, 3)))


def test_frame_score_sees_one_bad_atom():
    calm, bad = np.full(65, 0.05), np.full(65, 0.05)
    bad[7] = 1.0
    assert frame_score(bad, n_top=4) == pytest.approx((1.0 + 3 * 0.05) / 4)
    assert frame_score(bad) > 2 * frame_score(calm)
    assert frame_score(calm) == pytest.approx(0.05)


def known_errors(n, seed, underestimate=3.0):
    """Spreads, and Gaussian errors whose size is ``underestimate`` times the spread."""
    rng = np.random.default_rng(seed)
    spread = 0.02 * rng.lognormal(0, 1, n)
    error = force_error(underestimate * spread[:, None] * rng.standard_normal((n, 3)), np.zeros((n, 3)))
    return spread, error


@pytest.mark.parametrize(("n", "tolerance"), [(20, 0.35), (260, 0.3), (20_000, 0.1)])
def test_calibration_recovers_a_known_scale(n, tolerance):
    calibration = fit_calibration(*known_errors(n, seed=1))
    for spread in (0.01, 0.02, 0.05):
        assert calibration([spread])[0] == pytest.approx(3 * spread, rel=tolerance)


@pytest.mark.parametrize("n", [10, 59, 60, 500])
def test_calibration_is_monotone_and_never_certain(n):
    spread, error = known_errors(n, seed=n)
    error[np.argsort(spread)[: n // 4]] = 0
    calibration = fit_calibration(spread, error)
    grid = np.geomspace(1e-9, 100, 500)
    predicted = calibration(grid)
    assert (np.diff(predicted) >= 0).all()
    assert (predicted > 0).all()
    beyond = grid > calibration.spread_eV_per_A[-1]
    assert (np.diff(predicted[beyond]) > 0).all()


def test_uninformative_spread_gives_the_mean_error():
    rng = np.random.default_rng(0)
    spread = rng.uniform(0.01, 0.02, 4000)
    error = np.abs(rng.normal(0.2, 0.05, 4000))
    predicted = fit_calibration(spread, error)(np.linspace(0.011, 0.019, 9))
    assert predicted == pytest.approx(np.full(9, np.sqrt(np.mean(error**2))), rel=0.08)


def test_too_little_gives_no_calibration():
    spread, error = known_errors(9, seed=0)
    assert fit_calibration(spread, error) is None
    assert fit_calibration([], []) is None
    assert fit_calibration(np.zeros(100), np.ones(100)) is None
    assert fit_calibration(np.ones(100), np.zeros(100)) is None


def test_calibration_survives_json():
    calibration = fit_calibration(*known_errors(300, seed=4))
    again = Calibration(**json.loads(json.dumps(asdict(calibration))))
    assert again == calibration


def test_reliability_on_unseen_errors():
    calibration = fit_calibration(*known_errors(5000, seed=5))
    spread, error = known_errors(5000, seed=6)
    check = reliability(calibration(spread), error)
    assert check.within_one == pytest.approx(0.61, abs=0.03)
    assert check.within_two == pytest.approx(0.993, abs=0.01)
    assert check.measured_eV_per_A == pytest.approx(check.predicted_eV_per_A, rel=0.35)
    assert sum(check.n_per_bin) == 5000
    assert check.rank_correlation > 0.8
    raw = reliability(spread, error)
    assert raw.within_one < 0.1


def test_reliability_of_nothing_and_of_constants():
    assert reliability([], []) is None
    assert reliability(np.ones(5), np.ones(5)).rank_correlation is None


@pytest.mark.parametrize(("spread", "error"), [([1.0], [1.0, 2.0]), ([-1.0], [1.0]), ([np.nan], [1.0])])
def test_bad_numbers_are_refused(spread, error):
    with pytest.raises(ValueError, match="spread"):
        fit_calibration(spread, error)
