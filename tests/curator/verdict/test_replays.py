"""Campaigns replayed with kinetic Monte Carlo for the dynamics, measured by the estimator that measures real ones."""

import math
from collections.abc import Sequence
from dataclasses import asdict

import kmc
import numpy as np
from histories import Campaign
from scipy.stats import chi2

from curator.datasets.units import KB_EV_PER_K
from curator.diffusion.measurement import as_json, diffusivity_of_positions, fit_arrhenius
from curator.verdict.convergence import has_settled, judge
from curator.verdict.rule import StopRule

EA_EV = 0.24
ATTEMPTS_PER_PS = 10.0
TEMPERATURES_K = (600.0, 900.0, 1400.0)
FIRST_PS = 50.0
N_REPLICAS = 2
INTERVAL_PS = 1.0
RULE = StopRule(tolerance_eV=0.08)
N_LOOKS = 4


def measured(runs: Sequence[Sequence[np.ndarray]]) -> dict:
    """What a round's JSON says of the runs at each temperature."""
    found = [
        diffusivity_of_positions(
            of_temperature,
            np.array([3, 9]),
            1000 * np.eye(3),
            1000 * INTERVAL_PS,
            mobile="Li",
            unwrapped=True,
            temperature_K=temperature_K,
            hop_length_A=kmc.HOP_LENGTH_A,
            equilibration_ps=0.0,
            tracer=False,
        )
        for temperature_K, of_temperature in zip(TEMPERATURES_K, runs, strict=True)
    ]
    fit = fit_arrhenius(found)
    return {"diffusion": [as_json(d) for d in found], "arrhenius": None if fit is None else as_json(fit)}


def replay(campaign: Campaign, seed: int) -> tuple[list[dict], float]:
    """Rounds of a campaign until it converges, and the activation energy of the last round's model.

    What a verdict buys is run as further trajectories of the lengths it asks for.
    """
    rng = np.random.default_rng(seed)
    rounds: list[dict] = []
    for k in range(campaign.n_rounds):
        rounds.append(campaign.round(k, seed))
        true_eV = EA_EV + campaign.bias_eV * math.exp(-k / campaign.decay) + campaign.chance_eV(k, seed)[0]
        if not has_settled(rounds, RULE):
            continue
        runs: list[list[np.ndarray]] = [[] for _ in TEMPERATURES_K]
        more_ps = [FIRST_PS] * len(TEMPERATURES_K)
        for _ in range(N_LOOKS):
            for of_temperature, temperature_K, duration_ps in zip(runs, TEMPERATURES_K, more_ps, strict=True):
                rate = ATTEMPTS_PER_PS * math.exp(-true_eV / (KB_EV_PER_K * temperature_K))
                if duration_ps > 2 * INTERVAL_PS:
                    of_temperature += [kmc.defect(rng, rate, duration_ps, INTERVAL_PS) for _ in range(N_REPLICAS)]
            rounds[-1] |= measured(runs)
            verdict = judge(rounds, RULE)
            if verdict.next_purchase.kind != "md":
                break
            assert verdict.md_plan is not None
            more_ps = [(t.needed_ps - t.time_ps) / N_REPLICAS for t in verdict.md_plan.temperatures]
        rounds[-1] |= asdict(verdict)
        if verdict.verdict == "converged":
            return rounds, true_eV
    return rounds, true_eV


BIASES = [(0.15, 1.2), (-0.12, 1.5), (0.25, 1.0), (-0.08, 2.0), (0.1, 1.8)]
"""Error of the barrier at the start, in eV, and rounds in which it decays."""


def test_campaigns_converge_at_the_true_activation_energy():
    """Of ten campaigns of twelve rounds at most, one may still be measuring; none converges elsewhere."""
    deviations = []
    for seed, (bias_eV, decay) in enumerate(2 * BIASES, 1):
        rounds, true_eV = replay(Campaign(bias_eV=bias_eV, decay=decay, seed_eV=0.004), seed)
        if rounds[-1]["verdict"] != "converged":
            continue
        fit = rounds[-1]["arrhenius"]
        assert abs(fit["Ea_eV"] - EA_EV) < RULE.tolerance_eV
        assert fit["error_eV"] < RULE.tolerance_eV / 3
        deviations.append((fit["Ea_eV"] - true_eV) / fit["error_eV"])
    assert len(deviations) >= 9
    assert sum(deviation**2 for deviation in deviations) < chi2.ppf(0.99, len(deviations))
