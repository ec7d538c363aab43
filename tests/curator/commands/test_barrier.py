"""The command that finds barriers: in which order they are told, and what it does where there is none."""

import json
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write
from typer.testing import CliRunner, Result

from curator.barriers.barrier import Barrier
from curator.barriers.hops import enumerate_hops
from curator.commands.barrier import app
from curator.datasets.extxyz import read_frames
from curator.datasets.frame import atoms_from_frame
from curator.datasets.sources import Hop

MODEL = ("--model", "lif-fumi-tosi", "--json")


def invoke(*arguments: str | Path | float) -> Result:
    return CliRunner().invoke(app, ["barrier", *map(str, arguments)], catch_exceptions=False)


def run_with(monkeypatch: pytest.MonkeyPatch, *barriers_eV: float | str | None) -> Result:
    """Run for the interstitialcies of LiF, as if these were their barriers, or why the search broke off."""
    left = iter(barriers_eV)

    def barrier_of(_: object, hop: Hop) -> Barrier:
        value = next(left)
        if isinstance(value, str):
            raise RuntimeError(value)
        reasons = () if value is not None else ("no saddle",)
        return Barrier(value, value, hop.initial, None, (), (), None, "ci-neb", None, None, True, reasons, 0, 0.0)

    monkeypatch.setattr("curator.tasks.barrier_of", barrier_of)
    return invoke("lif", "--mechanism", "interstitialcy", *MODEL)


def test_hops_are_told_lowest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run_with(monkeypatch, "noise", 0.3, 0.2)
    told = json.loads(done.stdout)
    assert (done.exit_code, told["barrier_eV"]) == (0, 0.2)
    assert [hop["barrier_eV"] for hop in told["hops"]] == [0.2, 0.3, None]
    assert told["hops"][2]["name"] == "interstitialcy-1"
    assert "noise" in told["hops"][2]["reasons"][0]


def test_without_any_barrier_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run_with(monkeypatch, None, None, "noise")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["barrier_eV"] is None


def test_the_cell_is_relaxed_on_request() -> None:
    told = json.loads(invoke("lif", "--mechanism", "vacancy", "--at-most", 1, "--relax-cell", *MODEL).stdout)
    # The lattice constant of the potential, not that of the experiment.
    np.testing.assert_allclose(told["cell_A"], 2 * 4.0314 * np.eye(3), atol=0.01)
    assert told["lattice"].startswith("lattice relaxed with lif-fumi-tosi")


def test_a_guess_of_the_saddle_is_the_short_way(tmp_path: Path) -> None:
    write(tmp_path / "lif.cif", bulk("LiF", "rocksalt", a=4.0314, cubic=True))
    hop = enumerate_hops(read_frames(tmp_path / "lif.cif")[-1], "Li", "interstitialcy")[0].hop
    assert hop.saddle is not None
    for name, frame in (("initial", hop.initial), ("final", hop.final), ("saddle", hop.saddle)):
        write(tmp_path / f"{name}.extxyz", atoms_from_frame(frame))
    options = [word for name in ("initial", "final", "saddle") for word in (f"--{name}", tmp_path / f"{name}.extxyz")]
    told = json.loads(invoke(*options, *MODEL).stdout)
    assert told["hops"][0]["method"] == "symmetric"
    assert told["barrier_eV"] == pytest.approx(0.110, abs=0.003)
