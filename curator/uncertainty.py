"""How wrong is the model likely to be? A spread, calibrated against errors measured on labels.

The spread is that of a model's last layer (`curator.learners.last_layer`) or that between the members of a committee.
The first has no scale of its own, and members fine-tuned from one foundation agree too well: spread is a number to
calibrate, never to report. How well each kind ranks true errors, and what is left to calibrate, is in
``docs/uncertainty.md``, with the command that measured it. Two kinds are never pooled.

Spread and error are both root mean squares over the three Cartesian components, hence unchanged by a rotation of the
frame and comparable with a force RMSE.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2, spearmanr
from sklearn.isotonic import IsotonicRegression

N_RATIO: int = 10
"""Fewest atoms that calibrate anything."""
N_ISOTONIC: int = 60
"""Fewest atoms for a monotone curve; below, one ratio."""
N_PER_BIN: int = 20
"""Atoms averaged before the monotone fit, so that no single atom sets an end of the curve."""
N_BINS_MAX: int = 40
N_DECILES: int = 10
N_RELIABILITY: int = 100
"""Fewest atoms that say how reliable predicted errors are: ten a decile."""
WITHIN_68, WITHIN_95 = (math.sqrt(chi2.ppf(share, 3) / 3) for share in (0.68, 0.95))
"""Error over predicted error that 68 and 95 % of atoms stay below, if components are Gaussian as wide as predicted.

