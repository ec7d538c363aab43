import math

import numpy as np
import pytest
from histories import Campaign

from curator.verdict.history import counted, read_round, seed_error_eV
from curator.verdict.rule import StopRule

RULE = StopRule(window=3, min_new_labels=4)


def rounds(*members_eV: list[float | None], n_new_labels: int = 10):
    return [
        read_round({"round": k, "n_new_labels": n_new_labels, "barrier_members_eV": members})
        for k, members in enumerate(members_eV)
    ]


def test_the_chance_of_training_is_pooled_over_the_window():
    history = rounds([0.0, 0.9], [0.10, 0.12], [0.11, 0.11], [0.10, 0.13])
    # Half of the squared difference is the variance of a pair; the first round lies before the window.
    assert seed_error_eV(history, RULE) == pytest.approx(math.sqrt((0.02**2 + 0.03**2) / 2 / 3))
    assert seed_error_eV(rounds([0.1, 0.2, 0.6]), RULE) == pytest.approx(np.std([0.1, 0.2, 0.6], ddof=1))


def test_pairs_of_members_give_the_standard_deviation_of_their_seeds():
    campaign = Campaign(bias_eV=0.0, seed_eV=0.01, n_rounds=12)
    pooled = [
        seed_error_eV([read_round(campaign.round(k, seed)) for k in range(12)], StopRule(window=12))
        for seed in range(60)
    ]
    assert np.sqrt(np.mean(np.square(pooled))) == pytest.approx(0.01, rel=0.08)


def test_one_member_or_none_tells_nothing_of_chance():
    assert seed_error_eV(rounds([], [0.1], [0.1, None]), RULE) == 0.0


def test_rounds_without_labels_are_not_counted():
    history = rounds([0.1, 0.2], n_new_labels=3)
    assert counted(history, RULE) == []
    assert seed_error_eV(history, RULE) == 0.0


def test_what_is_missing_or_no_number_is_none():
    read = read_round({"barrier_eV": math.nan, "diffusion": [{"temperature_K": 500, "D_A2_per_ps": 0.0}]})
    assert (read.round, read.barrier_eV, read.gap_eV, read.Ea, read.time_ps) == (0, None, None, None, 0.0)
    assert read.points[0].ln_D is None
    assert not read.is_measured
