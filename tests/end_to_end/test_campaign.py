"""A whole campaign with a classical teacher: what it leaves behind is what was promised."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from ase.io import read

from curator.backends.base import LabellerSpec
from curator.backends.labellers import label_frame
from curator.datasets.extxyz import read_own_records
from curator.datasets.journal import Journal
from curator.datasets.label import Label
from curator.datasets.store import Store
from curator.trajectory import read_trajectory


@pytest.fixture(scope="module")
def status(undisturbed: Path, curator):
    done = curator("status", undisturbed, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_status_tells_verdict_and_next_purchase(status):
    # Two rounds, where it takes three to see whether anything moves.
    assert status["verdict"] == "not_yet"
    assert any("it takes 3" in reason for reason in status["reasons"])
    assert status["next_purchase"]["kind"] == "labels"
    assert [item["round"] for item in status["rounds"]] == [0, 1]
    assert status["state"]["finished"]
    assert status["live"] is None


def test_every_label_is_counted_once(status, undisturbed: Path):
    with Store(undisturbed / "frames.h5", "r") as store:
        records = store.records(theory=status["theory"])
        assert len(store) == len(records)
    published = list(Journal(undisturbed / "journal").read())
    assert len({record.frame.hash for record in records}) == len(records) == len(published)
    assert status["n_labels_total"] == status["rounds"][-1]["n_labels_total"] == len(records)
    for item in status["rounds"]:
        assert sum(item["labels_by_reason"].values()) == item["n_labels_total"]
        assert item["n_train"] + item["n_valid"] + item["n_test"] == item["n_labels_total"]


def test_labels_are_what_the_labeller_says(undisturbed: Path):
    spec = LabellerSpec("classical", "lif-fumi-tosi")
    with Store(undisturbed / "frames.h5", "r") as store:
        for record in store.records()[::5]:
            again = label_frame(spec, record.frame)
            assert isinstance(again, Label)
            assert again.energy == pytest.approx(record.label.energy, abs=1e-9)
            np.testing.assert_allclose(again.forces, record.label.forces, atol=1e-9)


def test_no_trajectory_is_in_two_splits(undisturbed: Path):
    splits: dict[str, set[str]] = {}
    with Store(undisturbed / "frames.h5", "r") as store:
        for record in store.records():
            splits.setdefault(record.provenance.group, set()).add(record.provenance.split)
    assert {len(found) for found in splits.values()} == {1}
    assert {"test"} in splits.values()


def test_test_frames_are_never_trained_on(undisturbed: Path):
    with Store(undisturbed / "frames.h5", "r") as store:
        records = store.records(split="test")
    assert [record.provenance.reason for record in records].count("test") == 4
    test = {record.frame.hash for record in records}
    for round_ in (0, 1):
        folder = undisturbed / "rounds" / f"{round_:03d}" / "model"
        used = read_own_records(folder / "train.extxyz") + read_own_records(folder / "valid.extxyz")
        assert not test & {record.frame.hash for record in used}


def test_the_anchor_is_a_fair_reference(status, undisturbed: Path):
    """The reference is the labeller's energy difference, and its frames are trained on in the next round only."""
    with Store(undisturbed / "frames.h5", "r") as store:
        anchors = [record for record in store.records() if record.provenance.reason == "anchor"]
    for item in status["rounds"]:
        assert item["barrier_eV"] is not None, item["barrier_reasons"]
        mine = {r.provenance.source: r.label.energy for r in anchors if r.provenance.round == item["round"]}
        difference = mine["anchor/saddle"] - mine["anchor/minimum"]
        assert item["barrier_reference_eV"] == pytest.approx(difference, abs=1e-9)
        assert item["barrier_gap_eV"] == pytest.approx(item["barrier_eV"] - difference, abs=1e-9)
        trained = read_own_records(undisturbed / "rounds" / f"{item['round']:03d}" / "model" / "train.extxyz")
        rounds = {record.provenance.round for record in trained if record.provenance.reason == "anchor"}
        assert rounds == set(range(-1, item["round"]))


