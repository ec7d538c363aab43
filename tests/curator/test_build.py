from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write

from curator.backends.labellers import make_labeller
from curator.build import build_plan, hop_length_A, n_carriers, n_exam_labels, read_plan
from curator.config import CampaignFile
from curator.datasets.frame import Frame, atoms_from_frame
from curator.datasets.mini_halides.frames import theory
from curator.datasets.sources import build_seed
from curator.errors import BadInput
from curator.lattice import seed_structure
from curator.learners.foundation import load_foundation
from curator.setup import gather_inputs
from curator.state import campaign_folder
from curator.verdict.rule import StopRule


def campaign(**system: object) -> CampaignFile:
    return CampaignFile.model_validate({"system": {"structure": "lif-interstitial", **system}})


def test_shipped_builder_brings_cell_mobile_and_hop(tmp_path: Path):
    plan = build_plan(campaign(), tmp_path)
    frame, hop, _ = seed_structure(plan, 4.1, None)
    assert plan.system.mobile == "Li"
    assert len(frame) == 65
    assert hop is not None
    np.testing.assert_allclose(np.diag(frame.cell), 8.2)
    assert n_carriers(plan, frame, hop) == 1


@pytest.mark.parametrize("system", [{"charge": 1}, {"multiplicity": 2}])
def test_charge_is_refused_where_the_labels_would_not_know_it(tmp_path: Path, system: dict[str, object]):
    with pytest.raises(BadInput, match="chgnet:r2scan knows no"):
        build_plan(campaign(**system), tmp_path)


def test_what_is_wrong_is_told_with_the_name_of_the_file(tmp_path: Path):
    (tmp_path / "campaign.yaml").write_text("system: {structure: lif-interstitial, mobile: Na}\n")
    with pytest.raises(BadInput, match=r"campaign\.yaml: system\.mobile: lif-interstitial holds no Na"):
        read_plan(campaign_folder(tmp_path))


def test_the_stopping_rule_is_that_of_the_file(tmp_path: Path):
    stop = {"window": 4, "n_compare": 3, "diffusivity_factor": 1.5, "force_error_eV_per_A": None}
    measure = {"diffusion": {"tolerance_eV": 0.08}}
    sections = {"system": {"structure": "lif-interstitial"}, "stop": stop, "measure": measure}
    rule = build_plan(CampaignFile.model_validate(sections), tmp_path).rule
    # Minimum, saddle and one image are bought anyway; two frames more make a round that counts.
    assert rule == StopRule(0.08, 4, 3, 1.5, None, min_new_labels=5, hottest_explored_K=1200.0)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"lora_rank": 4}, "learn.lora_rank: naive has no adapters; drop it, or take lora or replay_lora"),
        ({"lora_alpha": 4.0}, "learn.lora_alpha: naive has no adapters"),
        ({"replay_per_epoch": 8}, "learn.replay_per_epoch: naive replays nothing; drop it, or take multihead_replay"),
    ],
)
def test_what_a_strategy_has_no_use_for_is_refused(tmp_path: Path, given: dict[str, float], complaint: str):
    file = CampaignFile.model_validate(
        {"system": {"structure": "lif-interstitial"}, "learn": {"strategy": "naive", **given}}
    )
    with pytest.raises(BadInput, match=complaint):
        build_plan(file, tmp_path)


def test_budget_must_pay_for_a_round(tmp_path: Path):
    file = CampaignFile.model_validate({"system": {"structure": "lif-interstitial"}, "stop": {"max_labels": 10}})
    with pytest.raises(BadInput, match=r"stop.max_labels: 10.*at least 41"):
        build_plan(file, tmp_path)


def test_barrier_is_followed_where_a_hop_is_known(tmp_path: Path):
    assert build_plan(campaign(), tmp_path).follows_barrier
    assert not build_plan(campaign(structure="lif"), tmp_path).follows_barrier
    for measure, structure in (({"barrier": False}, "lif-interstitial"), ({"barrier": True}, "lif")):
        file = CampaignFile.model_validate({"system": {"structure": structure}, "measure": measure})
        if structure == "lif":
            with pytest.raises(BadInput, match=r"measure\.barrier"):
                build_plan(file, tmp_path)
        else:
            assert not build_plan(file, tmp_path).follows_barrier


def test_structure_file_is_repeated_after_its_cell_is_fixed(tmp_path: Path):
    write(tmp_path / "nacl.cif", bulk("NaCl", "rocksalt", a=5.64, cubic=True))
    plan = build_plan(campaign(structure="nacl.cif", mobile="Na", supercell=[1, 2, 3]), tmp_path)
    assert isinstance(plan.system.structure, Frame)
    frame, hop, _ = seed_structure(plan, None, plan.system.structure)
    assert hop is None
    assert n_carriers(plan, frame, hop) == 4 * 6
    np.testing.assert_allclose(np.diag(frame.cell), np.array([1, 2, 3]) * 5.64, atol=1e-6)


