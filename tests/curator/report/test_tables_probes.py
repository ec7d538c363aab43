"""The table of probes, from campaigns whose probes are known, and from those without any."""

import json
from collections.abc import Callable
from pathlib import Path

from curator.quantities import DASH
from curator.report.evidence import read_evidence
from curator.report.tables_probes import probe_cells, probe_table

WriteCampaign = Callable[..., Path]


def test_the_foundation_comes_first_and_every_round_has_a_row(tmp_path: Path, write_campaign: WriteCampaign) -> None:
    table = probe_table(read_evidence(write_campaign(tmp_path / "lif", n_rounds=3)))
    columns = {name: [row[table.columns.index(name)] for row in table.rows] for name in table.columns}
    assert columns["Model"] == ["foundation", "round 0", "round 1", "round 2"]
    assert columns["Probe force RMSE, of all and of the median frame (eV/Å)"] == [
        "0.0183, 0.00910",
        "0.0191, 0.00930",
        "0.0199, 0.00950",
        "0.0207, 0.00970",
    ]
    assert columns["Dimer holes"] == ["2 of 3, wall 12 eV"] * 4
    assert columns["Holes at 0.1 GPa"] == ["0 of 10 (0 to 28 %)"] * 4
    assert [cell.split(" ")[0] for cell in columns["Holes at 50 GPa"]] == ["0", "0", "1", "2"]
    assert columns["Survived 0.5 ps at 1800 K"] == ["1 of 1 (21 to 100 %)"] * 4
    assert "95 % interval" in table.note


def test_other_pressures_have_columns_of_their_own(tmp_path: Path, write_campaign: WriteCampaign) -> None:
    folder = write_campaign(tmp_path / "lif", n_rounds=2)
    campaign = json.loads((folder / "campaign.json").read_text())
    campaign["rounds"][1]["probes"]["random_search"][1]["pressure_GPa"] = 20.0
    (folder / "campaign.json").write_text(json.dumps(campaign))
    table = probe_table(read_evidence(folder))
    last = dict(zip(table.columns, table.rows[-1], strict=True))
    assert last["Holes at 50 GPa"] == DASH
    assert last["Holes at 20 GPa"].startswith("1 of 10")


def test_rounds_that_were_not_probed_are_left_out(tmp_path: Path, write_campaign: WriteCampaign) -> None:
    folder = write_campaign(tmp_path / "lif", n_rounds=2)
    campaign = json.loads((folder / "campaign.json").read_text())
    campaign["setup"]["probes"] = campaign["rounds"][0]["probes"] = campaign["rounds"][1]["probes"] = None
    (folder / "campaign.json").write_text(json.dumps(campaign))
    table = probe_table(read_evidence(folder))
    assert table.rows == []
    assert "measure.probes" in table.note


def test_damaged_probes_cost_a_cell_and_not_the_page() -> None:
    for damaged in (None, {}, {"dimers": 3, "random_search": [{}], "hot_md": None}, {"dimers": [{"wall_eV": "x"}]}):
        cells = probe_cells(damaged)
        assert cells["Broken symmetry (eV/Å)"] == DASH
