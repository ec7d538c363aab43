"""A campaign on a perfect crystal whose user names nothing but how the ions hop."""

import json
from pathlib import Path

import pytest

from curator.datasets.store import Store

SYSTEM = "{structure: lif, hop: {mechanism: interstitialcy, at_most: 2}}"


@pytest.mark.slow
def test_defect_and_hops_are_found_and_followed(tmp_path: Path, curator, write_campaign, run_killed_at):
    """Killed after the first of two hops, it goes on, and follows the one with the lower barrier."""
    folder = write_campaign(
        tmp_path / "tiny",
        system=SYSTEM,
        measure="{diffusion: null, probes: null}",
        stop="{max_rounds: 1, max_labels: 40}",
    )
    assert run_killed_at(folder, "task_finished", "barriers of all hops", 1) == -9
    assert not (folder / "setup" / "hops.json").exists()
    done = curator("run", folder)
    assert done.returncode == 3, done.stderr

    first, second = json.loads((folder / "setup" / "hops.json").read_text())["hops"]
    assert (first["name"], first["multiplicity"], first["negative_modes"]) == ("interstitialcy-1", 4, 1)
    assert second["barrier_eV"] is None or second["barrier_eV"] > first["barrier_eV"]
    anchor = json.loads((folder / "setup" / "anchor.json").read_text())
    assert anchor["barrier_eV"] == pytest.approx(first["barrier_eV"], abs=1e-6)

    status = json.loads(curator("status", folder, "--json").stdout)
    (row,) = status["rounds"]
    assert row["barrier_eV"] is not None, row["barrier_reasons"]
    assert row["barrier_heldout_eV"] is not None or row["barrier_heldout_reasons"]
    with Store(folder / "frames.h5", "r") as store:
        assert {len(record.frame) for record in store.records()} == {65}