def test_the_last_round_is_examined(status):
    first, last = status["rounds"]
    assert first["final_force_rmse_eV_per_A"] is None
    assert last["final_force_rmse_eV_per_A"]["model"] < last["final_force_rmse_eV_per_A"]["foundation"]
    assert (last["barrier_heldout_eV"] is None) == (last["barrier_heldout_reference_eV"] is None)
    assert last["barrier_heldout_eV"] is not None or last["barrier_heldout_reasons"]
    assert last["labels_by_reason"]["exam"] == last["n_exam_labels"] >= last["n_final_frames"] > 0
    assert status["n_labels_total"] <= status["budget"]["max_labels"]


def test_the_last_layer_tells_what_is_uncertain_once_a_model_is_trained(undisturbed: Path):
    first, second = (json.loads((undisturbed / f"rounds/00{i}/selection.json").read_text()) for i in (0, 1))
    assert first["calibration"] is first["n_outside"] is None
    assert second["calibration"]["n_points"] > 0
    assert sum(second["outside"]) <= second["n_outside"] <= second["n_candidates"]
    for round_, known in enumerate((False, True)):
        with np.load(undisturbed / "rounds" / f"{round_:03d}" / "evidence.npz") as evidence:
            assert str(evidence["spread_kind"]) == "last_layer"
            assert bool(evidence["spread_is_known"]) == known
            assert (evidence["test_spread_eV_per_A"] > 0).all()
            assert np.isfinite(evidence["spread_eV_per_A"]).all() == known


def test_every_model_is_probed_in_the_same_way(status, undisturbed: Path):
    everyone = [status["setup"]["probes"], *(item["probes"] for item in status["rounds"])]
    assert len(everyone) == 3
    for probes in everyone:
        assert [dimer["pair"] for dimer in probes["dimers"]] == ["Li-Li", "Li-F", "F-F"]
        assert [search["pressure_GPa"] for search in probes["random_search"]] == [0.1, 50.0]
        assert [search["n_runs"] for search in probes["random_search"]] == [1, 1]
        # Half as hot again as the hottest exploration.
        assert (probes["hot_md"]["temperature_K"], probes["hot_md"]["n_runs"]) == (1050.0, 1)
        assert probes["equivariance"]["worst_force_eV_per_A"] < 1e-9
        assert probes["cpu_s"] > 0
    walls = [[dimer["wall_eV"] for dimer in probes["dimers"]] for probes in everyone]
    assert walls[0] != walls[1] != walls[2]
    headers = [undisturbed / place / "probes" / "md-0" / "header.json" for place in ("setup", "rounds/000")]
    kept = [json.loads(header.read_text()) for header in headers]
    assert kept[0]["seed"] == kept[1]["seed"]
    assert kept[0]["start"] == kept[1]["start"]
    assert kept[0]["model"] != kept[1]["model"]
    page = (undisturbed / "report.html").read_text()
    assert "Outside the training frames" in page
    assert "Holes at 50 GPa" in page


def test_fine_tuning_lowers_the_error(status):
    force = status["rounds"][-1]["force_rmse_eV_per_A"]
    assert force["model"] < force["foundation"]


def test_diffusion_is_measured_or_refused_with_a_reason(status):
    first, last = (each["diffusion"] for each in status["rounds"])
    # MD waits for the barrier to settle, or for the last round.
    assert first == []
    assert [point["temperature_K"] for point in last] == [800, 1200]
    for point in last:
        assert (point["status"], point["D_A2_per_ps"]) == ("refused", None)
        assert point["reasons"][0].startswith("too short")


