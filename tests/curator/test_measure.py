"""Errors on frames new to a model, what a measurement of diffusion makes of the campaign's hop, and when it is due."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import kmc
import numpy as np
import pytest
from contexts import opened, with_model
from histories import Campaign
from walks import D_PER_RATE, trajectory

from curator import measure
from curator.campaign import _md_is_due
from curator.choose import Chosen
from curator.config_measure import Diffusion
from curator.context import buy_labels, labelled
from curator.datasets.label import Provenance
from curator.datasets.sources import build_seed
from curator.explore import Candidate, write_candidates
from curator.learners.foundation import load_foundation
from curator.learners.metrics import force_rmse

FILE = {
    "system": {"structure": "lif-interstitial", "cell": "given"},
    "label": {"kind": "classical", "model": "lif-fumi-tosi"},
    "run": {"executor": "serial"},
}


def test_a_followed_hop_brings_its_length_and_one_carrier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the diffusivity of the interstitial would be shared by 33 ions, or its hops counted by a guess."""
    seed = build_seed("lif-interstitial", kmc.A)
    run = trajectory(kmc.collinear(np.random.default_rng(1), 1.0, 60, 0.1))
    monkeypatch.setattr(measure, "run_tasks", lambda *_, **__: None)
    monkeypatch.setattr(measure, "values_of", lambda *_: [run])
    settings = Diffusion(temperatures_K=(800.0,), replicas=1)
    with opened(FILE, tmp_path / "campaign") as found:
        context = with_model(found, None)
        (measured,) = measure.measure_diffusion_of(context, 0, settings, seed.frame, seed.hop).measured
    assert measured.hop_length_A == pytest.approx(kmc.HOP_LENGTH_A)
    assert measured.collective is not None
    low, high = measured.collective.ci95_A2_per_ps
    assert low < D_PER_RATE < high


@pytest.mark.parametrize(
    ("every_round", "max_rounds", "n_rounds", "is_due"),
    [
        (False, 8, 1, False),
        # The barrier and the force error have settled, MD is asked for anyway, or there is no round after this one.
        (False, 8, 4, True),
        (True, 8, 1, True),
        (False, 1, 1, True),
    ],
)
def test_when_molecular_dynamics_is_due(
    every_round: bool, max_rounds: int, n_rounds: int, is_due: bool, tmp_path: Path
) -> None:
    history = Campaign(bias_eV=0.0)
    rounds = [history.round(k) | {"n_labels_total": 18 * (k + 1)} for k in range(n_rounds)]
    more: dict[str, Any] = {
        "measure": {"diffusion": {"every_round": every_round}},
        "stop": {"max_rounds": max_rounds},
    }
    with opened(FILE | more, tmp_path / "campaign") as context:
        assert _md_is_due(context, rounds) is is_due
    without = {"measure": {"diffusion": None}, "stop": {"max_rounds": max_rounds}}
    with opened(FILE | without, tmp_path / "without") as context:
        assert not _md_is_due(context, rounds)


def test_models_are_compared_on_the_random_frames_of_one_round(tmp_path: Path) -> None:
    """The previous model and those before it, on frames that none has seen, but for those chosen for being hard."""
    seed = build_seed("lif-interstitial", None).frame
    rng = np.random.default_rng(0)
    frames = [replace(seed, positions=seed.positions + rng.normal(0, 0.05, (len(seed), 3))) for _ in range(3)]
    reasons = ("random", "uncertain", "random")
    names = "mini-halides", "mini-halides:0.2.0-small", "mini-halides:0.3.0-small"
    models = [load_foundation(name, device="cpu") for name in names]
    with opened(FILE, tmp_path / "campaign") as context:
        for round_, model in enumerate(models):
            folder = context.member(round_, 0).folder
            folder.mkdir(parents=True)
            model.save(folder)
        origins = [Provenance(3, str(i), str(i), "train", reason) for i, reason in enumerate(reasons)]
        buy_labels(context, list(zip(frames, origins, strict=True)), round_=3, stage="label")
        records = sorted(labelled(context), key=lambda record: record.provenance.source)

        def error(model: Any) -> float:
            return force_rmse(model.predict([frames[0], frames[2]]), [records[0], records[2]])

        for round_, of_earlier in ((1, []), (2, [0]), (3, [1, 0])):
            file = context.folder.round(round_) / "explore" / "candidates.extxyz"
            file.parent.mkdir(parents=True)
            write_candidates(file, [Candidate(frame, "g", "g @ 0 ps", False) for frame in frames])
            previous = models[round_ - 1]
            forces = tuple(prediction.forces[None] for prediction in previous.predict(frames))
            found = measure.fresh_errors(context, round_, Chosen((0, 1, 2), reasons, forces, None), None).numbers
            assert found["fresh_force_rmse_eV_per_A"] == pytest.approx(error(previous))
            expected = [error(models[idx]) for idx in of_earlier]
            assert found["fresh_force_rmse_of_earlier_eV_per_A"] == pytest.approx(expected)
