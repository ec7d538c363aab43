"""Which uncertainty knows where a model is wrong, and what it costs: committees, the last layer, feature distance.

Run it as ``python tests/benchmarks/bench_uncertainty.py``; it takes some minutes of one core. `mini-halides` is
fine-tuned (``naive``) on frames of its own molecular dynamics of LiF with an interstitial, labelled by CHGNet r2SCAN.
What each method says of a frame is compared with the true force error on

- thermal: other trajectories of the same cell, up to a higher temperature;
- other LiF: surfaces, vacancies, other lattices, hot cells and contacts of the shipped frames, also relabelled.

Columns: models to train; CPU time of a prediction with its uncertainty over that of the forces alone; Spearman's rank
correlation of atoms, and of frames (`frame_score` against the rms error of the frame); then, with a calibration on
eight random thermal frames, mean over 20 draws, the error over deciles of the prediction and the coverage on the
others; last, the frame correlation on the other structures.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import process_time

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from curator.backends.base import LabellerSpec
from curator.backends.labellers import label_frame
from curator.datasets.frame import Frame
from curator.datasets.label import Label, Provenance, Record
from curator.datasets.mini_halides.frames import probe_records, replay_records
from curator.datasets.sources import build_seed
from curator.explore import candidates, plan_exploration
from curator.learners.base import Prediction
from curator.learners.committee import bootstrap
from curator.learners.distance import fit_gate, outside
from curator.learners.foundation import load_foundation
from curator.learners.last_layer import fit_last_layer, last_layer_spread
from curator.learners.mace import MaceModel
from curator.learners.strategies import strategy
from curator.learners.train import fit
from curator.md import run_md
from curator.uncertainty import committee_spread, fit_calibration, force_error, frame_score, reliability

LABELLER = LabellerSpec("pseudolabel", "chgnet:r2scan", device="cpu")
TRAIN_K, TEST_K = (600.0, 900.0), (600.0, 900.0, 1200.0)
OTHER_KINDS = ("cesiumchloride", "contact", "hot", "surface", "vacancy", "zincblende")
LIF = {3, 9}
N_MEMBERS, N_EPOCHS, N_CALIBRATE, N_DRAWS = 4, 20, 8, 20
Scores = list[NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Method:
    """An uncertainty: how many models it needs, and the spread of each atom of some frames."""

    name: str
    n_models: int
    spread: Callable[[Sequence[Frame]], Scores]


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    foundation = load_foundation("mini-halides", device="cpu")
    explored = explore(foundation, TRAIN_K, seed=1)
    train, valid = labelled(explored[::2]), labelled(explored[1::6])
    thermal = labelled(explore(foundation, TEST_K, seed=2))
    shipped = [*replay_records(), *probe_records()]
    others = [r.frame for r in shipped if elements_of(r.frame) == LIF and r.provenance.source in OTHER_KINDS]
    other = labelled(others)
    halides = [r.frame for r in probe_records() if not elements_of(r.frame) <= LIF]
    print(f"{len(train)} training frames, {len(thermal)} thermal, {len(other)} other LiF, {len(halides)} other halides")

    members = []
    for seed in range(N_MEMBERS):
        drawn = bootstrap(train, seed) if seed else train
        member, _ = fit(foundation, drawn, valid, strategy("naive", max_epochs=N_EPOCHS), seed=seed)
        members.append(member)
    model, frames = members[0], [record.frame for record in train]
    gate = fit_gate(*features_of(model, frames, stacked=True))

    def committee(n: int) -> Callable[[Sequence[Frame]], Scores]:
        return lambda some: [
            committee_spread(forces) for forces in zip(*(forces_of(m, some) for m in members[:n]), strict=True)
        ]

    def last_layer(n: int | None) -> Callable[[Sequence[Frame]], Scores]:
        fitted = fit_last_layer(model, frames, np.random.default_rng(0), n_directions=n)
        return lambda some: (forces_of(model, some), last_layer_spread(model, fitted, some))[1]

    def distance(some: Sequence[Frame]) -> Scores:
        features, numbers = features_of(model, some)
        return [gate.distance(x, z) for x, z in zip(features, numbers, strict=True)]

    methods = [
        *(Method(f"committee of {n}", n, committee(n)) for n in (2, 4)),
        *(Method(f"last layer, {n or 'all'} directions", 1, last_layer(n)) for n in (8, 16, None)),
        Method("feature distance", 1, distance),
    ]
    print(f"{'':28} models  cost  atoms frames  decile error  68 %  95 %  other LiF")
    for method in methods:
        print(row(method, model, thermal, other))
    for name, some in (
        ("thermal", [r.frame for r in thermal]),
        ("other LiF", others),
        ("other halides", halides),
    ):
        share = outside(gate, *features_of(model, some)).mean()
        print(f"beyond the limit of the feature distance: {share:.0%} of the {name} frames")


def row(method: Method, model: MaceModel, thermal: Sequence[Record], other: Sequence[Record]) -> str:
    """One line of the table."""
    frames = [record.frame for record in thermal]
    spread, seconds = timed(lambda: method.spread(frames))
    _, once = timed(lambda: forces_of(model, frames))
    error = errors_of(model, thermal)
    atoms = spearmanr(np.concatenate(spread), np.concatenate(error)).statistic
    checks = []
    for draw in range(N_DRAWS):
        order = np.random.default_rng(draw).permutation(len(frames)).tolist()
        known, unseen = order[:N_CALIBRATE], order[N_CALIBRATE:]
        calibration = fit_calibration(pooled(spread, known), pooled(error, known))
        assert calibration is not None
        check = reliability(calibration(pooled(spread, unseen)), pooled(error, unseen), len(unseen))
        assert check is not None
        checks.append((check.calibration_error, check.coverage68, check.coverage95))
    decile_error, coverage68, coverage95 = np.mean(checks, axis=0)
    elsewhere = rank_of_frames(method.spread([record.frame for record in other]), errors_of(model, other))
    return (
        f"{method.name:28} {method.n_models:6d} {seconds / once:5.1f} {atoms:6.2f} {rank_of_frames(spread, error):6.2f}"
        f" {decile_error:13.2f} {coverage68:5.2f} {coverage95:5.2f} {elsewhere:10.2f}"
    )


def rank_of_frames(spread: Scores, error: Scores) -> float:
    """Spearman's correlation of the score of a frame with its rms error."""
    return float(spearmanr([frame_score(s) for s in spread], [np.sqrt(np.mean(e**2)) for e in error]).statistic)


