"""Captions of the figures about diffusion."""

import json
from collections.abc import Callable
from pathlib import Path

import yaml

from curator.report import captions_diffusion as captions
from curator.report.evidence import read_evidence

WriteCampaign = Callable[..., Path]


def test_captions_quote_the_fit_and_its_change(tmp_path: Path, write_campaign: WriteCampaign) -> None:
    evidence = read_evidence(write_campaign(tmp_path / "lif", n_rounds=4))
    older, newer = (evidence.rounds[idx]["arrhenius"] for idx in (2, 3))
    said = captions.arrhenius(evidence)
    assert said.caption == (
        f"Round 3: Ea = {newer['Ea_eV']:.3f}(8) eV; the band is one standard error of the weighted fit, χ²/dof = 0.81."
        " Arrows are upper bounds, where too few hops were seen."
    )
    step, error = abs(newer["Ea_eV"] - older["Ea_eV"]), 2**0.5 * newer["error_eV"]
    assert captions.activation_energy(evidence).caption == (
        f"The newest two differ by {1e3 * step:.0f} meV, with a standard error of {1e3 * error:.0f} meV on the "
        "difference."
    )


def test_measured_once_is_not_settled(tmp_path: Path, write_campaign: WriteCampaign) -> None:
    evidence = read_evidence(write_campaign(tmp_path / "lif", n_rounds=3))
    assert "Measured once so far" in captions.activation_energy(evidence).caption


def test_why_there_is_no_diffusivity(tmp_path: Path, write_campaign: WriteCampaign) -> None:
    open_ = read_evidence(write_campaign(tmp_path / "open", n_rounds=1))
    assert "bought when the barrier has settled" in captions.no_diffusion(open_)
    assert captions.no_activation_energy(open_) == captions.no_diffusion(open_)

    off = write_campaign(tmp_path / "off", n_rounds=1)
    settings = yaml.safe_load((off / "resolved.yaml").read_text())
    settings["campaign"]["measure"]["diffusion"] = None
    (off / "resolved.yaml").write_text(yaml.safe_dump(settings))
    assert captions.no_diffusion(read_evidence(off)) == "measure.diffusion is switched off"

    none = read_evidence(write_campaign(tmp_path / "none", n_rounds=0, verdict=None))
    assert captions.no_diffusion(none) == "no round is finished"

    refused = write_campaign(tmp_path / "refused", n_rounds=3)
    campaign = json.loads((refused / "campaign.json").read_text())
    campaign["rounds"][2]["diffusion"] = [{"temperature_K": 500, "status": "refused", "reasons": ["the host melted"]}]
    campaign["rounds"][2]["arrhenius"] = None
    (refused / "campaign.json").write_text(json.dumps(campaign))
    evidence = read_evidence(refused)
    why = "round 2 could not measure it at any temperature (the host melted)"
    assert captions.arrhenius(evidence).caption == f"No diffusivity yet: {why}."
    assert "two temperatures or more" in captions.activation_energy(evidence).caption
