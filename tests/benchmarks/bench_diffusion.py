"""Estimators of diffusivities against kinetic Monte Carlo of known D: bias, scatter, coverage.

``python tests/benchmarks/bench_diffusion.py [N_REPEATS [N_REFERENCE]]``, 2000 and 200 by default: so many repeats of
our estimator at each setting, and of the comparison with others. Those are told from which lag on the motion is
diffusive, as ours found it; kinisi also goes by a rule of thumb. MD is how much of it takes an estimator to the error
of ours: the ratio of the variances. Ours takes its CPU time for the sum and the ions together. The standard error of a
coverage is 0.5 % with 2000 repeats and 1.5 % with 200.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipp as sc
from kinisi.diffusion import Diffusion
from kinisi.displacement import calculate_msd, calculate_mstd
from kinisi.parser import Parser
from pymatgen.analysis.diffusion.analyzer import DiffusionAnalyzer
from pymatgen.core import Lattice, Structure

from curator.diffusion.carriers import walks_of
from curator.diffusion.walk import Floats

sys.path.insert(0, str(Path(__file__).parents[1] / "curator"))
import kmc

INTERVAL_PS = 0.1
N_LAGS = 40

Estimate = tuple[float, float, float]
"""D in Å²/ps, and the ends of its 95 % interval."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Walks to estimate: carriers, hops of all of them in all replicas, length of a replica, kind of hops."""

    name: str
    n_carriers: int
    n_hops: int
    time_ps: float
    n_replicas: int = 1
    correlation: float = 0.0
    back_jumps: float = 0.0

    @property
    def rate_per_ps(self) -> float:
        """Hops of a carrier in a picosecond."""
        return self.n_hops / (self.n_carriers * self.time_ps * self.n_replicas)

    @property
    def D_A2_per_ps(self) -> float:
        """Diffusivity of a carrier."""
        return float(kmc.known_D(self.rate_per_ps, self.correlation))

    def runs(self, rng: np.random.Generator) -> list[Floats]:
        """Positions of the carriers; a defect's is the sum of the ions, and vibrates with all of them."""
        vibration_A = 0.57 if self.n_carriers == 1 else 0.1
        return [
            kmc.hoppers(
                rng,
                self.n_carriers,
                self.rate_per_ps,
                self.time_ps,
                INTERVAL_PS,
                vibration_A,
                self.correlation,
                self.back_jumps,
            )
            for _ in range(self.n_replicas)
        ]


SETTINGS = (
    Setting("defect", 1, 10, 100),
    Setting("defect", 1, 30, 100),
    Setting("defect", 1, 40, 12.5, 8),
    Setting("defect", 1, 100, 25, 4),
    Setting("defect", 1, 100, 200),
    Setting("defect", 1, 400, 100, 2),
    Setting("defect", 1, 1000, 50, 4),
    Setting("defect", 1, 4000, 50, 8),
    Setting("defect, 30 % of hops undone in 0.2 ps", 1, 100, 200, 1, 0.0, 0.3),
    Setting("defect, 50 % of hops undone in 0.2 ps", 1, 400, 50, 4, 0.0, 0.5),
    Setting("defect, cosine of successive hops -0.2", 1, 400, 50, 4, -0.2),
    Setting("16 carriers", 16, 40, 100),
    Setting("16 carriers", 16, 320, 100),
    Setting("16 carriers", 16, 1000, 25, 8),
    Setting("16 carriers", 16, 4000, 100, 2),
    Setting("16 carriers, 30 % of hops undone in 0.2 ps", 16, 320, 100, 1, 0.0, 0.3),
    Setting("16 carriers, cosine of successive hops -0.2", 16, 1000, 100, 2, -0.2),
    Setting("defect, cosine of successive hops -0.2, slow", 1, 100, 200, 1, -0.2),
    Setting("defect, cosine of successive hops -0.4, slow", 1, 200, 400, 1, -0.4),
)
COMPARED = (
    (Setting("interstitial", 1, 100, 200), 33),
    (Setting("interstitial", 1, 100, 50, 4), 33),
    (Setting("interstitial", 1, 400, 100, 4), 33),
    (Setting("16 carriers", 16, 320, 100), 0),
)
"""Settings, and the ions that carry a defect; 0 for independent carriers."""