def test_hop_files_follow_the_cell(tmp_path: Path):
    """A hop given in the unrelaxed cell keeps its fractional coordinates in the relaxed one."""
    seed = build_seed("lif-vacancy", 4.0)
    assert seed.hop is not None
    for name, frame in (("initial", seed.hop.initial), ("final", seed.hop.final)):
        from curator.datasets.frame import atoms_from_frame

        write(tmp_path / f"{name}.extxyz", atoms_from_frame(frame))
    plan = build_plan(
        campaign(structure="initial.extxyz", mobile="Li", hop={"initial": "initial.extxyz", "final": "final.extxyz"}),
        tmp_path,
    )
    start = seed.hop.initial
    relaxed = Frame(start.numbers, start.positions * 1.02, start.cell * 1.02, start.pbc)
    frame, hop, _ = seed_structure(plan, None, relaxed)
    assert hop is not None
    np.testing.assert_allclose(hop.final.cell, frame.cell)
    np.testing.assert_allclose(hop.final.positions, seed.hop.final.positions * 1.02, atol=1e-6)
    # Files may hold any number of defects; who made them knows it.
    assert n_carriers(plan, frame, hop) is None
    told = campaign(**plan.file.system.model_dump(exclude_unset=True) | {"carriers": 2})
    assert n_carriers(build_plan(told, tmp_path), frame, hop) == 2