The sum of three squared components is then distributed as chi-square with three degrees of freedom.
"""


def component_spread(forces: ArrayLike) -> NDArray[np.float64]:
    """Measure the population standard deviation of each force component over the members.

    Parameters
    ----------
    forces
        Forces of K members, eV/Å, shape ``(K, n_atoms, 3)``.

    Returns
    -------
    NDArray
        eV/Å, shape ``(n_atoms, 3)``.

    Raises
    ------
    ValueError
        If the shape is wrong or there are fewer than two members.
    """
    members = np.asarray(forces, dtype=np.float64)
    if members.ndim != 3 or members.shape[2] != 3:
        raise ValueError(f"committee forces must have shape (n_members, n_atoms, 3); got {members.shape}")
    if len(members) < 2:
        raise ValueError("a committee of one has no spread; train at least two members (learn.members: 2)")
    return np.asarray(members.std(axis=0))


def committee_spread(forces: ArrayLike) -> NDArray[np.float64]:
    """Spread of a committee at each atom: rms deviation of a force component from the committee's mean.

    The population (1/K) form, averaged in square over the three components, so that it does not depend on how the
    frame is turned.

    Parameters
    ----------
    forces
        Forces of K members, eV/Å, shape ``(K, n_atoms, 3)``.

    Returns
    -------
    NDArray
        eV/Å, shape ``(n_atoms,)``.
    """
    return _rms(component_spread(forces))


def force_error(predicted: ArrayLike, reference: ArrayLike) -> NDArray[np.float64]:
    """Force error at each atom: rms over the three components, eV/Å, shape ``(n_atoms,)``."""
    difference = np.asarray(predicted, dtype=np.float64) - np.asarray(reference, dtype=np.float64)
    return _rms(difference)


def frame_score(error: ArrayLike, n_top: int = 16) -> float:
    """Predicted error of a frame: mean over its ``n_top`` worst atoms, eV/Å.

    The mean over all atoms dilutes a single defect as the cell grows, and the largest value alone is the noisiest.
    Sixteen are about a defect and its neighbours.
    """
    worst_first = np.sort(np.asarray(error, dtype=np.float64))[::-1]
    if not len(worst_first):
        raise ValueError("a frame without atoms has no score")
    return float(worst_first[:n_top].mean())


@dataclass(frozen=True, slots=True)
class Calibration:
    """Monotone map from spread to expected force error, per atom.

    Linear between its points and constant below the first. Above the last it grows in proportion to the spread: what
    lies beyond everything labelled is what the search is for, and must not tie.

    Attributes
    ----------
    spread_eV_per_A, error_eV_per_A
        Points of the map, both ascending.
    n_points
        Atoms it was fitted to.
    """

    spread_eV_per_A: tuple[float, ...]
    error_eV_per_A: tuple[float, ...]
    n_points: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "spread_eV_per_A", tuple(self.spread_eV_per_A))
        object.__setattr__(self, "error_eV_per_A", tuple(self.error_eV_per_A))

    def __call__(self, spread: ArrayLike) -> NDArray[np.float64]:
        """Predict the rms force error in eV/Å for spreads in eV/Å, same shape."""
        values = np.asarray(spread, dtype=np.float64)
        inside = np.interp(values, self.spread_eV_per_A, self.error_eV_per_A)
        beyond = np.maximum(values / self.spread_eV_per_A[-1], 1.0)
        return np.asarray(inside * beyond)


def fit_calibration(spread: ArrayLike, error: ArrayLike) -> Calibration | None:
    """Calibrate spread against measured error.

    With enough atoms: mean squares over bins of equal count, then isotonic regression of the squared error (the
    variance calibration of Levi et al., Sensors 22, 5540, 2022, made monotone). With fewer: one ratio, the median of
    error over spread.

    Parameters
    ----------
    spread, error
        Per atom, shape ``(n,)``: a spread of one kind, and `force_error` of frames labelled after they were
        predicted. Only frames drawn at random make it unbiased.

    Returns
    -------
    Calibration or None
        None with fewer than 10 atoms of nonzero spread, or if every error is zero.

    Raises
    ------
    ValueError
        If the lengths differ or a number is negative or not finite.
    """
    x, y = _checked(spread, error)
    n_spread = int(np.count_nonzero(x))
    if n_spread < N_RATIO or not y.any():
        return None
    if n_spread < N_ISOTONIC:
        ratio = float(np.median(y[x > 0] / x[x > 0]))
        if ratio == 0:
            return None
        top = float(x.max())
        return Calibration((0.0, top), (0.0, ratio * top), len(x))
    bins = _equal_count_bins(x)
    centre = np.array([_rms(x[b]) for b in bins])
    mean_square = np.array([np.mean(y[b] ** 2) for b in bins])
    fit = IsotonicRegression(increasing=True, out_of_bounds="clip")
    smooth = np.sqrt(fit.fit_transform(centre, mean_square, sample_weight=[len(b) for b in bins]))
    # No spread is certainty: an error-free lowest bin takes the lowest error that was seen.
    smooth = np.maximum(smooth, smooth[smooth > 0].min())
    return Calibration(tuple(centre.tolist()), tuple(smooth.tolist()), len(x))


@dataclass(frozen=True, slots=True)
class Reliability:
    """How well predicted errors matched the measured ones.

    Attributes
    ----------
    predicted_eV_per_A, true_eV_per_A
        Root mean squares in ten bins of equal count, by ascending prediction.
    coverage68, coverage95
        Share of atoms whose error stays within the predicted 68 and 95 % interval (`WITHIN_68`, `WITHIN_95`).
    rank_correlation
        Spearman's, over atoms; None where predictions or errors are all equal.
    n_atoms, n_frames
        What it was measured on. Atoms of one frame are correlated: frames say how much it is worth.
    """

    predicted_eV_per_A: tuple[float, ...]
    true_eV_per_A: tuple[float, ...]
    coverage68: float
    coverage95: float
    rank_correlation: float | None
    n_atoms: int
    n_frames: int

    @property
    def calibration_error(self) -> float:
        r"""Mean over the deciles of \|true - predicted\| / predicted (ENCE of Levi et al., Sensors 22, 5540, 2022)."""
        predicted, true = np.array(self.predicted_eV_per_A), np.array(self.true_eV_per_A)
        return float(np.mean(np.abs(true - predicted) / predicted))


def reliability(predicted: ArrayLike, error: ArrayLike, n_frames: int) -> Reliability | None:
    """Compare predicted with true errors; None for fewer than 100 atoms.

    Only errors that were predicted before their labels were known make it honest, and only frames drawn at random make
    it unbiased.

    Parameters
    ----------
    predicted, error
        Per atom, eV/Å, shape ``(n,)``; predictions are above zero.
    n_frames
        Frames that the atoms belong to.

    Raises
    ------
    ValueError
        If the lengths differ, a number is negative or not finite, or a predicted error is zero.
    """
    x, y = _checked(predicted, error)
    if len(x) < N_RELIABILITY:
        return None
    if not x.all():
        raise ValueError(f"{np.count_nonzero(x == 0)} predicted errors are zero; calibrate the spread first")
    deciles = np.array_split(np.argsort(x, kind="stable"), N_DECILES)
    varied = np.ptp(x) > 0 and np.ptp(y) > 0
    return Reliability(
        predicted_eV_per_A=tuple(float(_rms(x[d])) for d in deciles),
        true_eV_per_A=tuple(float(_rms(y[d])) for d in deciles),
        coverage68=float(np.mean(y <= WITHIN_68 * x)),
        coverage95=float(np.mean(y <= WITHIN_95 * x)),
        rank_correlation=float(spearmanr(x, y).statistic) if varied else None,
        n_atoms=len(x),
        n_frames=n_frames,
    )


SpreadKind = Literal["last_layer", "committee"]
"""What a spread is of."""

Arrays = Mapping[str, NDArray[Any]]

FRESH_ARRAYS = frozenset({"calibrated_eV_per_A", "error_eV_per_A", "error_is_random", "error_frame", "spread_is_known"})
"""Arrays of a round's evidence that say what was predicted of its new labels."""