def ours(runs: Sequence[Floats], n_carriers: int) -> dict[str, tuple[Estimate, int]]:
    """Our estimates from the sum over the ions and from each of them, and their strides."""
    walks = walks_of(runs, INTERVAL_PS, kmc.HOP_LENGTH_A, n_carriers)
    assert walks is not None
    assert walks.of_ions is not None
    return {
        of: ((walk.coefficient.D_A2_per_ps, *walk.coefficient.ci95_A2_per_ps), walk.plateau.fit.stride)
        for of, walk in (("sum", walks.of_sum), ("ion", walks.of_ions))
    }


def kinisi(runs: Sequence[Floats], stride: int, *, collective: bool) -> Estimate:
    """kinisi's Bayesian regression, of the ions or of their sum, on geometric lags.

    All linear lags, its default, take a covariance matrix of ``n_frames²`` and minutes.
    """
    ions = np.concatenate([run - run[0] for run in runs], axis=1)
    lags = np.unique(np.geomspace(1, len(ions) - 1, N_LAGS).astype(int))
    # In a cell far larger than any displacement kinisi leaves unwrapped positions alone.
    length = 1e3 * (1 + float(np.abs(ions).max()))
    parser = Parser(
        coords=sc.array(dims=["time", "particle", "dimension"], values=ions / length),
        latt=sc.array(
            dims=["time", "dimension1", "dimension2"],
            values=np.tile(length * np.eye(3), (len(ions), 1, 1)),
            unit=sc.units.angstrom,
        ),
        time_step=sc.scalar(INTERVAL_PS, unit="ps"),
        step_skip=sc.scalar(1),
        dt=sc.array(dims=["time interval"], values=lags * INTERVAL_PS, unit="ps"),
        specie_indices=sc.arange("particle", ions.shape[1]),
        drift_indices=sc.array(dims=["particle"], values=np.empty(0, dtype=int)),
    )
    n_ions = runs[0].shape[1]
    curve = calculate_mstd(parser, len(runs), progress=False) if collective else calculate_msd(parser, progress=False)
    fit = Diffusion(dg=curve)
    fit.bayesian_regression(
        start_dt=sc.scalar((stride - 0.5) * INTERVAL_PS, unit="ps"), n_samples=500, n_burn=300, progress=False
    )
    # Its collective displacement is squared and divided by the ions.
    samples = np.asarray(fit.gradient.values) / 6 * (n_ions if collective else 1)
    low, high = np.quantile(samples, (0.025, 0.975))
    return float(samples.mean()), float(low), float(high)