def errors_of(model: MaceModel, records: Sequence[Record]) -> Scores:
    """True force error of each atom."""
    predicted = forces_of(model, [record.frame for record in records])
    return [force_error(forces, record.label.forces) for forces, record in zip(predicted, records, strict=True)]


def predict(model: MaceModel, frames: Sequence[Frame]) -> list[Prediction]:
    """Forces and node features."""
    return model.predict(frames, ("energy", "forces", "node_features"))


def forces_of(model: MaceModel, frames: Sequence[Frame]) -> Scores:
    """Forces on each frame."""
    return [p.forces for p in predict(model, frames) if p.forces is not None]


def features_of(model: MaceModel, frames: Sequence[Frame], *, stacked: bool = False) -> tuple:
    """Node features and atomic numbers of each frame, or of all atoms in one array."""
    features = [p.node_features for p in predict(model, frames)]
    numbers = [frame.numbers for frame in frames]
    return (np.concatenate(features), np.concatenate(numbers)) if stacked else (features, numbers)


def elements_of(frame: Frame) -> set[int]:
    """Atomic numbers in a frame."""
    return set(frame.numbers.tolist())


def explore(foundation: MaceModel, temperatures_K: Sequence[float], seed: int) -> list[Frame]:
    """Frames of molecular dynamics of LiF with an interstitial, 33 atoms."""
    start = build_seed("lif-interstitial", supercell=(2, 2, 1)).frame
    runs = plan_exploration([start], temperatures_K, 1, seed=(seed,), duration_ps=1.8)
    calculator = foundation.calculator()
    done = [run_md(run.start, calculator, run.settings, seed=run.seed) for run in runs]
    found = candidates(list(zip(runs, done, strict=True)), interval_ps=0.1)
    return [candidate.frame for candidate in found]


def labelled(frames: Sequence[Frame], labeller: LabellerSpec = LABELLER) -> list[Record]:
    """Label frames; those that fail are left out."""
    labels = [(frame, label_frame(labeller, frame)) for frame in frames]
    origin = Provenance(0, "bench", "bench", "train", "random")
    return [Record(frame, label, origin) for frame, label in labels if isinstance(label, Label)]


def pooled(scores: Scores, idx: Sequence[int]) -> NDArray[np.float64]:
    """Atoms of some frames in one array."""
    return np.concatenate([scores[i] for i in idx])


def timed(call: Callable[[], Scores]) -> tuple[Scores, float]:
    """What a call returns, and its CPU seconds."""
    began = process_time()
    found = call()
    return found, process_time() - began


if __name__ == "__main__":
    main()
