import json
from dataclasses import asdict

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from curator.uncertainty import (
    Calibration,
    calibrate_from,
    committee_spread,
    component_spread,
    fit_calibration,
    force_error,
    frame_score,
    pool_fresh_errors,
    reliability,
    reliability_json,
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
    check = reliability(calibration(spread), error, n_frames=77)
    # Standard deviation of a share of 5000: 0.007 and 0.003; the rest is the calibration's own error.
    assert check.coverage68 == pytest.approx(0.68, abs=0.03)
    assert check.coverage95 == pytest.approx(0.95, abs=0.015)
    assert check.true_eV_per_A == pytest.approx(check.predicted_eV_per_A, rel=0.35)
    assert check.calibration_error < 0.15
    assert (check.n_atoms, check.n_frames) == (5000, 77)
    assert check.rank_correlation > 0.8
    raw = reliability(spread, error, n_frames=77)
    assert raw.coverage95 < 0.25
    assert raw.calibration_error == pytest.approx(2, rel=0.15)


def test_intervals_hold_what_gaussian_errors_of_the_predicted_size_have_in_them():
    error = force_error(0.03 * np.random.default_rng(0).standard_normal((200_000, 3)), np.zeros((200_000, 3)))
    check = reliability(np.full(200_000, 0.03), error, n_frames=1)
    assert check.coverage68 == pytest.approx(0.68, abs=0.004)
    assert check.coverage95 == pytest.approx(0.95, abs=0.002)
    assert check.rank_correlation is None


def test_reliability_needs_atoms_and_predictions():
    assert reliability([], [], 0) is None
    assert reliability(np.ones(99), np.ones(99), 3) is None
    assert reliability_json(None) is None
    with pytest.raises(ValueError, match="zero"):
        reliability(np.zeros(100), np.ones(100), 3)


def fresh(n_atoms, seed, known=True, calibrated=True, kind="committee"):
    """Evidence of a round of four random frames and two chosen ones."""
    spread, error = known_errors(6 * n_atoms, seed)
    frame = np.repeat(np.arange(6), n_atoms)
    return {
        "spread_kind": np.array(kind),
        "spread_eV_per_A": spread,
        "test_spread_eV_per_A": spread,
        "test_error_eV_per_A": error,
        "calibrated_eV_per_A": 3 * spread if calibrated else np.full(len(spread), np.nan),
        "error_eV_per_A": error,
        "error_is_random": frame < 4,
        "error_frame": frame,
        "spread_is_known": np.array(known),
    }


def test_only_random_frames_that_were_predicted_before_are_pooled():
    rounds = {0: fresh(65, 0, known=False), 1: fresh(65, 1, calibrated=False), 2: fresh(65, 2), 3: fresh(65, 3), 4: {}}
    pooled = pool_fresh_errors(rounds)
    assert pooled.rounds == (2, 3)
    assert pooled.n_frames == 8
    first = rounds[2]["error_is_random"]
    assert pooled.error_eV_per_A[:260] == pytest.approx(rounds[2]["error_eV_per_A"][first])
    content = json.loads(json.dumps(reliability_json(pooled.reliability())))
    assert set(content) == {"n_frames", "n_atoms", "deciles", "coverage68", "coverage95"}
    assert (content["n_frames"], content["n_atoms"]) == (8, 520)
    assert len(content["deciles"]) == 10
    assert content["coverage68"] == pytest.approx(0.68, abs=0.08)
    squares = [decile["true_eV_per_A"] ** 2 for decile in content["deciles"]]
    assert np.mean(squares) == pytest.approx(np.mean(pooled.error_eV_per_A**2))
    assert pool_fresh_errors({}).reliability() is None


def test_spreads_of_two_kinds_are_never_pooled():
    """A campaign that changed from a committee to the last layer in round 3."""
    rounds = {1: fresh(65, 1), 2: fresh(65, 2)}
    both = rounds | {3: fresh(65, 3, kind="last_layer"), 4: fresh(65, 4, kind="last_layer")}
    both[3] |= {"spread_eV_per_A": 100 * both[3]["spread_eV_per_A"]}

    assert pool_fresh_errors(rounds).rounds == (1, 2)
    pooled = pool_fresh_errors(both)
    assert (pooled.rounds, pooled.kind) == ((3, 4), "last_layer")

    assert calibrate_from(rounds, "last_layer") is None
    assert calibrate_from(both, "committee") is None
    alone = {round_: both[round_] for round_ in (3, 4)}
    assert calibrate_from(both, "last_layer") == calibrate_from(alone, "last_layer")
    # Only the labels of round 4 were predicted by models whose spreads on the test frames are of the same kind.
    assert calibrate_from(both, "last_layer").n_points == 4 * 65
    assert calibrate_from({}, "last_layer") is None


def test_test_frames_calibrate_until_there_are_random_ones_of_the_same_kind():
    first = fresh(65, 0, known=False, kind="last_layer")
    test = fit_calibration(first["test_spread_eV_per_A"], first["test_error_eV_per_A"])
    assert calibrate_from({0: first}, "last_layer") == test
    assert calibrate_from({0: first}, "committee") is None
    assert calibrate_from({0: first, 1: fresh(65, 1, kind="last_layer")}, "last_layer") != test


def test_a_spread_that_shrinks_while_the_error_does_not_stays_calibrated():
    """As that of the last layer does with every frame it is fitted to, once the error has come to rest."""
    shrinking = {}
    for round_ in range(6):
        arrays = fresh(65, round_, known=round_ > 0, kind="last_layer")
        shrunk = {
            "test_spread_eV_per_A": 0.7**round_ * arrays["test_spread_eV_per_A"],
            "spread_eV_per_A": 0.7 ** (round_ - 1) * arrays["spread_eV_per_A"],
        }
        shrinking[round_] = arrays | shrunk
    calibration = calibrate_from(shrinking, "last_layer")
    spread, error = known_errors(65 * 100, 9)
    check = reliability(calibration(0.7**5 * spread), error, 100)
    assert check.calibration_error < 0.1
    assert check.coverage68 == pytest.approx(0.68, abs=0.03)


@pytest.mark.parametrize(("spread", "error"), [([1.0], [1.0, 2.0]), ([-1.0], [1.0]), ([np.nan], [1.0])])
def test_bad_numbers_are_refused(spread, error):
    with pytest.raises(ValueError, match="spread"):
        fit_calibration(spread, error)
