"""Tables of a report, from campaign folders whose numbers are known."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from curator.quantities import DASH, duration, picoseconds
from curator.report.evidence import read_evidence
from curator.report.tables import (
    cost_table,
    diffusion_table,
    failure_table,
    plan_table,
    provenance,
    purchase_table,
    rounds_table,
    theory_table,
)

WriteCampaign = Callable[..., Path]


def test_rounds_count_up_and_name_their_verdict(tmp_path: Path, write_campaign: WriteCampaign) -> None:
    evidence = read_evidence(write_campaign(tmp_path / "lif", n_rounds=5))
    table = rounds_table(evidence)
    columns = {name: [row[table.columns.index(name)] for row in table.rows] for name in table.columns}
    assert columns["Labels"] == ["34", "52", "70", "88", "106"]
    assert columns["Train / valid / test"][0] == "16 / 2 / 16"
    assert columns["Ea (eV)"][:2] == [DASH, DASH]
    assert columns["Verdict"] == ["not yet"] * 4 + ["converged"]


def test_bounds_and_values_of_the_diffusivity(tmp_path: Path, write_campaign: WriteCampaign) -> None:
    evidence = read_evidence(write_campaign(tmp_path / "lif", n_rounds=5))
    bound, *values = diffusion_table(evidence).rows
    assert bound[:4] == ["400", "< 1.9", "< 1.9 × 10⁻⁴", DASH]
    assert [row[0] for row in values] == ["500", "700", "1000"]
    assert values[0][2] == "1.69(10) × 10⁻⁴"
    assert {row[9] for row in values} == {"measured"}


def test_the_plan_of_the_dynamics_adds_up(tmp_path: Path, write_campaign: WriteCampaign) -> None:
    table = plan_table(read_evidence(write_campaign(tmp_path / "lif", verdict="undetermined")))
    assert table.rows[0] == ["500", "500 ps", "1.50 ns", "4 h"]
    assert "statistical error of 0.0114 eV" in table.note
    assert "takes about 2 h 24 min with 2 workers" in table.note
    for verdict, note in (("converged", "Nothing more"), ("not_yet", "No plan yet")):
        table = plan_table(read_evidence(write_campaign(tmp_path / verdict, verdict=verdict)))
        assert (table.rows, table.note.startswith(note)) == ([], True)


def test_more_dynamics_is_told_beside_what_was_before_it(tmp_path: Path, write_campaign: WriteCampaign) -> None:
    folder = write_campaign(tmp_path / "lif", n_rounds=5)
    assert purchase_table(read_evidence(folder)).rows == []
    path = folder / "campaign.json"
    campaign = json.loads(path.read_text())
    row = campaign["rounds"][-1]
    n, time_ps = len(row["diffusion"]), sum(point["time_ps"] for point in row["diffusion"])
    shorter = [point | {"time_ps": point["time_ps"] / 8, "status": "bound"} for point in row["diffusion"]]
    row["measured_before"] = [{"diffusion": shorter, "arrhenius": None, "verdict": "undetermined"}]
    path.write_text(json.dumps(campaign))
    before, after = purchase_table(read_evidence(folder)).rows
    assert before == ["4", picoseconds(time_ps / 8), f"0 of {n}", DASH, DASH, "undetermined"]
    assert (after[1], after[-1]) == (picoseconds(time_ps), "converged")
    assert float(after[4]) == pytest.approx(row["arrhenius"]["error_eV"], rel=0.01)


def test_costs_add_up(tmp_path: Path, write_campaign: WriteCampaign) -> None:
    table = cost_table(read_evidence(write_campaign(tmp_path / "lif", n_rounds=3)))
    assert table.rows[-1] == ["All", *map(duration, (3 * 648.0, 310.0 + 350.0 + 390.0, 1560.0, 3300.0))]
    assert table.note.startswith(f"One label cost {duration(3 * 648.0 / 70)} of CPU time on average. The set-up")


def test_a_failed_label_is_told_once(tmp_path: Path, write_campaign: WriteCampaign) -> None:
    table = failure_table(read_evidence(write_campaign(tmp_path / "lif", n_rounds=2)))
    stages = [row[2:] for row in table.rows]
    assert ["explore", "candidates-T1200-r1", "a force of 41 eV/Å after 1.2 ps"] in stages
    assert sum("walltime: worker lost" in row[2] for row in stages) == 1
    assert len(stages) == 2
    assert table.note.startswith("1 failed label waits in quarantine")


def test_numbers_that_are_missing_are_dashes(tmp_path: Path, write_campaign: WriteCampaign) -> None:
    folder = write_campaign(tmp_path / "lif", n_rounds=3)
    campaign = json.loads((folder / "campaign.json").read_text())
    for row in campaign["rounds"]:
        for key in set(row) - {"round", "diffusion"}:
            row[key] = None
    (folder / "campaign.json").write_text(json.dumps(campaign))
    for place in (folder / "rounds").iterdir():
        (place / "round.json").unlink()
    evidence = read_evidence(folder)
    for row in rounds_table(evidence).rows:
        assert set(row[1:]) == {DASH, f"{DASH} / {DASH} / {DASH}"}
    assert cost_table(evidence).rows[0][1:] == [DASH] * 4


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Cell", "8.1810 × 8.1810 × 8.1810 Å, angles 90.00, 90.00, 90.00°"),
        ("Relaxing the lattice", "14 energy and force calls"),
        ("Energies of isolated atoms", "Li −0.2973 eV, F −0.5191 eV"),
        ("Hash of the newest model", "04fe" * 16),
        ("Resumed", "1 time"),
    ],
)
def test_provenance(tmp_path: Path, write_campaign: WriteCampaign, name: str, value: str) -> None:
    facts = dict(provenance(read_evidence(write_campaign(tmp_path / "lif", n_rounds=5))))
    assert facts[name] == value


def test_levels_of_theory_that_each_model_has_learnt(tmp_path: Path, write_campaign: WriteCampaign) -> None:
    folder = write_campaign(tmp_path / "lif", n_rounds=2)
    assert theory_table(read_evidence(folder)).rows == []
    for idx, n_frames in ((0, 16), (1, 34)):
        path = folder / "rounds" / f"{idx:03d}" / "model" / "member-0" / "model.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        theories = {"target": {"r2scan@1": n_frames}, "replay": {"chgnet@2": 64} if idx else {}}
        path.write_text(json.dumps({"hash": f"{idx}" * 64, "metadata": {"theories": theories}}))
    assert theory_table(read_evidence(folder)).rows == [
        ["0", "0" * 12, "r2scan@1 (16)", DASH],
        ["1", "1" * 12, "r2scan@1 (34)", "chgnet@2 (64)"],
    ]