def spread_kind(arrays: Arrays) -> SpreadKind:
    """Kind of the spreads in a round's evidence."""
    return "last_layer" if str(arrays["spread_kind"]) == "last_layer" else "committee"


def spread_scale(arrays: Arrays) -> float | None:
    """Median of error over spread on the test frames of a round's models; None where it is not known.

    A spread has no scale that lasts: that of the last layer shrinks with every frame it is fitted to, also when the
    error has come to rest. The test frames are the same in all rounds and never trained on, and a common factor
    changes no ranking.
    """
    if not arrays.keys() >= {"test_spread_eV_per_A", "test_error_eV_per_A"}:
        return None
    spread, error = (np.asarray(arrays[f"test_{of}_eV_per_A"], dtype=np.float64) for of in ("spread", "error"))
    known = spread > 0
    ratio = float(np.median(error[known] / spread[known])) if known.any() else 0.0
    return ratio if ratio > 0 else None


def calibrate_from(evidence: Mapping[int, Arrays], kind: SpreadKind) -> Calibration | None:
    """Calibrate spreads of one kind of the newest round's models from the evidence so far.

    The pooled random shares of all rounds, each predicted before it was trained on, with every model's spreads
    brought to the scale of the newest by `spread_scale`; while there are none, the test frames of the newest round.
    Rounds whose spreads are of another kind are left out.

    Parameters
    ----------
    evidence
        Arrays of ``rounds/NNN/evidence.npz`` by round. A round's new labels were predicted by the models of the round
        before, its test frames by its own.
    kind
        Kind of the spreads to be calibrated.
    """
    alike = {round_: arrays for round_, arrays in sorted(evidence.items()) if spread_kind(arrays) == kind}
    scales = {round_: scale for round_, arrays in alike.items() if (scale := spread_scale(arrays)) is not None}
    newest = max(evidence, default=None)
    if newest not in scales:
        return None
    spreads, errors = [], []
    for round_, arrays in alike.items():
        if round_ - 1 in scales and _is_known(arrays) and arrays["error_is_random"].any():
            random = np.asarray(arrays["error_is_random"], dtype=bool)
            spreads.append(arrays["spread_eV_per_A"][random] * scales[round_ - 1] / scales[newest])
            errors.append(arrays["error_eV_per_A"][random])
    if not spreads:
        spreads, errors = [evidence[newest]["test_spread_eV_per_A"]], [evidence[newest]["test_error_eV_per_A"]]
    return fit_calibration(np.concatenate(spreads), np.concatenate(errors))