def test_resolved_file_runs_by_itself(undisturbed: Path, curator, tmp_path: Path):
    resolved = yaml.safe_load((undisturbed / "resolved.yaml").read_text())
    (tmp_path / "campaign.yaml").write_text(yaml.safe_dump(resolved["campaign"]))
    done = curator("check", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["theory"] == resolved["theory"]["key"]


def test_a_finished_campaign_is_not_run_again(undisturbed: Path, curator):
    before = sorted(path.name for path in (undisturbed / "journal").iterdir())
    done = curator("run", undisturbed)
    assert done.returncode == 3, done.stderr
    assert "train" not in done.stdout
    assert sorted(path.name for path in (undisturbed / "journal").iterdir()) == before


def test_export_is_read_by_mace(undisturbed: Path, curator, tmp_path: Path):
    from mace.calculators import MACECalculator

    done = curator("export", undisturbed, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    atoms = read(tmp_path / "out" / "test.extxyz", index=0)
    reference = atoms.arrays["REF_forces"]
    atoms.calc = MACECalculator(tmp_path / "out" / "model.model", device="cpu", default_dtype="float32")
    error = np.sqrt(np.mean((atoms.get_forces() - reference) ** 2))
    assert (
        error
        < 2 * json.loads((undisturbed / "campaign.json").read_text())["rounds"][-1]["force_rmse_eV_per_A"]["model"]
    )


def test_export_holds_what_lammps_runs(undisturbed: Path, curator, tmp_path: Path):
    done = curator("export", undisturbed, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "out" / "lammps"
    assert {path.name for path in folder.iterdir()} == {
        "in.diffusion",
        "start.data",
        "potential.mace",
        "model-lammps.pt",
    }
    text = (folder / "in.diffusion").read_text()
    variables = dict(re.findall(r"^variable +(\w+) +(?:index|loop) (.*)$", text, re.M))
    assert variables["temperature_K"] == "800 1200"
    assert variables["duration_ps"] == "0.7"
    assert variables["replica"] == "1"
    assert {3, 9} <= set(torch.jit.load(folder / "model-lammps.pt").atomic_numbers.tolist())
    # It starts from the minimum of the model, in the cell of the campaign.
    start = read(folder / "start.data", format="lammps-data")
    with np.load(undisturbed / "rounds" / "001" / "measure" / "anchor.npz") as anchor:
        np.testing.assert_allclose(start.positions, anchor["minimum"], atol=1e-6)
    setup = json.loads((undisturbed / "setup" / "cell.json").read_text())
    np.testing.assert_allclose(start.cell, 2 * np.array(setup["cell_A"]), atol=1e-6)
    (told,) = re.findall(r"^#   (curator diffusion .*)$", text, re.M)
    assert "--frame-interval-fs 100 --equilibration-ps 0.1 --carriers 1 " in told
    # From the centre of one octant to that of the next but one.
    assert float(told.split()[-1]) == pytest.approx(np.sqrt(3) / 2 * setup["cell_A"][0][0], abs=1e-3)


@pytest.mark.parametrize("key", ["seed: 4", "foundation: elsewhere", "label: {kind: pseudolabel}"])
def test_what_would_mix_two_campaigns_is_refused(undisturbed: Path, curator, key: str):
    file = undisturbed / "campaign.yaml"
    text = file.read_text()
    name = key.split(":")[0]
    try:
        file.write_text("\n".join(key if line.startswith(f"{name}:") else line for line in text.splitlines()))
        done = curator("run", undisturbed)
    finally:
        file.write_text(text)
    assert done.returncode == 2
    assert name in done.stderr
    assert "Traceback" not in done.stderr


def test_a_changed_stop_judges_the_newest_round_at_once(undisturbed: Path, curator, tmp_path: Path):
    folder = shutil.copytree(undisturbed, tmp_path / "tiny")
    last = folder / "rounds" / "001" / "round.json"
    before = json.loads(last.read_text())
    file = folder / "campaign.yaml"
    file.write_text(file.read_text().replace("max_rounds: 2,", "max_rounds: 2, window: 5,"))
    done = curator("run", folder)
    assert done.returncode == 3, done.stderr
    after = json.loads(last.read_text())
    told = "rounds that bought labels: 2; it takes {} to see whether anything moves"
    assert told.format(3) in before["reasons"]
    assert told.format(5) in after["reasons"]
    judged = {"verdict", "reasons", "next_purchase", "md_plan"}
    assert {key: after[key] for key in set(after) - judged} == {key: before[key] for key in set(before) - judged}
    assert json.loads((folder / "campaign.json").read_text())["reasons"] == after["reasons"]


SETTLES_AT_ONCE = "max_rounds: 2, window: 2, n_compare: 1, force_error_eV_per_A: null, diffusivity_factor: 1000,"
"""Rules so loose that nothing but dynamics, which is too short, keeps the tiny campaign from its verdict."""


def test_a_planned_duration_written_to_the_file_continues_the_trajectories(
    undisturbed: Path, curator_here, tmp_path: Path
):
    folder = shutil.copytree(undisturbed, tmp_path / "tiny")
    file, last = folder / "campaign.yaml", folder / "rounds" / "001" / "round.json"
    file.write_text(file.read_text().replace("max_rounds: 2,", SETTLES_AT_ONCE))
    assert curator_here("run", folder).returncode == 3
    before = json.loads(last.read_text())
    assert (before["verdict"], before["next_purchase"]["kind"]) == ("undetermined", "md")
    assert "too short" in before["reasons"][0]
    told = curator_here("status", folder).stdout
    # A trajectory of half a picosecond, doubled, and rounded up.
    assert "write measure.diffusion.duration_ps: 2, or stop.max_md_ps: 4" in told

    positions = {place: read_trajectory(place).positions for place in (last.parent / "measure").glob("T*")}
    journal = sorted((path.name, path.stat().st_size) for path in (folder / "journal").glob("*.journal"))
    file.write_text(file.read_text().replace("duration_ps: 0.6", "duration_ps: 0.9"))
    done = curator_here("run", folder)
    assert done.returncode == 3, done.stderr
    after = json.loads(last.read_text())
    assert "measured again: 1 ps, no Ea; then 2 ps, no Ea" in done.stdout
    assert [point["time_ps"] for point in after["diffusion"]] == pytest.approx([0.9, 0.9])
    assert after["measured_before"][0]["diffusion"] == before["diffusion"]
    assert len(positions) == 2
    for place, earlier in positions.items():
        longer = read_trajectory(place).positions
        assert len(longer) == len(earlier) + 3
        assert np.array_equal(longer[: len(earlier)], earlier)
    assert journal == sorted((path.name, path.stat().st_size) for path in (folder / "journal").glob("*.journal"))
    assert (after["barrier_eV"], after["n_labels_total"]) == (before["barrier_eV"], before["n_labels_total"])


@pytest.mark.slow
def test_a_budget_of_md_buys_the_plan_through_a_kill(undisturbed: Path, curator, run_killed_at, tmp_path: Path):
    """The first purchase is paid for, the second would be more than the budget; one that was killed is as any other."""
    folders = [shutil.copytree(undisturbed, tmp_path / name / "tiny") for name in ("killed", "whole")]
    for folder in folders:
        file = folder / "campaign.yaml"
        file.write_text(file.read_text().replace("max_rounds: 2,", f"{SETTLES_AT_ONCE} max_md_ps: 4,"))
    assert run_killed_at(folders[0], "task_finished", "measure diffusion", 1) == -9
    for folder in folders:
        done = curator("run", folder)
        assert done.returncode == 3, done.stderr
    killed, whole = (json.loads((folder / "rounds" / "001" / "round.json").read_text()) for folder in folders)
    assert [point["time_ps"] for point in whole["diffusion"]] == pytest.approx([2, 2])
    assert killed["diffusion"] == whole["diffusion"]
    for place in (folders[0] / "rounds" / "001" / "measure").glob("T*"):
        other = folders[1] / place.relative_to(folders[0])
        assert np.array_equal(read_trajectory(place).positions, read_trajectory(other).positions)
