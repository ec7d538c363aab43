"""How often the stopping rule stops too early, and what it costs, beside two rules of thumb on the same histories.

Run it as ``python tests/benchmarks/bench_stopping.py``; it takes some 14 minutes of one core and prints the tables
of ``docs/convergence.md``. Each line is 1,000 simulated campaigns of at most 12 rounds
(``tests/curator/histories.py``). Errors of the model decay over the rounds as ``b exp(-k / τ)``: in the barrier, where
the reference sees them; or in the activation energy or the diffusivities alone, where only molecular dynamics can.

Columns: standard error of ln D after the first 100 ps at a temperature; then for the rule, of 1,000 campaigns, those
that stop; false stops, with the activation energy off by more than the tolerance; stops with a diffusivity off by more
than its factor; median round, counted from 0, and median MD in ns of those that stop. For the rules of thumb, which
take 100 ps at each of three temperatures in every round: false stops, diffusivities off, round. The rule takes what
it asks for, at most twice a round. A second table shows what stricter and laxer rules make of errors that no reference
sees, a third what it is worth to measure a round more or less often, with the MD that nine of ten campaigns need, a
fourth what the same MD in each round, 1.5 ns, tells when it is spread over fewer or more temperatures.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median, quantiles

sys.path.insert(0, str(Path(__file__).parents[1] / "curator"))
from histories import RULE, Campaign, Outcome

N_CAMPAIGNS = 1000
N_ROUNDS = 12
SETTINGS: dict[str, dict[str, float]] = {
    "no error of the model": {"bias_eV": 0.0},
    "barrier, 0.1 eV, τ 1.5": {"bias_eV": 0.1, "decay": 1.5},
    "barrier, 0.1 eV, τ 4": {"bias_eV": 0.1, "decay": 4},
    "barrier, 0.1 eV, τ 20": {"bias_eV": 0.1, "decay": 20},
    "Ea alone, 0.1 eV, τ 2": {"bias_eV": 0.0, "hidden_bias_eV": 0.1, "hidden_decay": 2},
    "Ea alone, 0.3 eV, τ 2": {"bias_eV": 0.0, "hidden_bias_eV": 0.3, "hidden_decay": 2},
    "Ea alone, 0.1 eV, τ 4": {"bias_eV": 0.0, "hidden_bias_eV": 0.1, "hidden_decay": 4},
    "Ea alone, 0.3 eV, τ 4": {"bias_eV": 0.0, "hidden_bias_eV": 0.3, "hidden_decay": 4},
    "Ea alone, 0.1 eV, τ 8": {"bias_eV": 0.0, "hidden_bias_eV": 0.1, "hidden_decay": 8},
    "Ea alone, 0.1 eV, for ever": {"bias_eV": 0.0, "hidden_bias_eV": 0.1, "hidden_decay": 1e9},
    "ln D alone, 1.5, τ 2": {"bias_eV": 0.0, "hidden_ln_D": 1.5, "hidden_decay": 2},
    "ln D alone, 3, τ 4": {"bias_eV": 0.0, "hidden_ln_D": 3.0, "hidden_decay": 4},
    "ln D alone, 1.5, τ 8": {"bias_eV": 0.0, "hidden_ln_D": 1.5, "hidden_decay": 8},
}
NOISES = (0.05, 0.2)
COLUMNS = (
    "error of the model",
    "SE(ln D)",
    *("stop", "false", "D off", "round", "MD"),
    *("change < tolerance twice: false", "D off", "round"),
    *("95 % overlap twice: false", "D off", "round"),
)


VARIANTS = {
    "default": RULE,
    "n_compare 1": replace(RULE, n_compare=1),
    "n_compare 1, window 2": replace(RULE, n_compare=1, window=2),
    "window 5": replace(RULE, window=5),
    "n_compare 4, window 6": replace(RULE, n_compare=4, window=6),
}
"""Other rules, on the errors that no reference sees."""
UNSEEN = ("Ea alone, 0.1 eV, τ 4", "Ea alone, 0.1 eV, τ 8")
N_MEASUREMENTS = (1, 2, 3, 4, 5)
TEMPERATURES_K = {
    "500, 1000": (500.0, 1000.0),
    "500, 700, 1000": (500.0, 700.0, 1000.0),
    "500, 600, 700, 850, 1000": (500.0, 600.0, 700.0, 850.0, 1000.0),
    "700, 1000": (700.0, 1000.0),
}


def main() -> None:
    """Print the tables: rules of thumb, stricter and laxer ones, more and less MD, more and fewer temperatures."""
    compare_with_rules_of_thumb()
    print()
    compare_variants()
    print()
    compare_measurements()
    print()
    compare_temperatures()


def compare_with_rules_of_thumb() -> None:
    """Print the first table."""
    print(f"| {' | '.join(COLUMNS)} |")
    print("|---" * len(COLUMNS) + "|")
    for name, errors in SETTINGS.items():
        for noise in NOISES:
            campaign = Campaign(**errors, error_ln_D=noise, n_rounds=N_ROUNDS)
            rule = [campaign.run(seed) for seed in range(N_CAMPAIGNS)]
            change, overlap = zip(*(campaign.run_naively(seed) for seed in range(N_CAMPAIGNS)), strict=True)
            cells = [name, f"{noise:g}", *told_with_price(rule), *told(change), *told(overlap)]
            print(f"| {' | '.join(cells)} |", flush=True)


def compare_variants() -> None:
    """Print the second table."""
    columns = ("error of the model", "rule", "stop", "false", "D off", "round", "MD")
    print(f"| {' | '.join(columns)} |")
    print("|---" * len(columns) + "|")
    for name in UNSEEN:
        campaign = Campaign(**SETTINGS[name], error_ln_D=NOISES[0], n_rounds=N_ROUNDS)
        for variant, rule in VARIANTS.items():
            outcomes = [campaign.run(seed, rule) for seed in range(N_CAMPAIGNS)]
            print(f"| {name} | {variant} | {' | '.join(told_with_price(outcomes))} |", flush=True)


def compare_measurements() -> None:
    """Print the third table."""
    columns = (
        "error of the model",
        "measurements of a round",
        "stop",
        "false",
        "D off",
        "round",
        "MD",
        "MD of nine in ten",
    )
    print(f"| {' | '.join(columns)} |")
    print("|---" * len(columns) + "|")
    for name in ("no error of the model", *UNSEEN):
        campaign = Campaign(**SETTINGS[name], error_ln_D=NOISES[1], n_rounds=N_ROUNDS)
        for n_looks in N_MEASUREMENTS:
            outcomes = [campaign.run(seed, n_looks=n_looks) for seed in range(N_CAMPAIGNS)]
            print(f"| {name} | {n_looks} | {' | '.join(told_with_most(outcomes))} |", flush=True)


def compare_temperatures() -> None:
    """Print the fourth table."""
    columns = ("error of the model", "temperatures in K", "stop", "false", "D off", "round", "MD", "MD of nine in ten")
    print(f"| {' | '.join(columns)} |")
    print("|---" * len(columns) + "|")
    for name in ("no error of the model", UNSEEN[0]):
        fixed = Campaign(**SETTINGS[name], error_ln_D=NOISES[1], n_rounds=N_ROUNDS, first_ps=1500)
        for told_K, temperatures_K in TEMPERATURES_K.items():
            campaign = replace(fixed, temperatures_K=temperatures_K)
            outcomes = [campaign.run(seed, n_looks=1) for seed in range(N_CAMPAIGNS)]
            print(f"| {name} | {told_K} | {' | '.join(told_with_most(outcomes))} |", flush=True)


def told_with_most(outcomes: Sequence[Outcome]) -> list[str]:
    """As `told_with_price`, and the MD that nine of ten campaigns do not exceed, whether they stop or not."""
    return [*told_with_price(outcomes), f"{quantiles([outcome.md_ps / 1000 for outcome in outcomes], n=10)[-1]:.1f}"]


def told_with_price(outcomes: Sequence[Outcome]) -> list[str]:
    """Campaigns that stop, what is wrong with them, and the MD they took."""
    md_ns = [outcome.md_ps / 1000 for outcome in outcomes if outcome.round is not None]
    return [f"{len(md_ns)}", *told(outcomes), f"{median(md_ns):.1f}" if md_ns else "-"]


def told(outcomes: Sequence[Outcome]) -> list[str]:
    """False stops, stops with a diffusivity that is off, and median round of those that stop."""
    stopped = [outcome for outcome in outcomes if outcome.round is not None]
    n_false = sum(outcome.off_eV > RULE.tolerance_eV for outcome in stopped)
    n_off = sum(outcome.off_ln_D > math.log(RULE.diffusivity_factor) for outcome in stopped)
    rounds = [outcome.round for outcome in stopped if outcome.round is not None]
    return [f"{n_false}", f"{n_off}", f"{median(rounds):.0f}" if rounds else "-"]


if __name__ == "__main__":
    main()