@dataclass(frozen=True, slots=True, eq=False)
class FreshErrors:
    """Predicted and true errors of atoms drawn at random, pooled over rounds.

    Attributes
    ----------
    predicted_eV_per_A, error_eV_per_A
        Per atom: predicted with the calibration of the round's beginning, and true; shape ``(n,)``.
    n_frames
        Frames they belong to.
    rounds
        Rounds they come from.
    kind
        What the predictions were made from.
    """

    predicted_eV_per_A: NDArray[np.float64]
    error_eV_per_A: NDArray[np.float64]
    n_frames: int
    rounds: tuple[int, ...]
    kind: SpreadKind

    def reliability(self) -> Reliability | None:
        """How well the two agree; None for too few atoms."""
        return reliability(self.predicted_eV_per_A, self.error_eV_per_A, self.n_frames)


def pool_fresh_errors(evidence: Mapping[int, Arrays]) -> FreshErrors:
    """Pool the random shares of all rounds, each as it was predicted before its labels were bought.

    A round's errors are predicted by the models of the round before, with a calibration that knows earlier rounds
    only: nothing is evaluated on what it was fitted to (prequential; Dawid, J. R. Stat. Soc. A 147, 278, 1984). Rounds
    without a spread or a calibration before them are left out, and those whose spread is not of the newest kind.

    Parameters
    ----------
    evidence
        Arrays of ``rounds/NNN/evidence.npz`` by round.
    """
    known = {round_: arrays for round_, arrays in sorted(evidence.items()) if _is_known(arrays)}
    kind = spread_kind(known[max(known)]) if known else "last_layer"
    predicted, error, rounds, n_frames = [np.zeros(0)], [np.zeros(0)], [], 0
    for round_, arrays in known.items():
        if spread_kind(arrays) != kind:
            continue
        guess = np.asarray(arrays["calibrated_eV_per_A"], dtype=np.float64)
        usable = np.asarray(arrays["error_is_random"], dtype=bool) & np.isfinite(guess) & (guess > 0)
        if usable.any():
            predicted.append(guess[usable])
            error.append(np.asarray(arrays["error_eV_per_A"], dtype=np.float64)[usable])
            n_frames += len(np.unique(arrays["error_frame"][usable]))
            rounds.append(round_)
    return FreshErrors(np.concatenate(predicted), np.concatenate(error), n_frames, tuple(rounds), kind)


def reliability_json(found: Reliability | None) -> dict[str, object] | None:
    """Deciles and coverage, as ``curator status --json`` tells them."""
    if found is None:
        return None
    pairs = zip(found.predicted_eV_per_A, found.true_eV_per_A, strict=True)
    return {
        "n_frames": found.n_frames,
        "n_atoms": found.n_atoms,
        "deciles": [{"predicted_eV_per_A": predicted, "true_eV_per_A": true} for predicted, true in pairs],
        "coverage68": found.coverage68,
        "coverage95": found.coverage95,
    }


def _is_known(arrays: Arrays) -> bool:
    return arrays.keys() >= FRESH_ARRAYS and bool(arrays["spread_is_known"])


def _rms(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.sqrt(np.mean(values**2, axis=-1)))


def _equal_count_bins(values: NDArray[np.float64]) -> Sequence[NDArray[np.intp]]:
    n_bins = min(max(len(values) // N_PER_BIN, 1), N_BINS_MAX)
    return np.array_split(np.argsort(values, kind="stable"), n_bins)


def _checked(spread: ArrayLike, error: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x = np.asarray(spread, dtype=np.float64)
    y = np.asarray(error, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"spread and error must be two lists of equal length; got shapes {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all() and (x >= 0).all() and (y >= 0).all()):
        raise ValueError("spreads and errors must be finite and not negative")
    return x, y