@pytest.mark.parametrize(
    ("system", "words"),
    [
        ({"mobile": "Na"}, ["system.mobile", "Na", "F, Li"]),
        ({"mobile": "F"}, ["system.mobile", "does not move F"]),
        ({"mobile": "Xx"}, ["system.mobile", "Xx"]),
        ({"structure": "lif-sphere"}, ["system.structure", "sphere"]),
        ({"structure": "no.cif", "mobile": "Li"}, ["system.structure", "no.cif"]),
        ({"supercell": [1, 1, 1]}, ["system.structure", "(2, 2, 1)"]),
        ({"structure": "molecule.xyz", "mobile": "H"}, ["molecule.xyz", "periodic"]),
        ({"structure": "nacl.cif"}, ["system.mobile", "missing", "Cl, Na"]),
        ({"hop": {"initial": "nacl.cif", "final": "molecule.xyz"}}, ["system.hop"]),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, system: dict[str, object], words: list[str]):
    (tmp_path / "molecule.xyz").write_text("2\n\nH 0 0 0\nH 0 0 0.7\n")
    write(tmp_path / "nacl.cif", bulk("NaCl", "rocksalt", a=5.64, cubic=True))
    with pytest.raises(BadInput) as caught:
        build_plan(campaign(**system), tmp_path)
    for word in words:
        assert word in str(caught.value)


def test_random_weights_have_no_e0s_of_a_foundation(tmp_path: Path):
    content = {"system": {"structure": "lif-interstitial"}, "learn": {"strategy": "scratch", "e0": "foundation"}}
    with pytest.raises(BadInput, match=r"learn\.e0: scratch starts from random weights"):
        build_plan(CampaignFile.model_validate(content), tmp_path)


def test_seeds_of_tasks_differ(tmp_path: Path):
    plan = build_plan(campaign(), tmp_path)
    seeds = {plan.seed_of(round_, stage, index) for round_ in range(-1, 3) for stage in range(6) for index in range(3)}
    assert len(seeds) == 4 * 6 * 3
    assert all(min(seed) >= 0 for seed in seeds)


def test_exam_costs_what_applies(tmp_path: Path):
    def cost(structure: str = "lif-interstitial", **measure: object) -> int:
        content = {"system": {"structure": structure}, "measure": measure}
        return n_exam_labels(build_plan(CampaignFile.model_validate(content), tmp_path))

    assert cost() == 12
    assert cost("lif-vacancy") == 10
    assert cost(diffusion=None) == 2
    assert cost(barrier=False) == 10
    assert cost(exam=False) == 0


def test_held_out_hop_files_follow_the_cell(tmp_path: Path):
    """A shipped structure takes a held-out hop of the user's, in its own lattice."""
    seed = build_seed("lif-interstitial", 4.0)
    assert seed.heldout is not None
    for name, frame in (("initial", seed.heldout.initial), ("final", seed.heldout.final)):
        write(tmp_path / f"{name}.extxyz", atoms_from_frame(frame))
    files = {"initial": "initial.extxyz", "final": "final.extxyz"}
    _, hop, heldout = seed_structure(build_plan(campaign(heldout_hop=files), tmp_path), 4.1, None)
    assert hop is not None
    assert heldout is not None
    assert heldout.saddle is None
    np.testing.assert_allclose(heldout.final.positions, seed.heldout.final.positions * 4.1 / 4.0, atol=1e-6)
    with pytest.raises(BadInput, match=r"system.heldout_hop: its 65 atoms"):
        build_plan(campaign(supercell=[3, 2, 2], heldout_hop=files), tmp_path)


def test_a_mechanism_makes_defect_and_hops(tmp_path: Path):
    """Two vacancy hops of a hexagonal metal: the structure becomes the supercell with the vacancy."""
    write(tmp_path / "mg.cif", bulk("Mg", a=3.209, c=5.211))
    file = campaign(structure="mg.cif", mobile="Mg", hop={"mechanism": "vacancy"})
    with pytest.raises(BadInput, match=r"measure.diffusion: every atom is Mg, .* atoms that stay; set it to null"):
        build_plan(file, tmp_path)
    without = file.measure.model_copy(update={"diffusion": None})
    plan = build_plan(file.model_copy(update={"measure": without}), tmp_path)
    assert plan.system.supercell == (3, 3, 2)
    assert plan.follows_barrier
    assert isinstance(plan.system.structure, Frame)
    frame, hop, heldout = seed_structure(plan, None, plan.system.structure)
    assert hop is not None
    assert heldout is not None
    assert len(frame) == len(heldout.initial) == 35
    assert frame == hop.initial
    assert n_carriers(plan, frame, hop) == 1
    assert n_exam_labels(plan) == 2
    alone = campaign(structure="lif", mobile="Li", hop={"mechanism": "vacancy", "at_most": 1})
    assert build_plan(alone, tmp_path).system.heldout_hop is None


def test_ions_that_change_places_have_no_length_of_a_hop(tmp_path: Path):
    plan = build_plan(campaign(), tmp_path)
    frame, hop, _ = seed_structure(plan, 4.0, None)
    assert hop is not None
    assert hop_length_A(plan, hop) == pytest.approx(np.sqrt(3) / 2 * 4.0)
    assert hop_length_A(plan, None) is None
    swapped = frame.positions.copy()
    one, other = np.flatnonzero(frame.numbers == 3)[:2]
    swapped[[one, other]] = swapped[[other, one]]
    exchange = replace(hop, initial=frame, final=replace(frame, positions=swapped))
    assert hop_length_A(plan, exchange) is None


@pytest.mark.parametrize(
    ("system", "message"),
    [
        ({"structure": "lif-vacancy", "hop": {"mechanism": "vacancy"}}, "brings its own hop; give lif"),
        ({"structure": "lif", "hop": {"mechanism": "vacancy", "max_length_A": 1.0}}, "within 1 Å"),
        ({"structure": "lif", "supercell": [1, 1, 1], "hop": {"mechanism": "vacancy"}}, "too small for a hop"),
        (
            {
                "structure": "lif",
                "hop": {"mechanism": "vacancy"},
                "heldout_hop": {"initial": "a.extxyz", "final": "b.extxyz"},
            },
            "is held out; leave this one out",
        ),
    ],
)
def test_hops_that_cannot_be_searched_for(tmp_path: Path, system: dict[str, object], message: str):
    with pytest.raises(BadInput, match=message):
        build_plan(campaign(**system), tmp_path)


@pytest.mark.parametrize("name", ["mini-halides:0.2.0-small", "mini-halides:0.3.0-small"])
def test_edition_brings_its_own_replay_and_probe(name: str, tmp_path: Path):
    content = {"system": {"structure": "lif-interstitial"}, "foundation": name, "learn": {"replay_frames": 10}}
    plan = build_plan(CampaignFile.model_validate(content), tmp_path)
    inputs = gather_inputs(plan)
    assert inputs.foundation.hash == load_foundation(name, device="cpu").hash
    assert (len(inputs.replay_train), len(inputs.probe)) == (10, 100)
    assert {r.label.theory for r in (*inputs.replay_train, *inputs.probe)} == {theory(name).key}


def test_edition_labels_too_and_an_unknown_one_is_told(tmp_path: Path):
    content = {"system": {"structure": "lif-interstitial"}, "label": {"model": "mini-halides:0.3.0-small"}}
    plan = build_plan(CampaignFile.model_validate(content), tmp_path)
    assert make_labeller(plan.labeller).theory.method == "mini-halides-0.3.0-small"
    wrong = CampaignFile.model_validate(content | {"foundation": "mini-halides:0.4.0"})
    with pytest.raises(BadInput, match=r"^foundation: no edition 'mini-halides:0.4.0' .* mini-halides:0.2.0-small"):
        gather_inputs(build_plan(wrong, tmp_path))