def kinisi_from_5_percent(runs: Sequence[Floats], stride: int, *, collective: bool) -> Estimate:
    """The same from lags of 5 % of the length, a rule of thumb for when motion is surely diffusive."""
    return kinisi(runs, max(stride, len(runs[0]) // 20), collective=collective)


def straight_line(runs: Sequence[Floats], stride: int, *, collective: bool) -> Estimate:
    """Least squares through the mean squared displacement at 10 to 50 % of the length, and the error of its slope."""
    paths = [run.sum(axis=1, keepdims=True) if collective else run for run in runs]
    n = len(paths[0])
    lags = np.unique(np.linspace(max(stride, n // 10), n // 2, N_LAGS).astype(int))
    msd = [np.mean([((p[lag:] - p[:-lag]) ** 2).sum(axis=2).mean() for p in paths]) for lag in lags]
    (slope, _), covariance = np.polyfit(lags * INTERVAL_PS, msd, 1, cov=True)
    D, error = slope / 6, np.sqrt(covariance[0, 0]) / 6
    return D, D - 1.96 * error, D + 1.96 * error


def pymatgen(runs: Sequence[Floats], stride: int, *, collective: bool) -> Estimate:
    """DiffusionAnalyzer of pymatgen-analysis-diffusion with its defaults; replicas stand side by side, as more ions."""
    ions = np.concatenate([run - run[0] for run in runs], axis=1)
    n_ions, length = ions.shape[1], 1e3 * (1 + float(np.abs(ions).max()))
    # It insists on a framework; this one is at rest.
    structure = Structure(Lattice.cubic(length), ["Li"] * n_ions + ["F"], np.zeros((n_ions + 1, 3)))
    displacements = np.pad(ions, ((0, 0), (0, 1), (0, 0))).transpose(1, 0, 2)
    found = DiffusionAnalyzer(structure, displacements, "Li", 800, 1000 * INTERVAL_PS, 1)
    D, error = found.diffusivity, found.diffusivity_std_dev
    if collective:
        n_summed = runs[0].shape[1]
        D, error = found.chg_diffusivity * n_summed, found.chg_diffusivity_std_dev * n_summed
    return 1e4 * D, 1e4 * (D - 1.96 * error), 1e4 * (D + 1.96 * error)


def cells(estimates: Sequence[Estimate], true: float, cpu_s: float) -> tuple[list[str], float]:
    """Cells of a row of a table, and the relative scatter of D."""
    D, low, high = (np.array(estimates) / true).T
    covered = np.mean((low <= 1) & (high >= 1))
    # A straight line may have a negative slope.
    ln_bias = f"{np.log(D).mean():+.3f}" if D.min() > 0 else "-"
    text = [str(len(D)), f"{D.mean() - 1:+.1%}", ln_bias, f"{D.std():.3f}", f"{covered:.1%}"]
    return [*text, f"{1000 * cpu_s / len(D):.1f}"], float(D.std())


def print_row(values: Sequence[str]) -> None:
    """Print a row of a table."""
    print("| " + " | ".join(values) + " |", flush=True)


OTHERS = {
    "kinisi": kinisi,
    "kinisi from 5 %": kinisi_from_5_percent,
    "least squares": straight_line,
    "pymatgen": pymatgen,
}


def our_table(n_repeats: int) -> None:
    """Our estimator at every setting, of the sum over the carriers and, of several, of each."""
    print_row(["walk", "hops", "replicas", "of", "repeats", "bias of D", "of ln D", "sd / D", "covered", "CPU ms"])
    print("| --- |" + " ---: |" * 9)
    for idx, setting in enumerate(SETTINGS):
        rng = np.random.default_rng([1, idx])
        n = setting.n_carriers
        found: dict[str, list[Estimate]] = {"sum": [], **({"ion": []} if n > 1 else {})}
        cpu_s = 0.0
        for _ in range(n_repeats):
            runs = setting.runs(rng)
            began = time.process_time()
            estimates = ours(runs, n)
            cpu_s += time.process_time() - began
            for of in found:
                found[of].append(estimates[of][0])
        for of in found:
            true = setting.D_A2_per_ps * (n if of == "sum" else 1)
            head = [setting.name, str(setting.n_hops), f"{setting.n_replicas} x {setting.time_ps:g} ps", of]
            print_row([*head, *cells(found[of], true, cpu_s)[0]])


def interstitial(setting: Setting, rng: np.random.Generator) -> list[Floats]:
    """Positions of the lithium ions of LiF with an interstitial."""
    mobile = kmc.NUMBERS == 3
    return [
        kmc.collinear(rng, setting.rate_per_ps, setting.time_ps, INTERVAL_PS)[:, mobile]
        for _ in range(setting.n_replicas)
    ]


def comparison(n_repeats: int) -> None:
    """Everyone on the same walks: those of the ions around an interstitial, and independent carriers."""
    print()
    print_row(["walk", "of", "estimator", "repeats", "bias of D", "of ln D", "sd / D", "covered", "CPU ms", "MD"])
    print("| --- | --- | --- |" + " ---: |" * 7)
    for idx, (setting, n_ions) in enumerate(COMPARED):
        rng = np.random.default_rng([2, idx])
        names = [(of, estimator) for of in ("sum", "ion") for estimator in ("ours", *OTHERS)]
        found: dict[tuple[str, str], list[Estimate]] = {name: [] for name in names}
        cpu_s = dict.fromkeys(names, 0.0)
        for _ in range(n_repeats):
            runs = interstitial(setting, rng) if n_ions else setting.runs(rng)
            began = time.process_time()
            estimates = ours(runs, setting.n_carriers)
            ours_s = time.process_time() - began
            for of, estimator in names:
                estimate, stride = estimates[of]
                began = time.process_time()
                if estimator == "ours":
                    began -= ours_s
                else:
                    estimate = OTHERS[estimator](runs, stride, collective=of == "sum")
                found[of, estimator].append(estimate)
                cpu_s[of, estimator] += time.process_time() - began
        title = f"{setting.name}, {setting.n_hops} hops in {setting.n_replicas} x {setting.time_ps:g} ps"
        true = {
            "sum": setting.n_carriers * setting.D_A2_per_ps,
            "ion": setting.D_A2_per_ps * (kmc.TRACER_CORRELATION / n_ions if n_ions else 1),
        }
        for of, estimator in names:
            text, sd = cells(found[of, estimator], true[of], cpu_s[of, estimator])
            _, sd_ours = cells(found[of, "ours"], true[of], 0.0)
            print_row([title, of, estimator, *text, f"{(sd / sd_ours) ** 2:.1f}"])


if __name__ == "__main__":
    our_table(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
    comparison(int(sys.argv[2]) if len(sys.argv) > 2 else 200)
