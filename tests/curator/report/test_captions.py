"""Captions say what the evidence says, and without evidence why there is no figure."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from curator.quantities import significant
from curator.report import captions
from curator.report.evidence import read_evidence

WriteCampaign = Callable[..., Path]


def test_captions_quote_the_numbers(tmp_path: Path, write_campaign: WriteCampaign) -> None:
    evidence = read_evidence(write_campaign(tmp_path / "lif", n_rounds=3))
    held = evidence.arrays[2]
    rmse = {
        name: np.sqrt(np.mean((held[f"test_forces_{name}"] - held["test_forces_reference"]) ** 2))
        for name in ("foundation", "model")
    }
    said = captions.force_parity(evidence).caption
    assert said == f"Round 2, RMSE of a component: foundation {rmse['foundation']:.3f} eV/Å, model " + (
        f"{rmse['model']:.4f} eV/Å."
    )
    in_meV = 1e3 * np.sqrt(np.mean((held["test_energies_model"] - held["test_energies_reference"]) ** 2))
    assert f"model {in_meV:.3f} meV/atom." in captions.energy_parity(evidence).caption
    last = evidence.rounds[-1]
    assert f"After 70 labels the force error on the test frames is {last['force_rmse_eV_per_A']['model']:.4f} eV/Å" in (
        captions.force_error(evidence).caption
    )
    share = last["labels_by_reason"]["random"] / sum(last["labels_by_reason"].values())
    assert f"Random frames, {share:.0%} of all labels" in captions.labels_by_reason(evidence).caption


def test_captions_say_what_predicted_the_errors_and_how_many_frames_were_out_of_reach(
    tmp_path: Path, write_campaign: WriteCampaign
) -> None:
    evidence = read_evidence(write_campaign(tmp_path / "lif", n_rounds=3))
    assert "each predicted from the last layer of the model before its label" in captions.calibration(evidence).caption
    n_bought = int((evidence.arrays[2]["map_outside"] & (evidence.arrays[2]["map_reason"] != "")).sum())
    caption = captions.selection_map(evidence).caption
    assert "20 held an atom too far from all labelled ones" in caption
    assert f"; {n_bought} of these were bought." in caption
    evidence.arrays[2]["spread_kind"] = np.array("committee")
    said = captions.calibration(evidence).caption
    assert "random frames of round 2, each predicted from the committee" in said
    del evidence.arrays[2]["map_outside"]
    assert "too far" not in captions.selection_map(evidence).caption


def test_a_path_whose_saddle_was_refused_is_not_drawn(tmp_path: Path, write_campaign: WriteCampaign) -> None:
    evidence = read_evidence(write_campaign(tmp_path / "lif", n_rounds=3))
    before, last = (max(row["barrier_path_eV"]) - row["barrier_path_eV"][0] for row in evidence.rounds[1:])
    assert f"The newest path rises by {significant(last)} eV" in captions.barrier_path(evidence).caption
    evidence.rounds[2]["barrier_eV"] = None
    assert f"The newest path rises by {significant(before)} eV" in captions.barrier_path(evidence).caption
    assert significant(before) != significant(last)


def test_arrays_that_make_no_sense_cost_one_figure(tmp_path: Path, write_campaign: WriteCampaign) -> None:
    folder = write_campaign(tmp_path / "lif", n_rounds=1, verdict="not_yet")
    path = folder / "rounds" / "000" / "evidence.npz"
    held = dict(np.load(path))
    held["test_forces_model"] = held["test_forces_model"][:-1]
    np.savez(path, **held)
    evidence = read_evidence(folder)
    forces, energies = captions.force_parity(evidence), captions.energy_parity(evidence)
    assert "could not be drawn" in forces.caption
    assert (forces.svg, energies.svg is None) == (None, False)
